#!/usr/bin/env bash
# What version 1 of lithophone-tiny is trained on beside ../shared/speech: a tokenizer for six languages, small voices in
# four of them, and people's speech in other languages' spelling. Run from the repository root; clips that are there are
# kept. Sentences: Common Voice's lists and, for Japanese, those of the Tanaka corpus (CC BY 2.0), without those of the dev
# set. Half an hour on two cores.
#   apt-get install flite
set -eu
shopt -s nullglob
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
.venv/bin/pip install --quiet py-nanotts misaki espeakng-loader phonemizer-fork pyopenjtalk-plus faster-whisper

# The models that training goes on from: versions 0.2 and 1.0.
for one in 4fb58b7:version-0 9b4bb88:version-1.0; do
  git archive "${one%:*}" src/lithophone/assets/lithophone-tiny |
    tar --extract --strip-components 4 --one-top-level="data/${one#*:}"
done

mkdir -p data/text
cut -f 2 "$text/en-ja.tsv" > data/text/tanaka-ja.txt
sentences=(ja=data/text/tanaka-ja.txt)
for lang in en fr de es pt ja; do sentences+=("$lang=$text/$lang.txt"); done
.venv/bin/python recipes/tokenizer.py --vocab 1792 --lines 30000 --out checkpoints/tokenizer6 --text "${sentences[@]}"

demo=src/lithophone/assets/demo/demo.jsonl
synthesize() {
  .venv/bin/python recipes/synthesize.py "$1" --lang "$2" --text "$3" --clips "$4" --seed "$5" --out "$6" "${@:7}"
}
known=("$speech/dev.jsonl" "$speech/synth.jsonl")
synthesize openjtalk ja data/text/tanaka-ja.txt 1600 44 data/langs --exclude "${known[@]}"
synthesize pico es "$text/es.txt" 2000 41 data/langs --exclude "$speech/dev.jsonl"
synthesize kokoro pt "$text/pt.txt" 168 43 data/langs --foreign 0.5 --exclude "${known[@]}"
synthesize pico en "$text/en.txt" 1000 11 data/synth3 --exclude "$speech/dev.jsonl" $demo
synthesize flite en "$text/en.txt" 1500 31 data/synth3 --exclude "$speech/dev.jsonl" $demo

# Japanese, Spanish and Portuguese have no people's speech: other languages' people, spelled as these would.
for lang in ja es pt; do
  others=("$speech/train.jsonl:fr@cv_delta_fr:3500" "$speech/train.jsonl:de")
  if [ $lang = ja ]; then
    others+=("$speech/train.jsonl:en@cv_delta_en:800" "$speech/train.jsonl:en@speechocean762:600")
  else
    others+=("$speech/train.jsonl:en@cv_delta_en:800")
  fi
  .venv/bin/python recipes/loanwords.py "${others[@]}" --into $lang --out data/loanwords/$lang.jsonl
done

# Voices and sentences that no training clip has.
for one in en:hf_alpha,hm_omega,em_alex,pm_alex,im_nicola:40 es:em_alex:20 pt:pm_alex:20 ja:jm_kumo:20; do
  IFS=: read -r lang voices clips <<< "$one"
  synthesize kokoro "$lang" "$text/$lang.txt" "$clips" 99 data/unseen --voices "$voices" \
    --exclude "${known[@]}" data/{langs,synth3}/*-"$lang".jsonl
done

# A second helping of English, and Pico's German: for the second run, from version 1.0 on.
heard=("$speech/dev.jsonl" $demo data/unseen/kokoro-en.jsonl data/synth3/{flite,pico}-en.jsonl)
synthesize kokoro en "$text/en.txt" 328 64 data/synth4 --foreign 0.5 --exclude "${heard[@]}" "$speech/synth.jsonl"
synthesize flite en "$text/en.txt" 1500 61 data/synth4 --exclude "${heard[@]}"
synthesize pico en "$text/en.txt" 2000 62 data/synth4 --exclude "${heard[@]}"
synthesize pico de "$text/de.txt" 1000 63 data/synth4 --exclude "$speech/dev.jsonl"
