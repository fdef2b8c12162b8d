"""Machine translations for training, kept where a second system agrees, or taken from given pairs.

    lithophone train translate train.jsonl --lang en --out data/translations/train-en.jsonl \\
        --system "es:rules=apertium -f txt -u eng-spa" \\
        --system "es:pivot=apertium -f txt -u eng-cat | apertium -f txt -u cat-spa"
    lithophone train translate fr.txt --lang fr --limit 10000 --out data/translations/text-fr-en.tsv --system ...
    lithophone train translate ja.jsonl --lang ja --pairs en:ja=en-ja.tsv --cased en.txt --out ja-en.jsonl

A system, `LANG:NAME=COMMAND` with its target language, translates lines one to one. The first system of a language is
kept where another one, or a round trip (`--back LANG:NAME=COMMAND`, with its source language), agrees
(`lithophone.train.translation_filter`). An empty line drops its sentence. Translations are stored under their command,
so a run resumes.

A manifest becomes a manifest with `translations`; sentences become a table `source TAB translation`; a report counts
kept and dropped ones. A given pair belongs to the transcript equal to one of its sentences but for case and
punctuation; tokenised lower-case English is written in usual form.
"""

from __future__ import annotations

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
from lithophone.train.run.arguments import recipe_parser
from lithophone.train.translation_filter import Reason, TranslationVerdict, agreement_limit, judge, tally

CHUNK = 1000
"""Sentences per run of a command."""
SYSTEM = re.compile(r"(?P<lang>[A-Za-z-]+):(?P<name>[^=]+)=(?P<command>.+)")
PAIRS = re.compile(r"(?P<first>[A-Za-z-]+):(?P<second>[A-Za-z-]+)=(?P<path>.+)")
SAMPLES = 20
"""Kept and dropped sentences in the report."""


@dataclass(frozen=True)
class System:
    """A command that translates lines into `lang`, or from it (`--back`)."""

    lang: str
    name: str
    command: str


@dataclass(frozen=True)
class Group:
    """The systems of one language: the one to keep, others, and round trips."""

    lang: str
    first: System
    others: tuple[System, ...]
    back: tuple[System, ...]

    @property
    def systems(self) -> tuple[System, ...]:
        return (self.first, *self.others, *self.back)


@dataclass(frozen=True)
class Choice:
    """A sentence, its translation, the output of every system, and the verdict."""

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
    """Systems by language, in the order of the command line.

    Raises OptionError for a system of `lang` itself, a repeated name, or a language with a single system.
    """
    groups: dict[str, Group] = {}
    for target in dict.fromkeys(system.lang for system in (*forth, *back)):
        ahead, behind = ([s for s in systems if s.lang == target] for systems in (forth, back))
        names = [system.name for system in (*ahead, *behind)]
        if base_language(target) == base_language(lang):
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
    """Sentence -> translation, stored ones first.

    Raises OptionError if the command fails or writes another number of lines.
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
    """Complete lines of a store; an incomplete last line is removed."""
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
    """The command's output lines, white space collapsed.

    Apertium stops silently at a sentence that crashes one of its parts: where lines are missing, halves are tried until
    only that sentence is affected. Raises OptionError for a status other than 0, or several lines for a sentence.
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
    # pipefail: a failure of any command counts.
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
    """Lower-case word -> its most frequent form within sentences, if that has capitals."""
    forms: dict[str, Counter[str]] = defaultdict(Counter)
    for line in lines:
        starts = {found.start(3) for found in SENTENCE_START.finditer(line)}
        for found in WORD.finditer(line):
            if found.start() not in starts:
                forms[found[0].lower()][found[0]] += 1
    usual = {word: max(count, key=lambda form: (count[form], form)) for word, count in forms.items()}
    return {word: form for word, form in usual.items() if form != word}


def write_usually(text: str, names: Mapping[str, str]) -> str:
    """Tokenised lower-case English in usual form: `i can 't tell .` -> `I can't tell.`

    `names`: words with capitals (`usual_case`). A text with a capital letter keeps its case.
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
    """Capitalise as the source, and add opening marks to Spanish questions and exclamations."""
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

    The first translation of a sentence counts. Raises OptionError for another form of the option or languages without
    `lang`, ManifestError for a line without two columns.
    """
    found = PAIRS.fullmatch(option)
    bases = [base_language(code) for code in found.group("first", "second")] if found else []
    if not found or base_language(lang) not in bases:
        raise OptionError(f"--pairs {option!r} is not FIRST:SECOND=FILE with two languages, one of them {lang!r}")
    columns = found.group("first", "second")
    source = bases.index(base_language(lang))
    translations: dict[str, str] = {}
    for number, line in enumerate(read_lines(Path(found["path"])), start=1):
        texts = line.split("\t")
        if len(texts) != 2 or not all(text.strip() for text in texts):
            raise ManifestError(f"{found['path']}, line {number}: {line!r} is not two texts with a tab between them")
        target = texts[1 - source]
        usual = write_usually(target, names) if bases[1 - source] == "en" else target.strip()
        translations.setdefault(pair_key(texts[source], lang), usual)
    return columns[1 - source], translations


def pair_key(text: str, lang: str) -> str:
    """Key shared by two writings of a sentence; tokenised English is joined first."""
    return " ".join(units(write_usually(text, {}) if base_language(lang) == "en" else text, lang))


def read_lines(path: Path) -> list[str]:
    """Non-empty lines. Raises ManifestError if the file cannot be read."""
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read: {error}") from error


# --- what is kept ----------------------------------------------------------------------------------------------------


def choose(sentences: Sequence[str], group: Group, lang: str, cache: Path, limit: float | None) -> list[Choice]:
    """Sentences of `lang` with translations, judged by the other systems."""
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
    """Counts, with random samples of kept and of disagreeing translations."""
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
    """Clips of a manifest by language and corpora, or the sentences of any other file; `limit` are drawn.

    Raises ManifestError if none is left.
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
    """White space collapsed, NFC."""
    return unicodedata.normalize("NFC", " ".join(text.split()))


def translated(entries: Sequence[Entry], tables: Mapping[str, Mapping[str, str]]) -> list[Entry]:
    """Clips with a translation, their own or from the tables (language -> sentence -> translation)."""
    found = []
    for entry in entries:
        new = {lang: table[one_line(entry.text)] for lang, table in tables.items() if one_line(entry.text) in table}
        if translations := {**entry.translations, **new}:
            found.append(replace(entry, translations=translations))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
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
    parser.add_argument("--cache", type=Path, default=Path("data/translations/cache"), help="folder of translations")
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
