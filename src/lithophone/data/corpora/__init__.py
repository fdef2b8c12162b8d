"""Public sets as they lie on disk -> entries. Each is read in the layout in which it is published, unpacked.

    librispeech     LibriSpeech/test-clean/1089/134686/1089-134686.trans.txt      openslr.org/12
    librispeech-pc  test-clean.json beside or in the folder of LibriSpeech        openslr.org/145
    mls             mls_german/test/transcripts.txt                               openslr.org/94
    timit           TEST/DR1/FAKS0/SA1.TXT, .WRD, .WAV                            LDC93S1
    common-voice    cv-corpus-20.0/de/test.tsv and clips/                         commonvoice.mozilla.org
    covost2         the same with covost_v2.de_en.test.tsv                        github.com/facebookresearch/covost
    fleurs          data/de_de/test.tsv and audio/test/                           huggingface.co/datasets/google/fleurs
    voxpopuli       transcribed_data/de/asr_test.tsv                              github.com/facebookresearch/voxpopuli
    spgispeech      val.csv and val/                                              datasets.kensho.com
    ami             amicorpus/ and ami_public_manual_1.6.2/: headsets, utterances groups.inf.ed.ac.uk/ami/corpus
    ami-sdm         the same: whole meetings, one distant microphone
    earnings22      earnings22/media/ and transcripts/: whole calls               github.com/revdotcom/speech-datasets
    tedlium         legacy/test/stm/ and sph/                                     openslr.org/51, /19 and /7
    gigaspeech      GigaSpeech.json and audio/                                    github.com/SpeechColab/GigaSpeech

Texts stay as the set has them: normalisers take away what is not said. Sets on the Hugging Face hub that come as
Parquet need the `datasets` library and are not read here; save them as files, with a manifest, first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

import soundfile

from lithophone.data.corpora.ami import ami, ami_sdm
from lithophone.data.corpora.books import librispeech, librispeech_pc, mls, timit
from lithophone.data.corpora.layout import Part, Reader
from lithophone.data.corpora.recordings import earnings22, gigaspeech, tedlium
from lithophone.data.corpora.tables import common_voice, covost2, fleurs, spgispeech, voxpopuli
from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError, OptionError
from lithophone.languages import base_language


@dataclass(frozen=True)
class Corpus:
    """How a set is read, and the splits that are meant where none is named (a pattern, as of a shell)."""

    parts: Reader
    default: str = "test"


CORPORA: Mapping[str, Corpus] = {
    "librispeech": Corpus(librispeech, "test-*"),
    "librispeech-pc": Corpus(librispeech_pc, "test-*"),
    "mls": Corpus(mls),
    "timit": Corpus(timit),
    "common-voice": Corpus(common_voice),
    "covost2": Corpus(covost2, "*.test"),
    "fleurs": Corpus(fleurs),
    "voxpopuli": Corpus(voxpopuli),
    "spgispeech": Corpus(spgispeech, "val"),
    "ami": Corpus(ami),
    "ami-sdm": Corpus(ami_sdm),
    "earnings22": Corpus(earnings22, "all"),
    "tedlium": Corpus(tedlium),
    "gigaspeech": Corpus(gigaspeech),
}


def read_corpus(
    name: str, folder: str | Path, split: str | None = None, lang: str | None = None, limit: int | None = None
) -> list[Entry]:
    """Entries of a public set, in its own order; their `corpus` is the set's name and the split.

    split: as the set calls it; those meant for testing by default.
    lang: only that language (`zh` takes `zh-CN` too); all that are there by default.
    limit: the first so many.

    Raises OptionError for a set, split or language that is not there, and names those that are; ManifestError for a
    folder that is not the set, for a line that cannot be read, for files that are listed and missing.
    """
    if name not in CORPORA:
        raise OptionError(f"there is no reader of {name!r}: choose one of {', '.join(CORPORA)}")
    parts = _chosen(name, CORPORA[name].parts(Path(folder)), split, lang)
    entries = list(islice(_entries(name, parts), limit))
    missing = [entry.audio for entry in entries if not entry.audio.is_file()]
    if missing:
        raise ManifestError(f"{len(missing)} of {len(entries)} clips of {name} have no file; the first is {missing[0]}")
    if not entries:
        raise ManifestError(f"{folder} has no clips of {name} {' or '.join(sorted({part.split for part in parts}))}")
    return [entry if entry.duration_s is not None else replace(entry, duration_s=_duration(entry)) for entry in entries]


def _chosen(name: str, parts: Sequence[Part], split: str | None, lang: str | None) -> list[Part]:
    spoken = [part for part in parts if lang in (None, part.lang, base_language(part.lang))]
    if not spoken:
        langs = ", ".join(sorted({part.lang for part in parts}))
        raise OptionError(f"{name} has no language {lang!r} there: it has {langs}")
    chosen = [part for part in spoken if fnmatchcase(part.split, split or CORPORA[name].default)]
    if not chosen:
        splits = ", ".join(sorted({part.split for part in spoken}))
        raise OptionError(f"{name} has no split {split or CORPORA[name].default!r} there: it has {splits}")
    return chosen


def _entries(name: str, parts: Sequence[Part]) -> Iterator[Entry]:
    for part in parts:
        for entry in part.read():
            yield replace(entry, corpus=f"{name} {part.split}")


def _duration(entry: Entry) -> float | None:
    """Seconds of the file, from its header; None where that is not libsndfile's to read."""
    try:
        return float(soundfile.info(entry.audio).duration)
    except soundfile.LibsndfileError:
        return None
