#!/usr/bin/env bash
# lithophone-tiny 2.0: encoder and language model from whisper-base, then int8 weights in checkpoints/release. Run from
# the repository root, after runs/data.sh and runs/translations/make.sh; stopped and started again, it goes on. One
# process a core: two threads of one process were slower.
#
# The run that was shipped was steered by hand. Encoder: 1,850 steps of `joint` with blocks of 200 frames and 7,168,
# later 16,384 tokens (4e-4, from step 550 on 2e-4, the cooldown from 700 on), 550 with blocks of 512 at 1.2e-4, and,
# from those weights rounded to 4 bits, 250 at 1e-4 with less augmentation from step 100 on. Language model: 1,150
# steps with trained embeddings, of 7,168 tokens at first, behind each of these encoders; then Whisper's rows were put
# back and 8,192 tokens added (runs/embeddings.py; their rows in the BPE head are zero), and 300 of 330 steps of 140
# distinct batches ran without training the embeddings.
set -eu
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
translated=data/translations
whisper=data/whisper-base
tokenizer=checkpoints/tokenizer
export GOMP_SPINCOUNT=20000
train() {
  OMP_NUM_THREADS=1 .venv/bin/python -m torch.distributed.run --nproc-per-node 2 "recipes/$1.py" --workers 0 \
    --whisper $whisper --tokenizer $tokenizer --dev "$speech/dev.jsonl" "${@:2}"
}

# Tokens of Whisper that the texts use most.
[ -f $tokenizer/tokenizer.json ] || .venv/bin/python recipes/tokenizer.py --cut $whisper/tokenizer.json --vocab 24576 \
  --lines 30000 --shares en=2 --out $tokenizer --text en="$text/en.txt" fr="$text/fr.txt" de="$text/de.txt" es="$text/es.txt" \
  pt="$text/pt.txt" ja=data/text/tanaka-ja.txt
train transplant --out checkpoints/transplant --feedforward-mult 3 \
  --dev-langs en fr de es pt ja --dev-clips 6 \
  --data "$speech/synth.jsonl:en:1.5" --data "$speech/synth.jsonl:pt+ja+es+de:3.5" --data "$speech/synth.jsonl:fr:1" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:1.2" --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:2.5" \
  --data "$speech/train.jsonl:en@speechocean762:1" --data "$speech/train.jsonl:fr:1.1" \
  --data "$speech/train.jsonl:de:1.5" --data data/langs/openjtalk-ja.jsonl:ja:0.5 \
  --data data/langs/pico-es.jsonl:es:0.4 --data data/synth3/pico-en.jsonl:en:0.4 \
  --data data/synth4/pico-de.jsonl:de:0.3 --data data/synth4/pico-es.jsonl:es:0.3 \
  --data data/synth3/flite-en.jsonl:en:0.3 --data data/synth5/pico-en.jsonl:en:0.6 \
  --data data/synth6/pico-en.jsonl:en:0.6 --data data/synth5/flite-en.jsonl:en:0.5 \
  --data data/synth6/flite-en.jsonl:en:0.5 --data data/synth5/pico-de.jsonl:de:0.6 \
  --data data/synth5/pico-fr.jsonl:fr:0.3 --data data/synth5/pico-es.jsonl:es:0.6 \
  --data data/synth5/openjtalk-ja.jsonl:ja:0.8 \
  --stem-steps 400 --second-steps 200 --heads-steps 150 --lr 2e-4 --steps 2650 --cooldown 2000 \
  --warmup 50 --mapped-factor 0.5 --average-decay 0.99
[ -d checkpoints/decoder ] || .venv/bin/python recipes/transplant_decoder.py --whisper $whisper \
  --tokenizer $tokenizer --encoder checkpoints/transplant --out checkpoints/decoder --window 2 --units 1536 \
  --plan s1,c1m1,s2c2m2,s3,c3m3,s4c4m4,s5c5m5,s6c6m6 --batches 24 --data data/synth5/pico-en.jsonl:en:0.5 \
  --data "$speech/train.jsonl:en+fr+de:1" --data "$speech/synth.jsonl:en+fr+de+es+pt+ja:1.5"
# Projector and language model, with Whisper's decoder as teacher; raw texts, keyword lists and translations as well.
train speech --out checkpoints/speech --encoder checkpoints/transplant --language-model checkpoints/decoder \
  --dev-langs en fr de --dev-clips 16 --projector-ctc 0 --constant-audio --keep-zeros \
  --keep-embeddings --mlp-factor 0.3 \
  --data "$speech/synth.jsonl:en:1.0" --data $translated/synth-en.jsonl:en:0.8 \
  --data "$speech/synth.jsonl:pt+ja+es+de:1.8" --data $translated/synth-pt-en.jsonl:pt:1 \
  --data $translated/openjtalk-ja-en.jsonl:ja:0.8 --data $translated/synth-es-en.jsonl:es:0.8 \
  --data $translated/pico-es-en.jsonl:es:0.4 --data "$speech/synth.jsonl:fr:0.8" \
  --data "$speech/train.jsonl:en@kathleen+dc_tts_philipp:0.8" --data "$speech/train.jsonl:en@cv_delta_en+cv_puri:1.7" \
  --data $translated/train-en.jsonl:en:1.3 --data "$speech/train.jsonl:en@speechocean762:0.4" \
  --data "$speech/train.jsonl:fr:0.9" --data "$speech/train.jsonl:de:1.2" \
  --data data/synth6/pico-en.jsonl:en:0.8 --data data/synth5/pico-en.jsonl:en:0.8 \
  --data data/synth5/flite-en.jsonl:en:0.3 --data data/synth5/pico-de.jsonl:de:0.6 \
  --data data/synth5/pico-fr.jsonl:fr:0.4 --data data/synth5/pico-es.jsonl:es:0.6 \
  --data data/synth5/openjtalk-ja.jsonl:ja:0.8 --data $translated/whisper-fr-en.jsonl:fr:0.8 \
  --data $translated/whisper-de-en.jsonl:de:0.7 --data $translated/whisper-es-en.jsonl:es:0.8 \
  --data $translated/whisper-pt-en.jsonl:pt:0.7 --data $translated/whisper-ja-en.jsonl:ja:0.6 \
  --mix raw=0.35 punctuated=0.45 keywords=0.15 translate=0.3 transcribe_first=0 kana=1 \
  --batch-seconds 60 --repeated 300 --lr 1.5e-4 --steps 800 --warmup 15 --cooldown 450
.venv/bin/python runs/release.py checkpoints/speech/model checkpoints/release
