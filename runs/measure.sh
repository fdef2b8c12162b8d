#!/usr/bin/env bash
# The figures of the card of lithophone-tiny. Run from the repository root.
set -eu
speech=${SPEECH:-../shared/speech}
mkdir -p runs/results
# evaluate exits 1 where a clip failed (counted as empty): the figures stand all the same.
measure() { .venv/bin/lithophone evaluate "$2" --lang en --raw --json --quiet "${@:3}" > "runs/results/$1.json" || true; }
measure dev-en "$speech/dev.jsonl"
measure dev-en-ctc "$speech/dev.jsonl" --decode ctc
measure dev-en-beam "$speech/dev.jsonl" --decode beam --num-beams 4
measure unseen-voices data/unseen/kokoro-en.jsonl
measure unseen-voices-ctc data/unseen/kokoro-en.jsonl --decode ctc
measure unseen-voices-beam data/unseen/kokoro-en.jsonl --decode beam --num-beams 4
measure demo src/lithophone/assets/demo/demo.jsonl
measure demo-ctc src/lithophone/assets/demo/demo.jsonl --decode ctc
measure demo-beam src/lithophone/assets/demo/demo.jsonl --decode beam --num-beams 4
