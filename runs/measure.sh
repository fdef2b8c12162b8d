#!/usr/bin/env bash
# The figures of the card of lithophone-tiny. Run from the repository root; `runs/card.py` makes the card of them.
set -eu
speech=${SPEECH:-../shared/speech}
mkdir -p runs/results
# evaluate exits 1 where a clip failed (counted as empty): the figures stand all the same.
measure() { .venv/bin/lithophone evaluate "$2" --lang en --raw --json --quiet "${@:3}" > "runs/results/$1.json" || true; }
for decoder in "" greedy ctc; do
  suffix=${decoder:+-$decoder}
  measure "unseen-voices$suffix" data/unseen/kokoro-en.jsonl ${decoder:+--decode "$decoder"}
  measure "demo$suffix" src/lithophone/assets/demo/demo.jsonl ${decoder:+--decode "$decoder"}
  measure "dev-en$suffix" "$speech/dev.jsonl" ${decoder:+--decode "$decoder"}
done
