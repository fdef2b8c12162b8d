#!/usr/bin/env bash
# What version 1 of lithophone-tiny needs beyond the data of version 0 (runs/english/data.sh): a tokenizer for six
# languages, and speech in five of them. Run from the repository root; clips that are there are kept. Sentences: Common
# Voice's lists and, for Japanese, those of the Tanaka corpus (CC BY 2.0), without those of the dev set. An hour and a
# half on two cores, nearly all of it Kokoro.
set -eu
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
.venv/bin/pip install --quiet py-nanotts misaki espeakng-loader phonemizer-fork pyopenjtalk-plus faster-whisper

mkdir -p data/text
cut -f 2 "$text/en-ja.tsv" > data/text/tanaka-ja.txt
sentences=(ja=data/text/tanaka-ja.txt)
for lang in en fr de es pt ja; do sentences+=("$lang=$text/$lang.txt"); done
.venv/bin/python recipes/tokenizer.py --vocab 1792 --lines 30000 --out checkpoints/tokenizer6 --text "${sentences[@]}"

synthesize() {
  .venv/bin/python recipes/synthesize.py "$1" --lang "$2" --text "$3" --clips "$4" --seed "$5" --out data/langs "${@:6}"
}
for lang in de fr es; do
  synthesize pico "$lang" "$text/$lang.txt" 4000 41 --exclude "$speech/dev.jsonl"
done
known=("$speech/dev.jsonl" "$speech/synth.jsonl")
synthesize openjtalk ja data/text/tanaka-ja.txt 3000 44 --exclude "${known[@]}"
synthesize kokoro es "$text/es.txt" 400 43 --foreign 0.5 --exclude "${known[@]}"
synthesize kokoro pt "$text/pt.txt" 785 43 --foreign 0.5 --exclude "${known[@]}"
synthesize kokoro ja "$text/ja.txt" 400 43 --foreign 0.4 --exclude "${known[@]}"

# Japanese has no people's speech: other languages' people, spelled as it would.
.venv/bin/python recipes/loanwords.py "$speech/train.jsonl:fr@cv_delta_fr:3500" "$speech/train.jsonl:de" \
  "$speech/train.jsonl:en@cv_delta_en:800" "$speech/train.jsonl:en@speechocean762:600" --out data/loanwords/ja.jsonl

teacher() {
  .venv/bin/python recipes/teacher_states.py "$1" --out "data/teacher/$2" "${@:3}"
}
for lang in pt es ja; do
  teacher "data/langs/kokoro-$lang.jsonl" "kokoro-$lang"
done
teacher "$speech/synth.jsonl" synth-six --langs pt,ja,es,de
teacher "$speech/train.jsonl" train-de --langs de
teacher "$speech/train.jsonl" train-fr --langs fr --every 3

# Voices and sentences that no training clip has.
for one in es:em_alex pt:pm_alex ja:jm_kumo; do
  lang=${one%:*}
  .venv/bin/python recipes/synthesize.py kokoro --lang "$lang" --text "$text/$lang.txt" --voices "${one#*:}" --seed 99 --clips 30 \
    --exclude "${known[@]}" data/langs/*-"$lang".jsonl --workers 1 --out data/unseen
done
