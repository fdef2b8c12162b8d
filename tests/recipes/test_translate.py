"""Translation by two systems: small programs stand for them; what is kept, resumed, refused and reported."""

from __future__ import annotations

import importlib
import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lithophone.data.manifest import read_entries
from lithophone.errors import ManifestError, OptionError
from tests.conftest import ROOT

GOOD = {
    "The red house.": "La casa roja.",
    "A white dog runs.": "Un perro blanco corre.",
    "Where is my book?": "dónde está mi libro?",
    "Strange words only.": "",
    "Paris.": "Paris.",
}
OTHER = GOOD | {"A white dog runs.": "Otra cosa muy distinta es.", "The red house.": "la casa roja"}

FAKE = """
import json, os, signal, sys
table, log, trap = sys.argv[1:4]
answers = json.load(open(table, encoding="utf-8"))
lines = sys.stdin.read().splitlines()
if os.path.exists(trap) and any("book" in line for line in lines):
    if open(trap).read() == "kill":
        os.kill(os.getppid(), signal.SIGKILL)
    sys.exit("out of words")
with open(log, "a", encoding="utf-8") as file:
    file.writelines(line + chr(10) for line in lines)
print(*(answers.get(line, line) for line in lines), sep=chr(10))
"""


@pytest.fixture
def translate(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "recipes"))
    return importlib.import_module("translate")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    rows: list[dict[str, object]] = [{"text": text, "lang": "en", "corpus": "cased"} for text in GOOD]
    rows += [{"text": "LA PORTE", "lang": "fr"}, {"text": "THE DOOR", "lang": "en", "corpus": "upper"}]
    rows += [{"text": "The red house.", "lang": "en", "corpus": "cased", "speaker": "again"}]
    for i in range(len(rows)):
        (folder / f"{i}.wav").touch()
    path = folder / "all.jsonl"
    path.write_text("".join(json.dumps({"audio": f"{i}.wav"} | row) + "\n" for i, row in enumerate(rows)))
    return path


def fake(folder: Path, name: str, answers: dict[str, str], lang: str = "es") -> str:
    """The option for a system that says these answers, notes what it was target, and falls over its trap."""
    (folder / "fake.py").write_text(FAKE)
    (folder / f"{name}.json").write_text(json.dumps(answers))
    paths = [
        sys.executable,
        *(str(folder / file) for file in ("fake.py", f"{name}.json", f"{name}.log", f"{name}.trap")),
    ]
    return f"{lang}:{name}={shlex.join(paths)}"


def target(folder: Path, name: str) -> list[str]:
    path = folder / f"{name}.log"
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def run(translate: ModuleType, source: Path, out: Path, *options: str) -> dict[str, Any]:
    translate.main([str(source), "--lang", "en", "--out", str(out), "--cache", str(out.parent / "cache"), *options])
    report: dict[str, Any] = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    return report


def two(folder: Path) -> list[str]:
    return ["--system", fake(folder, "one", GOOD), "--system", fake(folder, "two", OTHER)]


def test_what_agrees_is_kept_and_the_rest_is_accounted_for(
    translate: ModuleType, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "translations" / "cased.jsonl"
    report = run(translate, manifest, out, *two(tmp_path), "--corpora", "cased")
    entries = read_entries(out)
    assert [(entry.text, dict(entry.translations)) for entry in entries] == [
        ("The red house.", {"es": "La casa roja."}),
        ("Where is my book?", {"es": "¿Dónde está mi libro?"}),
        ("The red house.", {"es": "La casa roja."}),
    ]
    assert [entry.audio.resolve() for entry in entries] == [manifest.parent / f"{i}.wav" for i in (0, 2, 7)]
    assert entries[-1].speaker == "again"
    spanish = report["es"]
    counts = ("sentences", "kept", "kept_by_another", "kept_by_return", "disagree", "untranslated", "empty")
    assert [spanish[key] for key in counts] == [5, 2, 2, 0, 1, 1, 1]
    assert (spanish["kept_system"], spanish["limits"]) == ("one", {"es": "WER 0.3", "en": "WER 0.3"})
    assert set(spanish["systems"]) == {"one", "two"}
    assert (report["clips"], report["clips_kept"]) == (6, 3)
    dog = "A white dog runs."
    assert spanish["dropped_samples"] == [{"source": dog, "one": GOOD[dog], "two": OTHER[dog]}]
    assert target(tmp_path, "one") == list(GOOD)


def test_what_translates_back_to_the_transcript_is_kept(translate: ModuleType, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    back = fake(
        tmp_path, "back", {"La casa roja.": "The (old) red house!", "Un perro blanco corre.": "The white dog ran."}
    )
    report = run(
        translate, manifest, out, "--system", fake(tmp_path, "one", GOOD), "--back", back, "--corpora", "cased"
    )
    assert {entry.text for entry in read_entries(out)} == {"The red house."}
    assert (report["es"]["kept_by_another"], report["es"]["kept_by_return"]) == (0, 1)
    assert target(tmp_path, "back") == [text for text in GOOD.values() if text]


def test_languages_are_added_to_those_that_are_there(translate: ModuleType, manifest: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    run(translate, manifest, first, *two(tmp_path), "--corpora", "cased")
    french = {"The red house.": "La maison rouge."}
    options = [fake(tmp_path, name, french, "fr") for name in ("three", "four")]
    run(translate, first, second, "--system", options[0], "--system", options[1])
    found = {entry.text: dict(entry.translations) for entry in read_entries(second)}
    assert found["The red house."] == {"es": "La casa roja.", "fr": "La maison rouge."}
    assert set(found["Where is my book?"]) == {"es"}


def test_a_table_of_sentences(translate: ModuleType, tmp_path: Path) -> None:
    source, out = tmp_path / "en.txt", tmp_path / "en-es.tsv"
    source.write_text("".join(f" {text}  \n\n" for text in (*GOOD, "The red house.")))
    run(translate, source, out, *two(tmp_path), "--agreement", "0")
    lines = out.read_text(encoding="utf-8").splitlines()
    assert lines == ["The red house.\tLa casa roja.", "Where is my book?\t¿Dónde está mi libro?"]
    drawn = run(translate, source, out, *two(tmp_path), "--limit", "2")
    assert drawn["sentences"] == 2
    (tmp_path / "en-fr.tsv").write_text("Yes.\tOui.\n")
    with pytest.raises(OptionError, match="a table has one language, not es, fr"):
        run(translate, source, out, *two(tmp_path), "--pairs", f"en:fr={tmp_path / 'en-fr.tsv'}")


@pytest.mark.full
def test_a_killed_run_goes_on_where_it_was(translate: ModuleType, manifest: Path, tmp_path: Path) -> None:
    whole, out = tmp_path / "whole.jsonl", tmp_path / "broken" / "out.jsonl"
    options = [*two(tmp_path), "--corpora", "cased"]
    run(translate, manifest, whole, *options)
    (tmp_path / "one.log").unlink()
    (tmp_path / "one.trap").write_text("kill")
    program = "import sys, translate; translate.CHUNK = 1; translate.main(sys.argv[1:])"
    arguments = [str(manifest), "--lang", "en", "--out", str(out), "--cache", str(out.parent / "cache"), *options]
    path = os.pathsep.join([str(ROOT / "recipes"), str(ROOT / "src")])
    environment = {**os.environ, "PYTHONPATH": path}
    dead = subprocess.run(
        [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, check=False
    )
    assert dead.returncode == -signal.SIGKILL
    assert target(tmp_path, "one") == list(GOOD)[:2]
    assert not out.exists()
    (tmp_path / "one.trap").unlink()
    run(translate, manifest, out, *options)
    assert target(tmp_path, "one") == list(GOOD)
    assert read_entries(out) == read_entries(whole)
    run(translate, manifest, out, *options)
    assert target(tmp_path, "one") == list(GOOD)


def test_a_store_that_was_cut_off_in_a_line_loses_that_line_only(translate: ModuleType, tmp_path: Path) -> None:
    system = translate.parse_system(fake(tmp_path, "one", GOOD))
    cache = tmp_path / "cache"
    assert translate.translate_all(system, GOOD, cache) == GOOD
    (store,) = cache.iterdir()
    store.write_bytes(store.read_bytes()[:-5])
    assert translate.translate_all(system, GOOD, cache) == GOOD
    assert target(tmp_path, "one") == [*GOOD, "Paris."]
    assert translate.read_store(store) == GOOD


def test_a_sentence_that_a_system_dies_of_takes_no_other_with_it(translate: ModuleType, tmp_path: Path) -> None:
    system = translate.parse_system("es:dies=awk '/book/ {exit} {print toupper($0)}'")
    expected = {text: "" if "book" in text else text.upper() for text in GOOD}
    assert translate.translate_all(system, GOOD, tmp_path) == expected


def test_a_system_that_fails_is_named(translate: ModuleType, tmp_path: Path) -> None:
    system = translate.parse_system(fake(tmp_path, "one", GOOD))
    (tmp_path / "one.trap").write_text("fail")
    with pytest.raises(OptionError, match="'one' ended with status 1: out of words; try its command by hand: "):
        translate.translate_all(system, GOOD, tmp_path)
    with pytest.raises(OptionError, match=r"'twice' wrote 2 lines for 'The red house\.': .* sed p"):
        translate.translate_all(translate.parse_system("es:twice=sed p"), GOOD, tmp_path)
    with pytest.raises(OptionError, match="'chain' ended with status 3: it said nothing"):
        translate.translate_all(translate.parse_system("es:chain=(cat; exit 3) | cat"), GOOD, tmp_path)
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--system", "apertium"], "'apertium' is not LANG:NAME=COMMAND"),
        (["--system", "es:one=cat"], r"'es' has \['one'\]: name a --system, and another one or a --back"),
        (["--back", "es:one=cat", "--back", "es:two=cat"], r"'es' has \['one', 'two'\]: name a --system"),
        (["--system", "es:one=cat", "--back", "es:one=cat -u"], "two systems for 'es' are named 'one'"),
        (["--system", "en:one=cat", "--system", "en:two=cat"], "'one' is for 'en', the language of the transcripts"),
        (["--pairs", "fr:ja=a.tsv"], "'fr:ja=a.tsv' is not FIRST:SECOND=FILE with two languages, one of them 'en'"),
        (["--pairs", "en=a.tsv"], "'en=a.tsv' is not FIRST:SECOND=FILE"),
        ([], "nothing translates"),
    ],
)
def test_options_that_do_not_work(
    translate: ModuleType, manifest: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        run(translate, manifest, tmp_path / "out.jsonl", *options)


def test_sources_that_have_nothing(translate: ModuleType, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"has no sentences in 'en' of \['none'\]"):
        run(translate, manifest, tmp_path / "out.jsonl", *two(tmp_path), "--corpora", "none")
    with pytest.raises(ManifestError, match="cannot be read"):
        run(translate, tmp_path / "none.txt", tmp_path / "out.tsv", *two(tmp_path))


def test_nothing_kept_is_no_manifest(translate: ModuleType, manifest: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    with pytest.raises(OptionError, match=r"no translation of .*all\.jsonl was kept: .*out\.json says why"):
        run(translate, manifest, out, "--system", fake(tmp_path, "one", GOOD), "--back", fake(tmp_path, "two", {}))
    assert json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))["es"]["disagree"] == 3
    assert not out.exists()


def test_given_pairs_need_no_system(translate: ModuleType, tmp_path: Path) -> None:
    pairs, cased, source = tmp_path / "en-ja.tsv", tmp_path / "en.txt", tmp_path / "ja.jsonl"
    pairs.write_text(
        "emi can 't leave tokyo .\tエミは東京を離れられません。\ni 'm home .\tただいま。\ni 'm back !\tただいま\n"
    )
    cased.write_text("We saw Tokyo.\nHe left Tokyo, and the others.\n")
    (tmp_path / "a.wav").touch()
    texts = ("エミは東京を離れられません。", "ただいま！", "知りません。")
    source.write_text("".join(json.dumps({"audio": "a.wav", "text": text, "lang": "ja"}) + "\n" for text in texts))
    out = tmp_path / "out.jsonl"
    options = ["--lang", "ja", "--pairs", f"en:ja={pairs}", "--cased", str(cased), "--out", str(out)]
    translate.main([str(source), *options])
    assert {entry.text: dict(entry.translations) for entry in read_entries(out)} == {
        texts[0]: {"en": "Emi can't leave Tokyo."},
        texts[1]: {"en": "I'm home."},
    }
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["en of pairs"]["kept"] == 2
    pairs.write_text("no tab here\n")
    with pytest.raises(ManifestError, match=r"en-ja\.tsv, line 1: 'no tab here' is not two texts"):
        translate.main([str(source), *options])


def test_transcripts_find_their_pairs_though_they_are_written_usually(translate: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "en-ja.tsv").write_text("i can 't tell who will arrive first .\t誰が一番に着くか分かりません。\n")
    (tmp_path / "en.txt").write_text("I can't tell who will arrive first!\n")
    run(translate, tmp_path / "en.txt", tmp_path / "out.tsv", "--pairs", f"en:ja={tmp_path / 'en-ja.tsv'}")
    assert (tmp_path / "out.tsv").read_text() == "I can't tell who will arrive first!\t誰が一番に着くか分かりません。\n"


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        ("i can 't tell who will arrive first .", "I can't tell who will arrive first."),
        ("i 'm in the tennis club .", "I'm in the tennis club."),
        ("the dog 's tail , you see , i do n't like .", "The dog's tail, you see, I don't like."),
        ("the men , too , saw mr brown .", "The men, too, saw Mr Brown."),
        ("ask him , '' who is it ? ''", 'Ask him, "Who is it?"'),
        ("it is ten minutes ' walk from mrs . smith 's .", "It is ten minutes' walk from Mrs. Smith's."),
        ("come at ten o 'clock .", "Come at ten o'clock."),
        ("is it ken 's ? yes , it is .", "Is it Ken's? Yes, it is."),
        ('he said , " i know . "', 'He said, "I know."'),
        ("ten percent ( or more ) of us won 't .", "Ten percent (or more) of us won't."),
        ("I know Ken , not you .", "I know Ken, not you."),
    ],
)
def test_tokenised_english_is_written_usually(translate: ModuleType, text: str, usual: str) -> None:
    assert translate.write_usually(text, {"ken": "Ken", "mr": "Mr"}) == usual


def test_the_usual_case_is_learnt_inside_of_sentences(translate: ModuleType) -> None:
    lines = [
        "The Thames flows.",
        "He saw the Thames. The end.",
        "May I?",
        "it may be",
        "in May",
        "it may not",
        '"The," he said.',
    ]
    assert translate.usual_case(lines) == {"thames": "Thames", "i": "I"}


def test_spanish_marks_are_opened(translate: ModuleType) -> None:
    assert translate.tidy("Who? Me. Go!", "quién? Yo. Ve!", "es") == "¿Quién? Yo. ¡Ve!"
    assert translate.tidy("who?", "¿quién?", "es") == "¿quién?"
    assert translate.tidy("Who?", "qui ?", "fr") == "Qui ?"
