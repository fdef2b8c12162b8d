#!/usr/bin/env bash
# Stage 2a of lithophone-tiny: the language model, from text alone. Run from the repository root; goes on where it was.
set -eu
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
LD_PRELOAD=${MALLOC:-} GOMP_SPINCOUNT=20000 .venv/bin/python recipes/language_model.py \
  --text "$text/en.txt" --exclude "$speech/dev.jsonl" data/unseen/kokoro-en.jsonl \
  src/lithophone/assets/demo/demo.jsonl --tokenizer checkpoints/tokenizer \
  --out checkpoints/language_model --steps "${STEPS:-1200}" --cooldown "${COOLDOWN:-350}"
