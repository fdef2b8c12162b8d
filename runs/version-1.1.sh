#!/usr/bin/env bash
# lithophone-tiny 1.1: all three stages of version 1.0 go on, with more English and more keyword lists. Writes
# checkpoints/speech7/model. Run from the repository root, after runs/data.sh and runs/translations/make.sh; stopped and
# started again, it goes on. Two processes of one thread each: a tenth more speech a second on two cores than one of two.
set -eu
speech=${SPEECH:-../shared/speech}
export OMP_NUM_THREADS=1
export LAUNCH=".venv/bin/python -m torch.distributed.run --nproc-per-node 2"

borrowed=()
for one in ja:0.8 es:0.5 pt:0.5; do
  for lang in fr de en; do borrowed+=(--data "data/loanwords/${one%:*}.jsonl:${one%:*}-t-$lang:${one#*:}"); done
done
LD_PRELOAD=${MALLOC:-} $LAUNCH recipes/encoder.py --workers 0 --tokenizer checkpoints/tokenizer6 \
  --data "$speech/synth.jsonl:en:2" \
  --data "data/synth4/kokoro-en.jsonl:en:1.6" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:2" \
  --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:3.5" \
  --data "$speech/train.jsonl:en@speechocean762:1.4" \
  --data "data/synth3/flite-en.jsonl:en:0.8" \
  --data "data/synth4/flite-en.jsonl:en:0.8" \
  --data "data/synth3/pico-en.jsonl:en:0.7" \
  --data "data/synth4/pico-en.jsonl:en:1" \
  --data "$speech/train.jsonl:fr:1" \
  --data "$speech/train.jsonl:de:1.1" \
  --data "data/synth4/pico-de.jsonl:de:0.4" \
  --data "$speech/synth.jsonl:pt+ja+es+de:1.6" \
  --data "data/langs/kokoro-pt.jsonl:pt:1.0" \
  --data "data/langs/openjtalk-ja.jsonl:ja:0.5" \
  "${borrowed[@]}" \
  --data "data/langs/pico-es.jsonl:es:0.5" \
  --dev "$speech/dev.jsonl" --dev-langs en fr de es pt ja --dev-clips 20 --evaluate-every 850 --batch-seconds 30 \
  --out checkpoints/encoder7 --init data/version-1.0 --lr 1.3e-3 --warmup 150 --steps 3400 --cooldown 2100 --seed 7
# Half way between where it came from and where it went it hears new voices best.
.venv/bin/python recipes/interpolate.py checkpoints/encoder7 --towards data/version-1.0 --share 0.5 \
  --tokenizer checkpoints/tokenizer6 --out checkpoints/between7

INIT=data/version-1.0 OUT=checkpoints/language_model7 STEPS=900 COOLDOWN=600 \
  runs/language_model.sh --growing-steps 0 --seed 7

INIT=data/version-1.0 ENCODER=checkpoints/between7 LANGUAGE_MODEL=checkpoints/language_model7 OUT=checkpoints/speech7 \
  CLIPS=10 STEPS=1500 COOLDOWN=1100 runs/speech.sh --batch-seconds 45 --evaluate-every 600 --seed 7 \
  --data data/synth4/kokoro-en.jsonl:en:0.8 --data data/synth4/pico-de.jsonl:de:0.3 \
  --mix raw=0.45 punctuated=0.15 keywords=0.3 translate=0.1 transcribe_first=1 kana=1
