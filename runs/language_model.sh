#!/usr/bin/env bash
# Stage 2a of lithophone-tiny, version 1: the language model of version 0 learns five more languages, from text alone.
# Run from the repository root; goes on where it was. Translations are made by runs/translations/make.sh.
# LAUNCH may name another way to start a recipe, on several processes.
set -eu
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
translations=data/translations
head -20000 $translations/text-en-ja.tsv > data/text/en-ja.tsv
LD_PRELOAD=${MALLOC:-} GOMP_SPINCOUNT=20000 ${LAUNCH:-.venv/bin/python} recipes/language_model.py --workers 0 \
  --text "en=$text/en.txt" "fr=$text/fr.txt" "de=$text/de.txt" "es=$text/es.txt" "pt=$text/pt.txt" "ja=$text/ja.txt" \
  --pairs ja-en=$translations/text-ja-en.tsv en-ja=data/text/en-ja.tsv pt-en=$translations/text-pt-en.tsv \
  es-en=$translations/text-es-en.tsv \
  --exclude "$speech/dev.jsonl" data/unseen/kokoro-{en,es,pt,ja}.jsonl src/lithophone/assets/demo/demo.jsonl \
  --mix raw=0.4 punctuated=0.25 keywords=0.2 translate=0.25 transcribe_first=1 kana=1 --tokenizer checkpoints/tokenizer6 \
  --init "${INIT:-data/version-0}" --out "${OUT:-checkpoints/language_model6}" \
  --steps "${STEPS:-1000}" --cooldown "${COOLDOWN:-600}" "$@"
