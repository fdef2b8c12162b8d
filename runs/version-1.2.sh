#!/usr/bin/env bash
# lithophone-tiny 1.2: stage 2b of version 1.1 goes on. Writes checkpoints/speech8/model. Run from the repository root,
# after runs/version-1.1.sh; stopped and started again, it goes on.
set -eu
export OMP_NUM_THREADS=1
export LAUNCH=".venv/bin/python -m torch.distributed.run --nproc-per-node 2"

INIT=checkpoints/speech7/model ENCODER=checkpoints/between7 LANGUAGE_MODEL=checkpoints/language_model7 OUT=checkpoints/speech8 \
  CLIPS=10 STEPS=2800 COOLDOWN=2000 runs/speech.sh --init-parts projector language_model --batch-seconds 45 --evaluate-every 1000 \
  --seed 8 --data data/synth4/kokoro-en.jsonl:en:0.8 --data data/synth4/pico-de.jsonl:de:0.3 \
  --mix raw=0.45 punctuated=0.15 keywords=0.3 translate=0.1 transcribe_first=1 kana=1
