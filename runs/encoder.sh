#!/usr/bin/env bash
# Stage 1 of lithophone-tiny, version 1: the encoder of version 0, which knows English, learns five more languages.
# Run from the repository root; stopped and started again, it goes on. data/ is made by runs/data.sh.
# MALLOC may name a malloc with thread caches (tcmalloc): a fifth less time a step here.
set -eu
speech=${SPEECH:-../shared/speech}
LD_PRELOAD=${MALLOC:-} GOMP_SPINCOUNT=20000 .venv/bin/python recipes/encoder.py --workers 0 --lr 1.2e-3 \
  --data "data/synth/kokoro-en.jsonl:en:1.5:data/teacher/kokoro-en" \
  --data "data/synth2/kokoro-en.jsonl:en:1.5:data/teacher/kokoro2-en" \
  --data "data/synth4/kokoro-en.jsonl:en:1.5:data/teacher/kokoro4-en" \
  --data "$speech/synth.jsonl:en:1.5:data/teacher/synth-en" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:1.5:data/teacher/train-en" \
  --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:1.7:data/teacher/train-en" \
  --data "$speech/train.jsonl:en@speechocean762:0.7:data/teacher/train-en" \
  --data "data/synth/pico-en.jsonl:en:0.5" \
  --data "data/synth2/flite-en.jsonl:en:0.5" \
  --data "data/synth3/pico-en.jsonl:en:0.5" \
  --data "data/synth3/flite-en.jsonl:en:0.5" \
  --data "$speech/train.jsonl:fr:1:data/teacher/train-fr" \
  --data "$speech/train.jsonl:de:1.5:data/teacher/train-de" \
  --data "$speech/synth.jsonl:pt+ja+es+de:2.4:data/teacher/synth-six" \
  --data "data/langs/kokoro-pt.jsonl:pt:3:data/teacher/kokoro-pt" \
  --data "data/langs/kokoro-ja.jsonl:ja:2:data/teacher/kokoro-ja" \
  --data "data/langs/kokoro-es.jsonl:es:3:data/teacher/kokoro-es" \
  --data "data/langs/openjtalk-ja.jsonl:ja:0.6" \
  --data "data/loanwords/ja.jsonl:ja-t-fr:1:data/teacher/train-fr" \
  --data "data/loanwords/ja.jsonl:ja-t-de:1:data/teacher/train-de" \
  --data "data/loanwords/ja.jsonl:ja-t-en:1:data/teacher/train-en" \
  --data "data/langs/pico-es.jsonl:es:0.6" \
  --data "data/langs/pico-de.jsonl:de:0.4" \
  --data "data/langs/pico-fr.jsonl:fr:0.2" \
  --dev "$speech/dev.jsonl" --dev-langs en fr de es pt ja --dev-clips 40 \
  --tokenizer checkpoints/tokenizer6 --out checkpoints/encoder6 --init "${INIT:-lithophone-tiny}" \
  --steps "${STEPS:-20000}" --cooldown "${COOLDOWN:-3000}" "$@"
