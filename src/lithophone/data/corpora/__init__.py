"""Readers of public sets: an unpacked folder in the published layout -> entries.

    librispeech     LibriSpeech/test-clean/1089/134686/1089-134686.trans.txt      openslr.org/12
    librispeech-pc  test-clean.json beside or in the folder of LibriSpeech        openslr.org/145
    mls             mls_german/test/transcripts.txt                               openslr.org/94
    timit           TEST/DR1/FAKS0/SA1.TXT, .WRD, .WAV                            LDC93S1
    common-voice    cv-corpus-20.0/de/test.tsv and clips/                         commonvoice.mozilla.org
    covost2         the same with covost_v2.de_en.test.tsv                        github.com/facebookresearch/covost
    fleurs          data/de_de/test.tsv and audio/test/                           huggingface.co/datasets/google/fleurs
    voxpopuli       transcribed_data/de/asr_test.tsv                              github.com/facebookresearch/voxpopuli
    spgispeech      val.csv and val/                                              datasets.kensho.com
    ami             amicorpus/ and ami_public_manual_1.6.2/: headset utterances   groups.inf.ed.ac.uk/ami/corpus
    ami-sdm         the same: meetings, one distant microphone
    earnings22      earnings22/media/ and transcripts/: calls                     github.com/revdotcom/speech-datasets
    tedlium         legacy/test/stm/ and sph/                                     openslr.org/51, /19 and /7
    gigaspeech      GigaSpeech.json and audio/                                    github.com/SpeechColab/GigaSpeech

Texts are unchanged. Parquet (Hugging Face hub) is not read: convert to files and a manifest.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path

from lithophone.data.corpora.ami import ami, ami_sdm
from lithophone.data.corpora.common_voice import common_voice, covost2
from lithophone.data.corpora.duration import duration_s
from lithophone.data.corpora.earnings22 import earnings22
from lithophone.data.corpora.fleurs import fleurs
from lithophone.data.corpora.gigaspeech import gigaspeech
from lithophone.data.corpora.layout import Part, Reader
from lithophone.data.corpora.librispeech import librispeech, librispeech_pc
from lithophone.data.corpora.mls import mls
from lithophone.data.corpora.spgispeech import spgispeech
from lithophone.data.corpora.tedlium import tedlium
from lithophone.data.corpora.timit import timit
from lithophone.data.corpora.voxpopuli import voxpopuli
from lithophone.data.manifest import Entry
from lithophone.errors import ManifestError, OptionError
from lithophone.languages import is_language


@dataclass(frozen=True)
class Corpus:
    """Reader of a set, and its default splits (a shell pattern)."""

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
    """Entries of a public set, in its order; `corpus` is the set's name and split.

    split: the set's name of it, or a shell pattern; by default the test splits.
    lang: a language (`zh` includes `zh-CN`); by default all.

    Raises OptionError for an unknown set, split or language, with those available; ManifestError for another folder,
    unreadable lines, and missing files.
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
    return [
        entry if entry.duration_s is not None else replace(entry, duration_s=duration_s(entry.audio))
        for entry in entries
    ]


def _chosen(name: str, parts: Sequence[Part], split: str | None, lang: str | None) -> list[Part]:
    spoken = [part for part in parts if is_language(part.lang, lang)]
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
