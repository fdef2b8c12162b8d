#!/usr/bin/env bash
# Stage 1 of lithophone-tiny: the encoder. Run from the repository root; stopped and started again, it goes on.
# data/ is made by runs/data.sh. MALLOC may name a malloc with thread caches (tcmalloc): a fifth less time a step here.
set -eu
speech=${SPEECH:-../shared/speech}
encoder() {
  LD_PRELOAD=${MALLOC:-} GOMP_SPINCOUNT=20000 .venv/bin/python recipes/encoder.py \
    --dev "$speech/dev.jsonl" --tokenizer checkpoints/tokenizer --out checkpoints/encoder --workers 0 "$@"
}
kokoro=data/synth/kokoro-en.jsonl:en:2.5:data/teacher/kokoro-en
more_kokoro=data/synth2/kokoro-en.jsonl:en:2:data/teacher/kokoro2-en
any_kokoro=data/synth4/kokoro-en.jsonl:en:2.5:data/teacher/kokoro4-en
synth=$speech/synth.jsonl:en:2:data/teacher/synth-en
studio=$speech/train.jsonl:en@kathleen+dc_tts_philipp:2.5:data/teacher/train-en
crowd=$speech/train.jsonl:en@cv_delta_en+cv_puri:2:data/teacher/train-en
accents=$speech/train.jsonl:en@speechocean762:1.5:data/teacher/train-en
pico=data/synth/pico-en.jsonl:en:1
flite=data/synth2/flite-en.jsonl:en:0.8
more_pico=data/synth3/pico-en.jsonl:en:1.5
more_flite=data/synth3/flite-en.jsonl:en:1

# Clean, short and unaugmented first: off the plateau of CTC in minutes.
encoder --data "$kokoro" --data "$synth" --data "$studio" --data "$pico" \
  --plain --row-frames 200 --steps 600 --cooldown 1
# Then everything there was.
everything=(--data "$kokoro" --data "$more_kokoro" --data "$synth" --data "$studio" --data "$crowd" --data "$accents"
  --data "$pico" --data "$flite")
encoder "${everything[@]}" --steps 7600 --cooldown 3200
# Then more of it.
encoder "${everything[@]}" --data "$any_kokoro" --data "$more_pico" --data "$more_flite" \
  --steps "${STEPS:-13000}" --cooldown "${COOLDOWN:-4600}"
