#!/usr/bin/env bash
# Stage 2b of lithophone-tiny, version 1: projector and language model together, on speech. Writes checkpoints/speech6/model.
# The projector begins as that of version 0. Run from the repository root; goes on where it was.
# LAUNCH may name another way to start a recipe, on several processes.
set -eu
speech=${SPEECH:-../shared/speech}
translated=data/translations
LD_PRELOAD=${MALLOC:-} GOMP_SPINCOUNT=20000 ${LAUNCH:-.venv/bin/python} recipes/speech.py --workers 0 \
  --data "$speech/synth.jsonl:en:1" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:1.2" \
  --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:2" \
  --data "$speech/train.jsonl:en@speechocean762:0.8" \
  --data "data/synth3/pico-en.jsonl:en:0.5" \
  --data "data/synth3/flite-en.jsonl:en:0.6" \
  --data "$translated/train-en.jsonl:en:1.2" \
  --data "$translated/synth-en.jsonl:en:1.2" \
  --data "$translated/tanaka-en.jsonl:en:0.5" \
  --data "$speech/train.jsonl:fr:1.2" \
  --data "$speech/train.jsonl:de:1.5" \
  --data "$speech/synth.jsonl:pt+ja+es+de:2.2" \
  --data "$translated/synth-pt-en.jsonl:pt:1.2" \
  --data "data/langs/kokoro-pt.jsonl:pt:1.5" \
  --data "$translated/openjtalk-ja-en.jsonl:ja:1.4" \
  --data "$translated/synth-es-en.jsonl:es:1.2" \
  --data "data/langs/pico-es.jsonl:es:0.5" \
  --data "$translated/pico-es-en.jsonl:es:0.5" \
  --mix raw=0.4 punctuated=0.2 keywords=0.2 translate=0.3 transcribe_first=1 kana=1 \
  --dev "$speech/dev.jsonl" --dev-langs en fr de es pt ja --dev-clips "${CLIPS:-20}" \
  --tokenizer checkpoints/tokenizer6 --encoder "${ENCODER:-checkpoints/encoder6-settled}" \
  --language-model "${LANGUAGE_MODEL:-checkpoints/language_model6}" \
  --init "${INIT:-data/version-0}" --init-parts projector --out "${OUT:-checkpoints/speech6}" \
  --steps "${STEPS:-2000}" --cooldown "${COOLDOWN:-1400}" "$@"
