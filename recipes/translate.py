"""Transcripts -> translations that a second system confirms; or that are given as pairs.

    python recipes/translate.py train.jsonl --lang en --out data/translations/train-en.jsonl \\
        --system "es:rules=apertium -f txt -u eng-spa" \\
        --system "es:pivot=apertium -f txt -u eng-cat | apertium -f txt -u cat-spa"
    python recipes/translate.py fr.txt --lang fr --limit 10000 --out data/translations/text-fr-en.tsv --system ...
    python recipes/translate.py ja.jsonl --lang ja --pairs en:ja=en-ja.tsv --cased en.txt --out ja-en.jsonl

A system is any command that reads sentences, one a line, and writes a line for each, named `LANG:NAME=COMMAND` with the
language it writes. What the first one named for a language says is kept wherever another one for that language agrees
with it, or one that translates back from it (`--back LANG:NAME=COMMAND`, with the language it reads) agrees with the
transcript (`lithophone.train.translation_filter`). Chains through different languages are different systems as far as
they share no step. An empty line drops its sentence: a command may say so that it does not know a word. Translations
are stored as soon as they are made, under the command that made them, so a run that was stopped goes on where it was.

Out of a manifest comes a manifest of the clips with a translation, as `translations`; out of sentences a table of lines
`source TAB translation`. The report beside it says what was kept, what was dropped and why. Of the two sentences of a
pair the one in `--lang` must be the transcript, but for case and marks; English that is tokenised and in lower case is
written as usual.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import subprocess
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lithophone.data.manifest import Entry, read_entries, write_entries
from lithophone.errors import ManifestError, OptionError
from lithophone.languages import base_language
from lithophone.metrics.wer import measure_name, units
from lithophone.train.translation_filter import Reason, TranslationVerdict, agreement_limit, judge, tally

CHUNK = 1000
"""Sentences that a command gets at once: what is lost when it is stopped, against how often it has to start."""
SYSTEM = re.compile(r"(?P<lang>[A-Za-z-]+):(?P<name>[^=]+)=(?P<command>.+)")
PAIRS = re.compile(r"(?P<first>[A-Za-z-]+):(?P<second>[A-Za-z-]+)=(?P<path>.+)")
SAMPLES = 20
"""Sentences of every kind that the report shows."""


@dataclass(frozen=True)
class System:
    """A command that translates lines: into `lang`, or back from it."""

    lang: str
    name: str
    command: str


@dataclass(frozen=True)
class Group:
    """The systems of one language: the one whose translations are kept, others, and those that translate back."""

    lang: str
    first: System
    others: tuple[System, ...]
    back: tuple[System, ...]

    @property
    def systems(self) -> tuple[System, ...]:
        return (self.first, *self.others, *self.back)


@dataclass(frozen=True)
class Choice:
    """What became of one sentence: the translation, what every system said, and the verdict."""

    source: str
    translation: str
    said: dict[str, str]
    verdict: TranslationVerdict


def parse_system(text: str) -> System:
    """`LANG:NAME=COMMAND`. Raises OptionError for anything else."""
    found = SYSTEM.fullmatch(text)
    if not found:
        raise OptionError(f"system {text!r} is not LANG:NAME=COMMAND, for example 'es:rules=apertium -u eng-spa'")
    return System(**found.groupdict())


def group_systems(forth: Sequence[System], back: Sequence[System], lang: str) -> dict[str, Group]:
    """The systems of every language, in the order they were named in.

    Raises OptionError for a system of `lang` itself, a name that comes twice, and a language in which nothing confirms
    the first system.
    """
    groups: dict[str, Group] = {}
    for target in dict.fromkeys(system.lang for system in (*forth, *back)):
        ahead, behind = ([s for s in systems if s.lang == target] for systems in (forth, back))
        names = [system.name for system in (*ahead, *behind)]
        if target == lang:
            raise OptionError(
                f"system {names[0]!r} is for {target!r}, the language of the transcripts: name another one"
            )
        if repeated := [name for name, count in Counter(names).items() if count > 1]:
            raise OptionError(f"two systems for {target!r} are named {repeated[0]!r}: give each its own name")
        if not ahead or len(names) < 2:
            raise OptionError(f"{target!r} has {names}: name a --system, and another one or a --back to agree with it")
        groups[target] = Group(target, ahead[0], tuple(ahead[1:]), tuple(behind))
    return groups


# --- systems: commands whose answers are stored ----------------------------------------------------------------------


def translate_all(system: System, sentences: Iterable[str], cache: Path) -> dict[str, str]:
    """Sentence -> what the system makes of it, out of the store where it is there already.

    Raises OptionError where the command fails or writes another number of lines.
    """
    path = cache / f"{hashlib.sha256(system.command.encode()).hexdigest()[:16]}.jsonl"
    known = read_store(path)
    wanted = list(dict.fromkeys(sentences))
    missing = [sentence for sentence in wanted if sentence not in known]
    for start in range(0, len(missing), CHUNK):
        part = missing[start : start + CHUNK]
        answers = list(zip(part, run_system(system, part), strict=True))
        append_store(path, answers)
        known.update(answers)
        print(f"{system.lang}:{system.name} {start + len(part)}/{len(missing)}", flush=True)
    return {sentence: known[sentence] for sentence in wanted}


def read_store(path: Path) -> dict[str, str]:
    """All whole lines of a store; a last line that was cut off is taken away, so that the next one starts afresh."""
    if not path.exists():
        return {}
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        os.truncate(path, len(whole))
    return dict(json.loads(line) for line in whole.decode("utf-8").split("\n") if line)


def append_store(path: Path, answers: Sequence[tuple[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write("".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers).encode("utf-8"))
        file.flush()
        os.fsync(file.fileno())


def run_system(system: System, sentences: Sequence[str]) -> list[str]:
    """What the command writes for these lines, white space collapsed.

    Apertium stops at a sentence that one of its parts dies of, and says nothing. So where there is not a line for each,
    the sentences are asked for again in halves, and only the one in question is empty or cut off. Raises OptionError
    where the command ends with another status than 0, or writes several lines for one sentence.
    """
    lines = _lines_of(system, sentences)
    if len(lines) == len(sentences):
        return [" ".join(line.split()) for line in lines]
    if len(sentences) == 1:
        raise OptionError(
            f"system {system.name!r} wrote {len(lines)} lines for {sentences[0]!r}: "
            f"it must write one for each sentence, in their order: {system.command}"
        )
    half = len(sentences) // 2
    return run_system(system, sentences[:half]) + run_system(system, sentences[half:])


def _lines_of(system: System, sentences: Sequence[str]) -> list[str]:
    text = "".join(f"{sentence}\n" for sentence in sentences)
    # Without pipefail a chain whose first part died would count as well.
    command = ["bash", "-o", "pipefail", "-c", system.command]
    done = subprocess.run(command, input=text.encode("utf-8"), capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-500:]
        raise OptionError(
            f"system {system.name!r} ended with status {done.returncode}: {said or 'it said nothing'}; "
            f"try its command by hand: {system.command}"
        )
    return done.stdout.decode("utf-8", "replace").removesuffix("\n").split("\n")


# --- texts as people write them --------------------------------------------------------------------------------------

CLITIC = re.compile(r"\s+(n't|'(?:s|m|re|ve|ll|d|em|t))(?![^\W_])", re.IGNORECASE)
NEGATION = re.compile(
    r"\b(can|won|don|doesn|didn|isn|aren|wasn|weren|haven|hasn|hadn|couldn|wouldn|shouldn|mustn|ain) 't\b"
)
BEFORE_MARK = re.compile(r"\s+([.,!?;:%)\]])")
BEHIND_BRACKET = re.compile(r"([(\[$])\s+")
CLOCK = re.compile(r"\bo 'clock\b")
TITLED = re.compile(r"\b(mr|mrs|ms|dr)\b(\.? )(\w)", re.IGNORECASE)
OMITTED = re.compile(r"(?<=[sn]) '(?=\s|$)")
QUOTED = re.compile(r'"\s*([^"]*?)\s*"')
FIRST_PERSON = re.compile(r"\bi\b(?=$|[ ,.!?;:'])")
SENTENCE_START = re.compile(r"(^|[.!?]\s+|, (?=\"))([\"'(]*)([^\W\d_])")
WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")
SPANISH_SENTENCE = re.compile(r"(^|(?<=[.!?…] ))([^.!?¿¡…]+)([?!])")


def usual_case(lines: Iterable[str]) -> dict[str, str]:
    """Lower-cased word -> the form that it mostly has inside of sentences, where that has capitals."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        starts = {found.start(3) for found in SENTENCE_START.finditer(line)}
        for found in WORD.finditer(line):
            if found.start() not in starts:
                forms[found[0].lower()][found[0]] += 1
    usual = {word: max(count, key=lambda form: (count[form], form)) for word, count in forms.items()}
    return {word: form for word, form in usual.items() if form != word}


def write_usually(text: str, names: Mapping[str, str]) -> str:
    """Tokenised English in lower case -> English as it is written: `i can 't tell .` -> `I can't tell.`

    `names` has the words with capitals (`usual_case`). A text that has a capital letter keeps its case.
    """
    text = CLOCK.sub("o'clock", NEGATION.sub(r"\1't", " ".join(text.replace("''", '"').split())))
    text = BEFORE_MARK.sub(r"\1", OMITTED.sub("'", CLITIC.sub(r"\1", text)))
    text = QUOTED.sub(r'"\1"', BEHIND_BRACKET.sub(r"\1", text))
    if text != text.lower():
        return text
    text = WORD.sub(lambda word: _name(word[0], names), text)
    text = FIRST_PERSON.sub("I", TITLED.sub(lambda name: name[1].title() + name[2] + name[3].upper(), text))
    return SENTENCE_START.sub(lambda start: start[1] + start[2] + start[3].upper(), text)


def _name(word: str, names: Mapping[str, str]) -> str:
    if word in names:
        return names[word]
    stem, quote, ending = word.partition("'")
    return names.get(stem, stem) + quote + ending


def tidy(source: str, translation: str, lang: str) -> str:
    """The translation begins with a capital where its source does; Spanish questions and calls are opened."""
    if source[:1].isupper():
        translation = translation[:1].upper() + translation[1:]
    if base_language(lang) == "es":
        translation = SPANISH_SENTENCE.sub(_opened, translation)
    return translation


def _opened(sentence: re.Match[str]) -> str:
    return f"{sentence[1]}{'¿' if sentence[3] == '?' else '¡'}{sentence[2]}{sentence[3]}"


# --- pairs that are given --------------------------------------------------------------------------------------------


def given_pairs(option: str, lang: str, names: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """`FIRST:SECOND=FILE` of lines `text TAB text` -> the language that is not `lang`, and source key -> translation.

    Of several translations of a sentence the first one is taken. Raises OptionError for another form of the option or
    languages without `lang`, ManifestError for a line that has no two columns.
    """
    found = PAIRS.fullmatch(option)
    if not found or lang not in found.group("first", "second"):
        raise OptionError(f"--pairs {option!r} is not FIRST:SECOND=FILE with two languages, one of them {lang!r}")
    columns = found.group("first", "second")
    source = columns.index(lang)
    translations: dict[str, str] = {}
    for number, line in enumerate(read_lines(Path(found["path"])), start=1):
        texts = line.split("\t")
        if len(texts) != 2 or not all(text.strip() for text in texts):
            raise ManifestError(f"{found['path']}, line {number}: {line!r} is not two texts with a tab between them")
        target = texts[1 - source]
        usual = write_usually(target, names) if columns[1 - source] == "en" else target.strip()
        translations.setdefault(pair_key(texts[source], lang), usual)
    return columns[1 - source], translations


def pair_key(text: str, lang: str) -> str:
    """What two writings of a sentence have in common; tokenised English is put together first."""
    return " ".join(units(write_usually(text, {}) if lang == "en" else text, lang))


def read_lines(path: Path) -> list[str]:
    """Lines that are not empty. Raises ManifestError if the file cannot be read."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error


# --- what is kept ----------------------------------------------------------------------------------------------------


def choose(sentences: Sequence[str], group: Group, lang: str, cache: Path, limit: float | None) -> list[Choice]:
    """Every sentence of `lang` with its translation, judged by what the other systems say."""
    firsts = translate_all(group.first, sentences, cache)
    others = {system.name: translate_all(system, sentences, cache) for system in group.others}
    returned = {system.name: translate_all(system, filter(None, firsts.values()), cache) for system in group.back}
    choices = []
    for sentence, first in firsts.items():
        beside = {name: answers[sentence] for name, answers in others.items()}
        back = {name: answers.get(first, "") for name, answers in returned.items()}
        langs = lang, group.lang
        verdict = judge(sentence, first, langs, others=[*beside.values()], back=[*back.values()], limit=limit)
        said = {group.first.name: first, **beside, **back}
        choices.append(Choice(sentence, tidy(sentence, first, group.lang), said, verdict))
    return choices


def report_of(choices: Sequence[Choice], group: Group, lang: str, limit: float | None) -> dict[str, object]:
    """Counts of sentences, with samples of what was kept and of what was dropped for disagreement, drawn by a seed."""
    limits = {code: agreement_limit(code) if limit is None else limit for code in (group.lang, lang)}
    kept = [choice for choice in choices if choice.verdict.kept]
    dropped = [choice for choice in choices if choice.verdict.reason is Reason.DISAGREE]
    rng = random.Random(0)
    return {
        "kept_system": group.first.name,
        "systems": {system.name: system.command for system in group.systems},
        "limits": {code: f"{measure_name(code)} {rate:g}" for code, rate in limits.items()},
        "sentences": len(choices),
        **tally([choice.verdict for choice in choices]),
        "kept_by_another": sum(choice.verdict.rate <= limits[group.lang] for choice in kept),
        "kept_by_return": sum(choice.verdict.back_rate <= limits[lang] for choice in kept),
        "kept_samples": [[c.source, c.translation] for c in rng.sample(kept, min(SAMPLES, len(kept)))],
        "dropped_samples": [{"source": c.source, **c.said} for c in rng.sample(dropped, min(SAMPLES, len(dropped)))],
    }


def source_sentences(path: Path, lang: str, corpora: Sequence[str], limit: int | None) -> list[Entry] | list[str]:
    """Clips of a manifest in the language and in the corpora, or the sentences of any other file; `limit` are drawn.

    Raises ManifestError where nothing is left.
    """
    found: list[Entry] | list[str]
    if path.suffix == ".jsonl":
        found = [e for e in read_entries(path, lang) if e.text.strip() and (not corpora or e.corpus in corpora)]
    else:
        found = [line.strip() for line in read_lines(path) if "\t" not in line.strip()]
    if not found:
        raise ManifestError(f"{path} has no sentences in {lang!r} {f'of {list(corpora)}' if corpora else ''}")
    if limit is not None and limit < len(found):
        places = sorted(random.Random(0).sample(range(len(found)), limit))
        return [found[place] for place in places]  # type: ignore[return-value]
    return found


def one_line(text: str) -> str:
    """White space collapsed and letters composed (NFC), which is how systems know them."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def translated(entries: Sequence[Entry], tables: Mapping[str, Mapping[str, str]]) -> list[Entry]:
    """The clips that have a translation: those of the tables (language -> sentence -> translation) and their own."""
    found = []
    for entry in entries:
        new = {lang: table[one_line(entry.text)] for lang, table in tables.items() if one_line(entry.text) in table}
        if translations := {**entry.translations, **new}:
            found.append(replace(entry, translations=translations))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="a manifest (.jsonl), or sentences, one a line")
    parser.add_argument("--lang", required=True, help="language of the transcripts")
    parser.add_argument("--out", type=Path, required=True, help="manifest, or for sentences a table of one language")
    for name, form, what in (
        ("--system", "LANG:NAME=COMMAND", "translates into LANG; the first one's words are kept"),
        ("--back", "LANG:NAME=COMMAND", "translates LANG back"),
        ("--pairs", "FIRST:SECOND=FILE", "translations to take as they are"),
    ):
        parser.add_argument(name, action="append", default=[], metavar=form, help=what)
    parser.add_argument("--cased", type=Path, help="English sentences to learn from which words have capitals")
    parser.add_argument("--corpora", nargs="*", default=[], help="only these of the manifest")
    parser.add_argument("--limit", type=int, help="draw so many of the sentences")
    parser.add_argument("--agreement", type=float, help="highest error rate between systems; default 0.3, CER 0.4")
    parser.add_argument("--cache", type=Path, default=Path("data/translations/cache"))
    args = parser.parse_args(argv)

    forth, back = ([parse_system(text) for text in texts] for texts in (args.system, args.back))
    groups = group_systems(forth, back, args.lang)
    names = usual_case(read_lines(args.cased)) if args.cased else {}
    pairs = [given_pairs(option, args.lang, names) for option in args.pairs]
    targets = {*groups, *(target for target, _ in pairs)}
    if not targets:
        raise OptionError("nothing translates: name a --system and a second one or a --back, or --pairs")
    of_clips = args.source.suffix == ".jsonl"
    if not of_clips and len(targets) > 1:
        raise OptionError(f"a table has one language, not {', '.join(sorted(targets))}: run once for each")

    source = source_sentences(args.source, args.lang, args.corpora, args.limit)
    sentences = list(dict.fromkeys(one_line(item.text if isinstance(item, Entry) else item) for item in source))
    report: dict[str, object] = {"source": str(args.source), "lang": args.lang, "sentences": len(sentences)}
    tables: dict[str, dict[str, str]] = defaultdict(dict)
    for option, (target, given) in zip(args.pairs, pairs, strict=True):
        found = {sentence: given[key] for sentence in sentences if (key := pair_key(sentence, args.lang)) in given}
        tables[target] |= found
        report[f"{target} of pairs"] = {"pairs": option, "kept": len(found)}
    for target, group in groups.items():
        asked = [sentence for sentence in sentences if sentence not in tables[target]]
        choices = choose(asked, group, args.lang, args.cache, args.agreement)
        tables[target] |= {choice.source: choice.translation for choice in choices if choice.verdict.kept}
        report[target] = report_of(choices, group, args.lang, args.agreement)

    args.out.parent.mkdir(parents=True, exist_ok=True)
    if of_clips:
        clips = translated([item for item in source if isinstance(item, Entry)], tables)
        report["clips"], report["clips_kept"] = len(source), len(clips)
    report_path = args.out.with_suffix(".json")
    report_path.write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    if not any(tables.values()):
        raise OptionError(f"no translation of {args.source} was kept: {report_path} says why")
    if of_clips:
        write_entries(args.out, clips)
    else:
        (table,) = tables.values()
        lines = [f"{sentence}\t{table[sentence]}\n" for sentence in sentences if sentence in table]
        args.out.write_text("".join(lines), encoding="utf-8")
    print(*(f"{target}: {len(table)} of {len(sentences)} sentences kept" for target, table in tables.items()), sep="\n")


if __name__ == "__main__":
    main()
