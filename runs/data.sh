#!/usr/bin/env bash
# What lithophone-tiny is trained on beside ../shared/speech: small synthetic voices of varied sentences. Run from the
# repository root; clips that are there are kept. Sentences: Common Voice's lists and, for Japanese, those of the Tanaka
# corpus (CC BY 2.0), without those of the dev set. Half an hour on two cores. Then: runs/translations/make.sh.
#   apt-get install flite
set -eu
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
demo=src/lithophone/assets/demo/demo.jsonl
.venv/bin/pip install --quiet py-nanotts pyopenjtalk-plus

mkdir -p data/text
cut -f 2 "$text/en-ja.tsv" > data/text/tanaka-ja.txt
synthesize() {
  .venv/bin/python recipes/synthesize.py "$1" --lang "$2" --text "$3" --clips "$4" --seed "$5" --out "$6" --exclude "${@:7}"
}
synthesize pico es "$text/es.txt" 1600 41 data/langs "$speech/dev.jsonl"
synthesize openjtalk ja data/text/tanaka-ja.txt 1600 44 data/langs "$speech/dev.jsonl" "$speech/synth.jsonl"
synthesize pico en "$text/en.txt" 2500 11 data/synth3 "$speech/dev.jsonl" $demo
synthesize pico de "$text/de.txt" 1000 63 data/synth4 "$speech/dev.jsonl"
synthesize pico es "$text/es.txt" 800 66 data/synth4 "$speech/dev.jsonl" data/langs/pico-es.jsonl
synthesize flite en "$text/en.txt" 800 31 data/synth3 "$speech/dev.jsonl" $demo
synthesize pico en "$text/en.txt" 4000 101 data/synth5 "$speech/dev.jsonl" $demo data/synth3/pico-en.jsonl
synthesize flite en "$text/en.txt" 3000 102 data/synth5 "$speech/dev.jsonl" $demo data/synth3/flite-en.jsonl
synthesize pico de "$text/de.txt" 2000 103 data/synth5 "$speech/dev.jsonl" data/synth4/pico-de.jsonl
synthesize pico fr "$text/fr.txt" 1500 104 data/synth5 "$speech/dev.jsonl"
synthesize pico es "$text/es.txt" 2000 105 data/synth5 "$speech/dev.jsonl" data/langs/pico-es.jsonl \
  data/synth4/pico-es.jsonl
synthesize pico en "$text/en.txt" 4000 106 data/synth6 "$speech/dev.jsonl" $demo data/synth3/pico-en.jsonl \
  data/synth5/pico-en.jsonl
synthesize openjtalk ja data/text/tanaka-ja.txt 2500 107 data/synth5 "$speech/dev.jsonl" "$speech/synth.jsonl" \
  data/langs/openjtalk-ja.jsonl
synthesize flite en "$text/en.txt" 3000 108 data/synth6 "$speech/dev.jsonl" $demo data/synth3/flite-en.jsonl \
  data/synth5/flite-en.jsonl
