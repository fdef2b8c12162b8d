#!/usr/bin/env bash
# lithophone-tiny 2.0: encoder and language model from whisper-base, then int8 weights in checkpoints/release. Run from
# the repository root, after runs/data.sh and runs/translations/make.sh; stopped and started again, it goes on. One
# process a core: two threads of one process were slower. The run that was shipped was steered by hand: `joint` ran in
# three pieces (550 steps at 4e-4 and 150 with a new BPE head, 500 at 2e-4, and the cooldown); the language model had
# 7,168 tokens at first and learned behind an earlier encoder (130 steps), behind the last one without keyword lists and
# translations (125 steps) and with them (680 steps, rows to 16 s). Then it was given Whisper's rows for 9,216 more
# tokens, and the BPE head was trained on frozen states for them.
set -eu
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
translated=data/translations
whisper=data/whisper-base
tokenizer=checkpoints/tokenizer
export GOMP_SPINCOUNT=20000
train() {
  OMP_NUM_THREADS=1 .venv/bin/python -m torch.distributed.run --nproc-per-node 2 "recipes/$1.py" --workers 0 \
    --whisper $whisper --tokenizer $tokenizer --dev "$speech/dev.jsonl" "${@:2}"
}

# Tokens of Whisper that the texts use most.
[ -f $tokenizer/tokenizer.json ] || .venv/bin/python recipes/tokenizer.py --cut $whisper/tokenizer.json --vocab 16384 \
  --lines 30000 --shares en=2 --out $tokenizer --text en="$text/en.txt" fr="$text/fr.txt" de="$text/de.txt" es="$text/es.txt" \
  pt="$text/pt.txt" ja=data/text/tanaka-ja.txt
train transplant --out checkpoints/transplant --feedforward-mult 3 \
  --dev-langs en fr de es pt ja --dev-clips 6 \
  --data "$speech/synth.jsonl:en:1.5" --data "$speech/synth.jsonl:pt+ja+es+de:3.5" --data "$speech/synth.jsonl:fr:1" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:1.2" --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:2.5" \
  --data "$speech/train.jsonl:en@speechocean762:1" --data "$speech/train.jsonl:fr:1.1" \
  --data "$speech/train.jsonl:de:1.5" --data data/langs/openjtalk-ja.jsonl:ja:0.5 \
  --data data/langs/pico-es.jsonl:es:0.4 --data data/synth3/pico-en.jsonl:en:0.4 \
  --data data/synth4/pico-de.jsonl:de:0.3 --data data/synth4/pico-es.jsonl:es:0.3 \
  --data data/synth3/flite-en.jsonl:en:0.3 --data data/synth5/pico-en.jsonl:en:0.6 \
  --data data/synth6/pico-en.jsonl:en:0.6 --data data/synth5/flite-en.jsonl:en:0.5 \
  --data data/synth6/flite-en.jsonl:en:0.5 --data data/synth5/pico-de.jsonl:de:0.6 \
  --data data/synth5/pico-fr.jsonl:fr:0.3 --data data/synth5/pico-es.jsonl:es:0.6 \
  --data data/synth5/openjtalk-ja.jsonl:ja:0.8 \
  --stem-steps 400 --second-steps 200 --heads-steps 150 --lr 2e-4 --steps 1850 --cooldown 1200 \
  --warmup 50 --average-decay 0.99
[ -d checkpoints/decoder ] || .venv/bin/python recipes/transplant_decoder.py --whisper $whisper \
  --tokenizer $tokenizer --encoder checkpoints/transplant --out checkpoints/decoder --window 2 --units 1536 \
  --plan s1,c1m1,s2c2m2,s3,c3m3,s4c4m4,s5c5m5,s6c6m6 --batches 24 --data data/synth5/pico-en.jsonl:en:0.5 \
  --data "$speech/train.jsonl:en+fr+de:1" --data "$speech/synth.jsonl:en+fr+de+es+pt+ja:1.5"
# Projector and language model, with Whisper's decoder as teacher; raw texts, keyword lists and translations as well.
train speech --out checkpoints/speech --encoder checkpoints/transplant --language-model checkpoints/decoder \
  --dev-langs en fr de --dev-clips 16 --projector-ctc 0 --constant-audio --keep-zeros \
  --data "$speech/synth.jsonl:en:1.0" --data $translated/synth-en.jsonl:en:0.8 \
  --data "$speech/synth.jsonl:pt+ja+es+de:1.8" --data $translated/synth-pt-en.jsonl:pt:1 \
  --data $translated/openjtalk-ja-en.jsonl:ja:0.8 --data $translated/synth-es-en.jsonl:es:0.8 \
  --data $translated/pico-es-en.jsonl:es:0.4 --data "$speech/synth.jsonl:fr:0.8" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:0.8" --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:1.7" \
  --data $translated/train-en.jsonl:en:1.3 --data "$speech/train.jsonl:en@speechocean762:0.4" \
  --data "$speech/train.jsonl:fr:0.9" --data "$speech/train.jsonl:de:1.2" \
  --data data/synth6/pico-en.jsonl:en:0.8 --data data/synth5/pico-en.jsonl:en:0.8 \
  --data data/synth5/flite-en.jsonl:en:0.3 --data data/synth5/pico-de.jsonl:de:0.6 \
  --data data/synth5/pico-fr.jsonl:fr:0.4 --data data/synth5/pico-es.jsonl:es:0.6 \
  --data data/synth5/openjtalk-ja.jsonl:ja:0.8 --data $translated/whisper-fr-en.jsonl:fr:0.8 \
  --data $translated/whisper-de-en.jsonl:de:0.7 --data $translated/whisper-es-en.jsonl:es:0.8 \
  --data $translated/whisper-pt-en.jsonl:pt:0.7 --data $translated/whisper-ja-en.jsonl:ja:0.6 \
  --mix raw=0.4 punctuated=0.35 keywords=0.2 translate=0.5 transcribe_first=0 kana=1 \
  --batch-seconds 60 --repeated 300 --lr 1.5e-4 --steps 800 --warmup 15 --cooldown 450
.venv/bin/python runs/release.py checkpoints/speech/model checkpoints/release
