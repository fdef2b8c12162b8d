"""Cross-lingual pseudo-labels: human speech respelled by its phones in Japanese, Spanish or Portuguese.

    lithophone train loanwords speech/train.jsonl:fr@cv_delta_fr:3000 speech/train.jsonl:de --out data/ja.jsonl
    lithophone train loanwords speech/train.jsonl:de --into es --out data/es.jsonl

MANIFEST:LANG[@CORPUS][:CLIPS] takes the first CLIPS clips. Phones come from eSpeak NG. Clips keep ids, hence teacher
states; their language is `ja-t-LANG` (BCP 47), whose first part always conditions the encoder in training.

    pip install phonemizer-fork espeakng-loader
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from lithophone.ctc.characters import raw_text
from lithophone.data.manifest import Entry, read_entries, write_entries
from lithophone.errors import ManifestError, OptionError
from lithophone.languages import base_language
from lithophone.train.phonemes.to_kana import spelled_in_kana
from lithophone.train.phonemes.to_romance import ORTHOGRAPHIES, spelled_in_romance
from lithophone.train.run.arguments import recipe_parser

SPEECH_SYNTAX = "MANIFEST:LANG[@CORPUS][:CLIPS]"
ESPEAK_NAME = {"en": "en-gb", "fr": "fr-fr", "de": "de"}
MUTED_SCHWA = ("fr",)
INTO = ("ja", *ORTHOGRAPHIES)


def phonemizer(lang: str) -> Callable[[Sequence[str]], list[str]]:
    """Texts -> words separated by spaces, of phones separated by `_`."""
    import espeakng_loader
    from phonemizer.backend import EspeakBackend
    from phonemizer.backend.espeak.wrapper import EspeakWrapper
    from phonemizer.separator import Separator

    EspeakWrapper.set_library(espeakng_loader.get_library_path())
    EspeakWrapper.set_data_path(espeakng_loader.get_data_path())
    backend = EspeakBackend(ESPEAK_NAME[lang], with_stress=False, language_switch="remove-flags")
    separator = Separator(phone="_", word=" ")
    return lambda texts: backend.phonemize(list(texts), separator=separator, strip=True)


def respelled(entries: Sequence[Entry], lang: str, into: str, dropped: Counter[str]) -> Iterator[Entry]:
    """Entries respelled in `into`; counts dropped ones, such as those with digits, whose reading is unknown."""
    with_text = [entry for entry in entries if raw_text(entry.text)]
    plain = [entry for entry in with_text if not any(c.isdigit() for c in entry.text)]
    dropped.update({"no text": len(entries) - len(with_text), "digits": len(with_text) - len(plain)})
    phones = phonemizer(lang)([raw_text(entry.text) for entry in plain])
    for entry, words in zip(plain, phones, strict=True):
        try:
            text = spelled([word.split("_") for word in words.split()], into, muted_schwa=lang in MUTED_SCHWA)
        except ValueError as error:
            dropped[str(error).split(":")[0]] += 1
            continue
        yield replace(entry, text=text, lang=f"{into}-t-{lang}", words=(), keywords=(), translations={})


def spelled(words: Sequence[Sequence[str]], into: str, muted_schwa: bool) -> str:
    if into == "ja":
        return spelled_in_kana(words, muted_schwa)
    return spelled_in_romance(words, into, muted_schwa)


def chosen(spec: str) -> tuple[str, list[Entry]]:
    """Language and entries of `MANIFEST:LANG[@CORPUS][:CLIPS]`.

    Raises OptionError for an unsupported language, ManifestError without entries.
    """
    manifest, which, count, *_ = [*spec.split(":"), "", ""]
    lang, _, corpus = which.partition("@")
    lang = base_language(lang)
    if lang not in ESPEAK_NAME or not (count or "0").isdecimal():
        raise OptionError(f"{spec} must be {SPEECH_SYNTAX}, and LANG one of {', '.join(ESPEAK_NAME)}")
    entries = [entry for entry in read_entries(manifest, lang) if corpus in ("", entry.corpus)]
    if not entries:
        raise ManifestError(f"{manifest} has no clips of {which!r}: name a corpus that it has")
    return lang, entries[: int(count) if count else None]


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("speech", nargs="+", metavar=SPEECH_SYNTAX, help="clips to spell")
    parser.add_argument("--into", choices=INTO, default="ja", help="language of the spelling")
    parser.add_argument("--out", type=Path, required=True, help="the manifest to write")
    args = parser.parse_args(argv)
    dropped: Counter[str] = Counter()
    written: list[Entry] = []
    for spec in args.speech:
        lang, entries = chosen(spec)
        written += respelled(entries, lang, args.into, dropped)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_entries(args.out, written)
    print(f"{len(written)} clips in {args.out}; dropped: {dict(dropped)}")


if __name__ == "__main__":
    main()
