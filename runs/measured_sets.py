"""The sets the card is measured on, as manifests in data/measured. Run from the repository root.

    python runs/measured_sets.py ../shared/speech/dev.jsonl

`dev-LANG` are the dev clips of a language (of LibriSpeech's 623 every third, of the 856 French deltas every eighth),
`cased-en` the English ones without LibriSpeech, which writes all in capitals, `FROM-TO` those of the Common Voice 6.1
sample with the translations of `runs/references` as their texts, `lists` every second English clip that has rare words,
with these and 20 others as keywords, `distractors` the same clips with the 20 others alone. LibriSpeech's words are in
lower case there.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from lithophone.data.manifest import Entry, read_entries, write_entries
from lithophone.evaluation.contextual import contextual_sets
from lithophone.metrics.wer import units

FOLDER = Path("data/measured")
REFERENCES = Path("runs/references")
SAMPLE = "cv61_rsample"
EVERY = {"librispeech_devclean_mp3": 3, "cv_delta_fr": 8}
"""Of large corpora so many clips stand for one."""
DISTRACTORS = 20


def main() -> None:
    everything = read_entries(sys.argv[1])
    by_corpus: dict[str, list[Entry]] = defaultdict(list)
    for entry in everything:
        by_corpus[entry.corpus].append(entry)
    chosen = [entry for corpus, entries in by_corpus.items() for entry in entries[:: EVERY.get(corpus, 1)]]
    FOLDER.mkdir(parents=True, exist_ok=True)
    for lang in ("en", "de", "es", "fr", "ja", "pt"):
        write_entries(FOLDER / f"dev-{lang}.jsonl", [entry for entry in chosen if entry.lang == lang])
    write_entries(FOLDER / "cased-en.jsonl", [e for e in everything if e.lang == "en" and not e.text.isupper()])
    sample = {entry.name: entry for entry in everything if entry.corpus == SAMPLE}
    for path in sorted(REFERENCES.glob("*.tsv")):
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        write_entries(FOLDER / f"{path.stem}.jsonl", [replace(sample[name], text=text) for name, text in rows])
    sets = contextual_sets([entry for entry in chosen if entry.lang == "en"], distractors=DISTRACTORS)
    lists, others = [], []
    for entry, written in sets:
        keywords = tuple(word.lower() if word.isupper() else word for word in written)
        said = set(units(entry.text, entry.lang))
        strange = tuple(word for word in keywords if said.isdisjoint(units(word, entry.lang)))
        if len(strange) < len(keywords):
            lists.append(replace(entry, keywords=keywords))
            others.append(replace(entry, keywords=strange))
    lists, others = lists[::2], others[::2]
    write_entries(FOLDER / "lists.jsonl", lists)
    write_entries(FOLDER / "distractors.jsonl", others)
    rare = sum(len(entry.keywords) for entry in lists) - sum(len(entry.keywords) for entry in others)
    print(f"{len(lists)} clips with lists, {rare} rare words in them")


if __name__ == "__main__":
    main()
