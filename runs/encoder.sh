#!/usr/bin/env bash
# Stage 1 of lithophone-tiny: the encoder. Run from the repository root; stops and goes on where it was.
# Data: see recipes/synthesize.py and recipes/teacher_states.py for what lies under data/.
set -eu
speech=${SPEECH:-../shared/speech}
OMP_WAIT_POLICY=PASSIVE .venv/bin/python recipes/encoder.py \
  --data "data/synth/kokoro-en.jsonl:en:3:data/teacher/kokoro-en" \
  --data "$speech/synth.jsonl:en:2:data/teacher/synth-en" \
  --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:2:data/teacher/train-en" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:2.5:data/teacher/train-en" \
  --data "$speech/train.jsonl:en@speechocean762:1.5:data/teacher/train-en" \
  --data "data/synth/pico-en.jsonl:en:1" \
  --dev "$speech/dev.jsonl" --tokenizer checkpoints/tokenizer --out checkpoints/encoder --steps "${STEPS:-5000}" "$@"
