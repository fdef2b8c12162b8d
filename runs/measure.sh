#!/usr/bin/env bash
# The figures of the card of lithophone-tiny. Run from the repository root; `runs/card.py` makes the card of them. MODEL
# names another model. Those of version 1.2 and of whisper-base on the same clips are in `results/version-1.2`;
# WHISPER=1 asks whisper-base again.
set -eu
speech=${SPEECH:-../shared/speech}
sets=data/measured
heard=$sets/whisper
languages=(en fr de es pt ja)
results=runs/results
mkdir -p $results
.venv/bin/python runs/measured_sets.py "$speech/dev.jsonl"
if [ -n "${WHISPER:-}" ]; then
  for lang in "${languages[@]}"; do
    .venv/bin/python runs/whisper.py "$sets/dev-$lang.jsonl" --out "$heard/dev-$lang.jsonl"
  done
  for lang in de es fr ja pt; do
    .venv/bin/python runs/whisper.py "$sets/$lang-en.jsonl" --to en --out "$heard/$lang-en.jsonl"
  done
fi

# Two at a time, a core for each. evaluate exits 1 where a clip failed (counted as empty): the figures stand all the same.
measure() {
  echo "$1 ${*:2}" >&2
  OMP_NUM_THREADS=1 .venv/bin/lithophone evaluate "$2" --model "${MODEL:-lithophone-tiny}" --json --quiet \
    "${@:3}" > "$results/$1.json" || true
}
both() { measure "$@" & [ "$(jobs -rp | wc -l)" -lt 2 ] || wait -n; }

peer() { [ ! -f "$heard/$1.jsonl" ] || echo --hypotheses "whisper-base=$heard/$1.jsonl"; }
decoders=(--also decode=greedy --also decode=ctc --also "decode=ctc ctc_head=characters")
sound() { [ "$1" != ja ] || echo --normalizer kana; } # raw Japanese is written in kana
for lang in "${languages[@]}"; do
  both "dev-$lang" "$sets/dev-$lang.jsonl" --language $lang --raw $(sound $lang) "${decoders[@]}" $(peer dev-$lang)
done
both untold-ja "$sets/dev-ja.jsonl" --raw $(sound ja)
both demo src/lithophone/assets/demo/demo.jsonl --language en --raw "${decoders[@]}"

# Keyword lists: none, the rare words of the clip among 20 others, the 20 others alone.
both lists-none "$sets/lists.jsonl" --language en --raw
both lists "$sets/lists.jsonl" --language en --raw --bias
both distractors "$sets/distractors.jsonl" --language en --raw --bias

# Translation.
for lang in de es fr ja pt; do
  both "$lang-en" "$sets/$lang-en.jsonl" --language $lang --task translate --to en $(peer $lang-en)
done
wait
