#!/usr/bin/env bash
# Stage 1 of lithophone-tiny, version 1.0: the encoder of version 0, which knows English, learns five more languages; a
# quarter of the way back it has its English again; a short descent from there settles both. runs/version-1.1.sh goes on.
# Run from the repository root; stopped and started again, it goes on. data/ is made by runs/data.sh.
# MALLOC may name a malloc with thread caches (tcmalloc): a fifth less time a step here.
set -eu
speech=${SPEECH:-../shared/speech}
origin=${INIT:-data/version-0}
tokenizer=checkpoints/tokenizer6
descend() {
  LD_PRELOAD=${MALLOC:-} GOMP_SPINCOUNT=20000 .venv/bin/python recipes/encoder.py --workers 0 --tokenizer $tokenizer \
    "${data[@]}" --dev "$speech/dev.jsonl" --dev-langs en fr de es pt ja --dev-clips 20 --evaluate-every 1000 "$@"
}
borrowed=()
for one in ja:0.8 es:0.5 pt:0.5; do
  for lang in fr de en; do borrowed+=(--data "data/loanwords/${one%:*}.jsonl:${one%:*}-t-$lang:${one#*:}"); done
done
data=(
  --data "$speech/synth.jsonl:en:3"
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:2"
  --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:3"
  --data "$speech/train.jsonl:en@speechocean762:1.2"
  --data "data/synth3/flite-en.jsonl:en:1"
  --data "data/synth3/pico-en.jsonl:en:1"
  --data "$speech/train.jsonl:fr:1.1"
  --data "$speech/train.jsonl:de:1.5"
  --data "$speech/synth.jsonl:pt+ja+es+de:2.4"
  --data "data/langs/kokoro-pt.jsonl:pt:2.5"
  --data "data/langs/openjtalk-ja.jsonl:ja:0.6"
  "${borrowed[@]}"
  --data "data/langs/pico-es.jsonl:es:0.6"
)
descend --out checkpoints/encoder6 --init "$origin" --lr 1.2e-3 --steps 5600 --cooldown 2900 "$@"
.venv/bin/python recipes/interpolate.py checkpoints/encoder6 --towards "$origin" --share 0.25 --tokenizer $tokenizer \
  --out checkpoints/between
descend --out checkpoints/encoder6-settled --init checkpoints/between --lr 6e-4 --warmup 100 --steps 1200 --cooldown 900 "$@"
