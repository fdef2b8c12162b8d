"""Public sets, as miniature folders in the form in which they are published."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lithophone.data.corpora import CORPORA, read_corpus
from lithophone.data.manifest import Entry, read_entries, write_entries
from lithophone.errors import ManifestError, OptionError
from lithophone.transcript import Word

RATE_HZ = 16_000


def sound(path: Path, seconds: float = 0.5) -> Path:
    """A file of noise in the format of its suffix; one that libsndfile does not write has that suffix and no sound."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).uniform(-0.1, 0.1, round(seconds * RATE_HZ)).astype(np.float32)
    formats = {
        ".flac": ("FLAC", "PCM_16"),
        ".wav": ("WAV", "PCM_16"),
        ".sph": ("NIST", "PCM_16"),
        ".ogg": ("OGG", None),
    }
    if path.suffix.lower() in formats:
        format, subtype = formats[path.suffix.lower()]
        soundfile.write(path, samples, RATE_HZ, format=format, subtype=subtype)
    else:
        path.touch()
    return path


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


# --- the sets in miniature


def librispeech(root: Path) -> Path:
    for split, chapter in (("test-clean", "1089/134686"), ("test-other", "367/130732"), ("dev-clean", "84/121123")):
        folder = root / "LibriSpeech" / split / chapter
        stem = chapter.replace("/", "-")
        text(folder / f"{stem}.trans.txt", f"{stem}-0000 HE HOPED THERE WOULD BE STEW", f"{stem}-0001 STUFF IT")
        for number in range(2):
            sound(folder / f"{stem}-000{number}.flac")
    return root


def librispeech_pc(root: Path) -> Path:
    librispeech(root)
    for split, prefix in (("test-clean", "LibriSpeech/test-clean"), ("test-other", "test-other")):
        chapter = "1089/134686" if split == "test-clean" else "367/130732"
        stem = chapter.replace("/", "-")
        text(
            root / "manifests" / f"{split}.json",
            *(
                json.dumps(
                    {
                        "audio_filepath": f"{prefix}/{chapter}/{stem}-000{number}.flac",
                        "duration": 0.5,
                        "text": f"He hoped, {number}.",
                        "text_raw": "not taken",
                    }
                )
                for number in range(2)
            ),
        )
    return root


def mls(root: Path) -> Path:
    split = root / "mls_german" / "test"
    text(split / "transcripts.txt", "2422_2344_000000\tes war einmal", "2422_2344_000001\tein müller")
    text(split / "segments.txt", "2422_2344_000000\thttp://a.org/x.mp3\t100.25\t112.5")
    sound(split / "audio" / "2422" / "2344" / "2422_2344_000000.flac")
    sound(split / "audio" / "2422" / "2344" / "2422_2344_000001.flac")
    return root / "mls_german"


def timit(root: Path) -> Path:
    speaker = root / "TIMIT" / "TEST" / "DR1" / "FAKS0"
    for name in ("SA1", "SX43"):
        text(speaker / f"{name}.TXT", "0 8000 She had your dark suit. ")
        text(speaker / f"{name}.WRD", "800 1600 she", "1600 3200 had")
        text(speaker / f"{name}.PHN", "0 800 h#")
        sound(speaker / f"{name}.WAV")
        sound(speaker / f"{name}.WAV.wav")
    return root


def common_voice(root: Path) -> Path:
    release = root / "cv-corpus-20.0-2024-12-06"
    header = "client_id\tpath\tsentence_id\tsentence\tup_votes\tlocale"
    for lang, sentence in (("de", 'Er sagte: "Nein'), ("zh-CN", "你好。")):
        name = f"common_voice_{lang}_1"
        text(release / lang / "test.tsv", header, f"speaker\t{name}.mp3\tid\t{sentence}\t2\t{lang}")
        text(release / lang / "dev.tsv", header, f"speaker\t{name}\tid\t{sentence}\t2\t{lang}")
        sound(release / lang / "clips" / f"{name}.mp3")
    text(release / "de" / "clip_durations.tsv", "clip\tduration[ms]", "common_voice_de_1.mp3\t4248")
    return root


def covost2(root: Path) -> Path:
    folder = root / "de"
    row = "common_voice_de_1.mp3\tEr sagte nein.\tHe said no.\tspeaker"
    for split in ("test", "dev"):
        text(folder / f"covost_v2.de_en.{split}.tsv", "path\tsentence\ttranslation\tclient_id", row)
    sound(folder / "clips" / "common_voice_de_1.mp3")
    return root


def fleurs(root: Path) -> Path:
    for locale, sentence in (("de_de", "Er sagte: „Nein“."), ("cmn_hans_cn", "你好。")):
        row = f"7\t123.wav\t{sentence}\tnormalised\tn o r | m\t24000\tFEMALE"
        text(root / "data" / locale / "test.tsv", row)
        text(root / "data" / locale / "dev.tsv", row)
    sound(root / "data" / "de_de" / "audio" / "test" / "123.wav")
    sound(root / "data" / "cmn_hans_cn" / "test" / "123.wav")
    return root


def voxpopuli(root: Path) -> Path:
    header = "id\traw_text\tnormalized_text\tspeaker_id\tsplit\tgender"
    rows = (
        "20180613-0900-PLENARY-15-de_1\tHerr Präsident!\therr präsident\t96883\ttest\tmale",
        "20190101-0900-PLENARY-1-de_2\t\tdanke\tNone\ttest\tmale",
    )
    text(root / "transcribed_data" / "de" / "asr_test.tsv", header, *rows)
    sound(root / "transcribed_data" / "de" / "2018" / "20180613-0900-PLENARY-15-de_1.ogg")
    # The second as the hub packs it.
    sound(root / "transcribed_data" / "de" / "test" / "test_part_0" / "20190101-0900-PLENARY-1-de_2.wav")
    return root


def spgispeech(root: Path) -> Path:
    header = "wav_filename|wav_filesize|transcript"
    text(root / "spgispeech" / "val.csv", header, 'f2bb/42.wav|16044|I said, "Yes.".', "f2bb/7.wav|16044|Up 3%.")
    for number in (42, 7):
        sound(root / "spgispeech" / "val" / "f2bb" / f"{number}.wav")
    return root


NXT = 'xmlns:nite="http://nite.sourceforge.net/"'


def ami(root: Path) -> Path:
    annotations = root / "ami_public_manual_1.6.2"
    text(
        annotations / "corpusResources" / "meetings.xml",
        f"<nite:root {NXT}>",
        *(
            f'<meeting observation="{meeting}">'
            '<speaker nxt_agent="A" global_name="MEE006" channel="1"/>'
            '<speaker nxt_agent="B" global_name="FEE005" channel="0"/></meeting>'
            for meeting in ("ES2004a", "ES2002a")
        ),
        "</nite:root>",
    )
    words = {
        "A": ('starttime="1.5" endtime="2.0">Okay', 'starttime="2.0" endtime="2.0" punc="true">.', ">Right"),
        "B": ('starttime="1.75" endtime="2.25">Mm-hmm', 'starttime="9" endtime="9" punc="true">?'),
    }
    for agent, some in words.items():
        name = f"ES2004a.{agent}"
        elements = [f'<w nite:id="{name}.words{n}" {word}</w>' for n, word in enumerate(some)]
        elements.insert(1, f'<vocalsound nite:id="{name}.words90" type="laugh"/>')
        text(annotations / "words" / f"{name}.words.xml", f"<nite:root {NXT}>", *elements, "</nite:root>")
        pointers = {
            "A": [(1.25, 2.5, f"id({name}.words0)..id({name}.words2)"), (3.0, 4.0, f"id({name}.words90)")],
            "B": [(1.5, 2.75, f"id({name}.words0)..id({name}.words1)")],
        }[agent]
        segments = [
            f'<segment nite:id="s{n}" transcriber_start="{start}" transcriber_end="{end}">'
            f'<nite:child href="{name}.words.xml#{pointer}"/></segment>'
            for n, (start, end, pointer) in enumerate(pointers)
        ]
        text(annotations / "segments" / f"{name}.segments.xml", f"<nite:root {NXT}>", *segments, "</nite:root>")
    for microphone in ("Headset-0", "Headset-1", "Array1-01"):
        sound(root / "amicorpus" / "ES2004a" / "audio" / f"ES2004a.{microphone}.wav", 5.0)
    return root


def earnings22(root: Path) -> Path:
    folder = root / "earnings22"
    header = "token|speaker|ts|endTs|punctuation|prepunctuation|case|tags"
    rows = ("Good|0|||||UC|[]", "day|0|||,||LC|[]", "<inaudible>|1|||||N/A|[]", "2019|1|||.||N/A|['9:YEAR']")
    text(folder / "transcripts" / "nlp_references" / "4329526.nlp", header, *rows)
    aligned = ("Good|0|0.0800|1.4000|||UC|[]|||", "day|0|1.5|1.75|,||LC|[]|||", "in|1|||||LC|[]|||del")
    path = folder / "transcripts" / "force_aligned_nlp_references" / "4329526.aligned.nlp"
    text(path, f"{header}|oldTs|oldEndTs|ali_comment", *aligned)
    sound(folder / "media" / "4329526.mp3")
    return root


def tedlium(root: Path) -> Path:
    release = root / "TEDLIUM_release-3"
    lines = (
        "AimeeMullins_2009P 1 inter_segment_gap 0 0.25 <o,,unknown> ignore_time_segment_in_scoring",
        "AimeeMullins_2009P 1 AimeeMullins 0.25 1.75 <o,f0,female> i 'd like <unk> to",
        "AimeeMullins_2009P 1 AimeeMullins 1.75 2.5 <o,f0,female> share",
    )
    for split in ("legacy/test", "data"):
        text(release / split / "stm" / "AimeeMullins_2009P.stm", *lines)
        sound(release / split / "sph" / "AimeeMullins_2009P.sph", 3.0)
    return root


def gigaspeech(root: Path) -> Path:
    segments = [
        {
            "sid": f"POD1_S{n}",
            "speaker": "N/A",
            "begin_time": n,
            "end_time": n + 0.5,
            "text_tn": said,
            "subsets": subsets,
        }
        for n, (said, subsets) in enumerate(
            (
                ("AS IT'S COMING <COMMA> IS IT <QUESTIONMARK>", ["{TEST}"]),
                ("<MUSIC>", ["{TEST}"]),
                ("NOT HERE <PERIOD>", ["{XL}", "{L}"]),
            )
        )
    ]
    path = "audio/podcast/P0001/POD1.opus"
    audios = {"dataset": "GigaSpeech", "audios": [{"aid": "POD1", "path": path, "segments": segments}]}
    text(root / "GigaSpeech.json", json.dumps(audios))
    sound(root / path)
    return root


MAKERS = {
    "librispeech": librispeech, "librispeech-pc": librispeech_pc, "mls": mls, "timit": timit,
    "common-voice": common_voice, "covost2": covost2, "fleurs": fleurs, "voxpopuli": voxpopuli,
    "spgispeech": spgispeech, "ami": ami, "ami-sdm": ami, "earnings22": earnings22, "tedlium": tedlium,
    "gigaspeech": gigaspeech,
}  # fmt: skip


def only(entries: list[Entry]) -> Entry:
    assert len(entries) == 1
    return entries[0]


# --- what all of them have in common


def test_every_set_has_a_test() -> None:
    assert list(MAKERS) == list(CORPORA)


@pytest.mark.parametrize("name", CORPORA)
def test_every_set(tmp_path: Path, name: str) -> None:
    folder = MAKERS[name](tmp_path / "set")
    entries = read_corpus(name, folder)
    assert entries
    assert all(entry.audio.is_file() and entry.text and entry.name and entry.lang for entry in entries)
    assert all(entry.corpus.startswith(f"{name} ") for entry in entries)
    assert len({(entry.lang, entry.name) for entry in entries}) == len(entries)
    assert read_corpus(name, folder, limit=1) == entries[:1]
    with pytest.raises(
        OptionError, match=rf"{name} has no split 'nowhere' there: it has .*{entries[0].corpus.split()[1]}"
    ):
        read_corpus(name, folder, "nowhere")
    with pytest.raises(OptionError, match=f"{name} has no language 'xx' there: it has .*{entries[0].lang}"):
        read_corpus(name, folder, lang="xx")
    entries[0].audio.unlink()
    with pytest.raises(
        ManifestError, match=rf"1 of 1 clips of {name} have no file; the first is .*{entries[0].audio.name}"
    ):
        read_corpus(name, folder, limit=1)


@pytest.mark.parametrize("name", CORPORA)
def test_another_folder_is_told_from_the_set(tmp_path: Path, name: str) -> None:
    (tmp_path / "photos").mkdir()
    with pytest.raises(ManifestError, match=r"has no .*; it has photos: give the unpacked folder"):
        read_corpus(name, tmp_path)
    with pytest.raises(ManifestError, match="there is no folder"):
        read_corpus(name, tmp_path / "none")


@pytest.mark.parametrize("name", ["ami", "tedlium", "timit", "fleurs"])
def test_written_as_a_manifest(tmp_path: Path, name: str) -> None:
    folder = MAKERS[name](tmp_path / "set")
    entries = read_corpus(name, folder)
    write_entries(folder / "manifest.jsonl", entries)
    assert read_entries(folder / "manifest.jsonl") == entries


def test_an_unknown_set(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="there is no reader of 'switchboard': choose one of librispeech, "):
        read_corpus("switchboard", tmp_path)


# --- one by one


def test_librispeech(tmp_path: Path) -> None:
    root = librispeech(tmp_path)
    names = ["1089-134686-0000", "1089-134686-0001", "367-130732-0000", "367-130732-0001"]
    assert [entry.name for entry in read_corpus("librispeech", root)] == names
    first = read_corpus("librispeech", root / "LibriSpeech" / "test-clean")[0]
    assert first == Entry(
        root / "LibriSpeech" / "test-clean" / "1089" / "134686" / "1089-134686-0000.flac",
        "HE HOPED THERE WOULD BE STEW",
        "en",
        0.5,
        "librispeech test-clean",
        "1089",
        "1089-134686-0000",
    )
    assert len(read_corpus("librispeech", root / "LibriSpeech", "dev-clean")) == 2


@pytest.mark.parametrize("audio", ["LibriSpeech", "beside/../LibriSpeech", "."])
def test_librispeech_pc(tmp_path: Path, audio: str) -> None:
    """LibriSpeech lies in the folder, beside it, or is it."""
    root = librispeech_pc(tmp_path / "root")
    folder = {"LibriSpeech": root, "beside/../LibriSpeech": root / "manifests", ".": root}[audio]
    if audio == ".":
        for split in ("test-clean", "test-other"):
            (root / "LibriSpeech" / split).rename(root / split)
    found = read_corpus("librispeech-pc", folder)
    assert [entry.text for entry in found] == ["He hoped, 0.", "He hoped, 1."] * 2
    assert found[0].name == "1089-134686-0000"
    assert found[0].speaker == "1089"
    text(root / "manifests" / "test-clean.json", '{"audio_filepath": 3}')
    with pytest.raises(ManifestError, match=r"test-clean.json, line 1: audio_filepath and text must be there"):
        read_corpus("librispeech-pc", folder)


def test_mls(tmp_path: Path) -> None:
    first, second = read_corpus("mls", mls(tmp_path))
    assert (first.text, first.lang, first.speaker, first.duration_s) == ("es war einmal", "de", "2422", 12.25)
    assert second.duration_s == 0.5, "what segments.txt does not tell, the file does"
    assert read_corpus("mls", tmp_path, lang="de") == [first, second]
    text(tmp_path / "mls_german" / "test" / "segments.txt", "2422_2344_000000\tx\t1\ty")
    with pytest.raises(ManifestError, match=r"segments.txt, line 1: .* ID, address, start and end"):
        read_corpus("mls", tmp_path)
    (tmp_path / "mls_german").rename(tmp_path / "saxon")
    with pytest.raises(ManifestError, match="saxon must be called mls_LANGUAGE"):
        read_corpus("mls", tmp_path)


@pytest.mark.parametrize("lower", [False, True])
def test_timit(tmp_path: Path, lower: bool) -> None:
    root = timit(tmp_path)
    if lower:
        for path in sorted((root / "TIMIT").rglob("*"), reverse=True):
            path.rename(path.with_name(path.name.lower()))
    first, _ = read_corpus("timit", root)
    assert first.name.lower() == "dr1/faks0/sa1"
    assert first.audio.name.lower() == "sa1.wav"
    assert first.text == "She had your dark suit."
    assert first.words == (Word("she", 0.05, 0.1), Word("had", 0.1, 0.2))
    assert first.duration_s == 0.5
    assert first.corpus == "timit test"


def test_common_voice(tmp_path: Path) -> None:
    root = common_voice(tmp_path)
    german, chinese = read_corpus("common-voice", root)
    assert (german.text, german.lang, german.duration_s) == ('Er sagte: "Nein', "de", 4.248)
    assert (chinese.text, chinese.lang, chinese.duration_s) == ("你好。", "zh-CN", None), "an MP3 without sound"
    release = root / "cv-corpus-20.0-2024-12-06"
    assert read_corpus("common-voice", release, lang="zh") == [chinese]
    assert read_corpus("common-voice", release / "de") == [german]
    assert only(read_corpus("common-voice", release / "de", "dev")).audio == german.audio
    text(release / "de" / "test.tsv", "client_id\tpath", "a\tb")
    with pytest.raises(
        ManifestError, match=r"test.tsv, line 1: the columns are client_id, path: sentence must be there"
    ):
        read_corpus("common-voice", release / "de")
    text(release / "de" / "test.tsv", "client_id\tpath\tsentence", "a\tb")
    with pytest.raises(ManifestError, match=r"test.tsv, line 2: 2 fields where there must be 3"):
        read_corpus("common-voice", release / "de")
    text(release / "de" / "clip_durations.tsv", "clip\tduration[ms]", "a\tlong")
    with pytest.raises(ManifestError, match="no number of milliseconds"):
        read_corpus("common-voice", release / "de")


def test_covost2(tmp_path: Path) -> None:
    entry = only(read_corpus("covost2", covost2(tmp_path)))
    assert (entry.text, entry.lang, entry.corpus) == ("He said no.", "de", "covost2 de_en.test")
    assert only(read_corpus("covost2", tmp_path, "de_en.dev")).corpus == "covost2 de_en.dev"


def test_fleurs(tmp_path: Path) -> None:
    chinese, german = read_corpus("fleurs", fleurs(tmp_path))
    assert (german.text, german.lang, german.duration_s) == ("Er sagte: „Nein“.", "de", 1.5)
    assert (chinese.text, chinese.lang, chinese.name) == ("你好。", "zh", "123.wav")
    assert chinese.audio == tmp_path / "data" / "cmn_hans_cn" / "test" / "123.wav"
    assert read_corpus("fleurs", tmp_path / "data" / "de_de") == [german]


def test_voxpopuli(tmp_path: Path) -> None:
    first, second = read_corpus("voxpopuli", voxpopuli(tmp_path))
    assert (first.text, first.lang, first.speaker, first.duration_s) == ("Herr Präsident!", "de", "96883", 0.5)
    assert (second.text, second.speaker, second.audio.suffix) == ("danke", "", ".wav")


def test_spgispeech(tmp_path: Path) -> None:
    first, second = read_corpus("spgispeech", spgispeech(tmp_path))
    assert (first.text, first.name, first.duration_s) == ('I said, "Yes.".', "f2bb/42.wav", 0.5)
    assert second.text == "Up 3%."


def test_ami(tmp_path: Path) -> None:
    first, second = read_corpus("ami", ami(tmp_path))
    assert first == Entry(
        tmp_path / "amicorpus" / "ES2004a" / "audio" / "ES2004a.Headset-1.wav",
        "Okay. Right",
        "en",
        1.25,
        "ami test",
        "MEE006",
        "ES2004a-A-0",
        (),
        (Word("Okay", 0.25, 0.75, speaker="MEE006"),),
        1.25,
        2.5,
    )
    assert (second.text, second.audio.name) == ("Mm-hmm?", "ES2004a.Headset-0.wav")
    with pytest.raises(ManifestError, match="has no clips of ami train"):
        read_corpus("ami", tmp_path, "train")
    text(tmp_path / "ami_public_manual_1.6.2" / "words" / "ES2004a.A.words.xml", "<nite:root>")
    with pytest.raises(ManifestError, match=r"ES2004a\.A\.words\.xml cannot be read as annotations of AMI"):
        read_corpus("ami", tmp_path)


def test_ami_before_a_distant_microphone(tmp_path: Path) -> None:
    entry = only(read_corpus("ami-sdm", ami(tmp_path)))
    assert (entry.name, entry.audio.name, entry.duration_s) == ("ES2004a", "ES2004a.Array1-01.wav", 5.0)
    assert entry.text == "Okay. Right Mm-hmm?"
    assert entry.words == (Word("Okay", 1.5, 2.0, speaker="MEE006"), Word("Mm-hmm", 1.75, 2.25, speaker="FEE005"))
    assert (entry.start_s, entry.end_s) == (None, None)


def test_earnings22(tmp_path: Path) -> None:
    entry = only(read_corpus("earnings22", earnings22(tmp_path)))
    assert entry.text == "Good day, <inaudible> 2019."
    assert entry.words == (Word("Good", 0.08, 1.4, speaker="0"), Word("day", 1.5, 1.75, speaker="0"))
    assert entry.name == "4329526"
    references = tmp_path / "earnings22" / "transcripts"
    (references / "force_aligned_nlp_references" / "4329526.aligned.nlp").unlink()
    assert only(read_corpus("earnings22", tmp_path / "earnings22")).words == ()


def test_tedlium(tmp_path: Path) -> None:
    first, second = read_corpus("tedlium", tedlium(tmp_path))
    assert (first.text, first.start_s, first.end_s, first.duration_s) == ("i 'd like <unk> to", 0.25, 1.75, 1.5)
    assert first.audio == tmp_path / "TEDLIUM_release-3" / "legacy" / "test" / "sph" / "AimeeMullins_2009P.sph"
    assert (second.text, second.name, second.speaker) == ("share", "AimeeMullins_2009P-2", "AimeeMullins")
    (tmp_path / "TEDLIUM_release-3" / "legacy").rename(tmp_path / "TEDLIUM_release1")
    assert [entry.text for entry in read_corpus("tedlium", tmp_path / "TEDLIUM_release1")] == [first.text, second.text]


def test_gigaspeech(tmp_path: Path) -> None:
    entry = only(read_corpus("gigaspeech", gigaspeech(tmp_path)))
    assert (entry.text, entry.name, entry.speaker) == ("AS IT'S COMING, IS IT?", "POD1_S0", "")
    assert (entry.start_s, entry.end_s, entry.duration_s) == (0.0, 0.5, 0.5)
    assert only(read_corpus("gigaspeech", tmp_path, "l")).text == "NOT HERE."
    with pytest.raises(ManifestError, match="has no clips of gigaspeech dev"):
        read_corpus("gigaspeech", tmp_path, "dev")
    for broken in ("{", '{"audios": [{"segments": [{}]}]}', "[]"):
        text(tmp_path / "GigaSpeech.json", broken)
        with pytest.raises(ManifestError, match="cannot be read as the list of GigaSpeech"):
            read_corpus("gigaspeech", tmp_path)
