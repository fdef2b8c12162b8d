#!/usr/bin/env bash
# Stage 2b of lithophone-tiny: projector and language model together, on speech. Writes checkpoints/speech/model.
# INIT names a model whose projector and language model it starts from, in place of new ones and those of stage 2a.
set -eu
speech=${SPEECH:-../shared/speech}
LD_PRELOAD=${MALLOC:-} GOMP_SPINCOUNT=20000 .venv/bin/python recipes/speech.py \
  --data "data/synth/kokoro-en.jsonl:en:2.5" \
  --data "data/synth2/kokoro-en.jsonl:en:2" \
  --data "data/synth4/kokoro-en.jsonl:en:2.5" \
  --data "$speech/synth.jsonl:en:2" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:2.5" \
  --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:2.5" \
  --data "$speech/train.jsonl:en@speechocean762:1" \
  --data "data/synth/pico-en.jsonl:en:1" \
  --data "data/synth2/flite-en.jsonl:en:0.8" \
  --data "data/synth3/pico-en.jsonl:en:1.5" \
  --data "data/synth3/flite-en.jsonl:en:1" \
  --dev "$speech/dev.jsonl" --tokenizer checkpoints/tokenizer --encoder checkpoints/encoder \
  --language-model checkpoints/language_model --out checkpoints/speech ${INIT:+--init "$INIT"} --workers 0 \
  --steps "${STEPS:-3500}" --cooldown "${COOLDOWN:-2500}"
