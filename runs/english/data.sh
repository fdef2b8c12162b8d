#!/usr/bin/env bash
# The synthetic part of the training data, and the teacher's states. Run from the repository root; clips that are there are kept.
# Sentences: Common Voice's sentence list (CC0), without those of the dev set. Two hours on two cores, nearly all of
# it Kokoro. The teacher behind the bundled model was stopped after 4,218 clips of train.jsonl (all of English but a part of
# speechocean762) and its index put together from the rows written till then; this script goes through all of them.
set -eu
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
.venv/bin/pip install --quiet py-nanotts misaki espeakng-loader phonemizer-fork faster-whisper

.venv/bin/python recipes/tokenizer.py --text "$text/en.txt" --vocab 1024 --out checkpoints/tokenizer
.venv/bin/python recipes/synthesize.py kokoro --text "$text/en.txt" --exclude "$speech/dev.jsonl" --clips 1394
.venv/bin/python recipes/synthesize.py pico --text "$text/en.txt" --exclude "$speech/dev.jsonl" --seed 2 --clips 2000
.venv/bin/python recipes/teacher_states.py "$speech/train.jsonl" --langs en --out data/teacher/train-en
.venv/bin/python recipes/teacher_states.py "$speech/synth.jsonl" --langs en --out data/teacher/synth-en
.venv/bin/python recipes/teacher_states.py data/synth/kokoro-en.jsonl --out data/teacher/kokoro-en

# Voices and sentences that no training clip has: the test of an unseen speaker.
.venv/bin/python recipes/synthesize.py kokoro --text "$text/en.txt" --exclude "$speech"/{dev,synth,train}.jsonl \
  data/synth/kokoro-en.jsonl data/synth/pico-en.jsonl \
  --voices hf_alpha,hm_omega,em_alex,pm_alex,im_nicola --seed 99 --clips 50 --workers 1 --out data/unseen

# A second helping, with other sentences: more of Kokoro, and four old, small voices for the variety of their text.
for engine in "kokoro 893" "flite 1400"; do
  read -r name clips <<< "$engine"
  .venv/bin/python recipes/synthesize.py "$name" --text "$text/en.txt" --seed 7 --clips "$clips" --out data/synth2 \
    --exclude "$speech/dev.jsonl" data/unseen/kokoro-en.jsonl src/lithophone/assets/demo/demo.jsonl data/synth/kokoro-en.jsonl
done
.venv/bin/python recipes/teacher_states.py data/synth2/kokoro-en.jsonl --out data/teacher/kokoro2-en

# A third helping. Kokoro with voices of every language, since an unseen voice may have any; and text, text, text: what
# the encoder lacked by now was spelling, and the small voices read ten thousand sentences in minutes.
known=("$speech/dev.jsonl" data/unseen/kokoro-en.jsonl src/lithophone/assets/demo/demo.jsonl data/synth/kokoro-en.jsonl data/synth2/kokoro-en.jsonl)
.venv/bin/python recipes/synthesize.py pico --text "$text/en.txt" --exclude "${known[@]}" --seed 11 --clips 5000 --out data/synth3
.venv/bin/python recipes/synthesize.py flite --text "$text/en.txt" --exclude "${known[@]}" --seed 31 --clips 2000 --out data/synth3
.venv/bin/python recipes/synthesize.py kokoro --text "$text/en.txt" --exclude "${known[@]}" "$speech/synth.jsonl" \
  --foreign 0.5 --seed 21 --clips 1704 --out data/synth4
.venv/bin/python recipes/teacher_states.py data/synth4/kokoro-en.jsonl --out data/teacher/kokoro4-en
