"""The model in the package: it is there, it is small, and it hears words of people it has never heard.

The bounds lie above what its card says of these five recordings.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import lithophone
from lithophone.audio.features import log_mel_frames
from lithophone.audio.reader import RATE_HZ, load_audio
from lithophone.checkpoint import save_checkpoint
from lithophone.data.manifest import read_entries
from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import Greedy
from lithophone.evaluation import evaluate
from lithophone.hub import DEFAULT_MODEL, bundled_models
from lithophone.metrics.counts import ErrorCounts
from lithophone.metrics.wer import score, score_characters
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.transcriber import Transcriber
from lithophone.text.prompts import Transcribe, build_prompt
from lithophone.transcript import Transcript
from tests.conftest import DEMO
from tests.sounds import sung_vowels

LIMIT_BYTES = 64_000_000


@pytest.fixture(scope="module")
def bundled() -> Transcriber:
    return lithophone.load()


def test_it_is_small_enough_to_ship() -> None:
    folder = bundled_models()[DEFAULT_MODEL]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= LIMIT_BYTES


def test_its_card_says_what_it_is() -> None:
    card = (bundled_models()[DEFAULT_MODEL] / "README.md").read_text(encoding="utf-8")
    for heading in ("## Trained on", "## Measured", "## Limitations"):
        assert heading in card


def test_its_settings_say_which_token_ends_a_reply() -> None:
    """Faults, V1: transformers goes on to the limit without."""
    folder = bundled_models()[DEFAULT_MODEL]
    settings, config = (json.loads((folder / f"{name}.json").read_text()) for name in ("generation_config", "config"))
    assert settings["eos_token_id"] == config["text_config"]["eos_token_id"]


@pytest.mark.full
def test_transformers_reads_it_saved_in_float_and_ends_its_replies_where_we_do(tmp_path: Path) -> None:
    """Faults, V1."""
    transformers = pytest.importorskip("transformers")
    checkpoint = lithophone.load(dtype="float32").checkpoint
    save_checkpoint(checkpoint, tmp_path)
    reference = transformers.GraniteSpeechForConditionalGeneration.from_pretrained(tmp_path, dtype=torch.float32)
    for entry in read_entries(DEMO.parent / "demo.jsonl")[:3]:
        frames = log_mel_frames(torch.from_numpy(load_audio(entry.audio).copy()))[None]
        with torch.no_grad():
            audio, counts = checkpoint.model.audio_embeddings(frames, torch.tensor([frames.shape[1]]))
        n_audio = int(counts[0])
        ids = build_prompt(Transcribe(punctuate=False), checkpoint.tokenizer, "granite_speech", n_audio)
        theirs = reference.generate(
            input_ids=torch.tensor([ids]), input_features=frames, attention_mask=torch.ones(1, len(ids)), num_beams=1,
            max_new_tokens=200,
        )[0, len(ids) :].tolist()  # fmt: skip
        embeddings = checkpoint.model.embed([ids], audio, counts)[0]
        ours = greedy_decode(checkpoint.model, embeddings, Greedy(max_new_tokens=200), n_audio).ids
        assert theirs == [*ours, checkpoint.config.text_config.eos_token_id]


def test_words_of_a_real_reading_are_heard(bundled: Transcriber) -> None:
    entries = read_entries(DEMO.parent / "demo.jsonl")
    counts = sum(
        (s.counts for s in evaluate(bundled, entries, TranscribeOptions(punctuate=False)).scores), ErrorCounts()
    )
    assert counts.rate < 0.42


def test_words_have_times_inside_the_recording(bundled: Transcriber) -> None:
    transcript = bundled.transcribe(DEMO, word_timestamps=True)
    edges = [edge for word in transcript.words for edge in (word.start_s, word.end_s)]
    assert len(transcript.words) >= 10
    assert edges == sorted(edges)
    assert edges[0] >= 0
    assert edges[-1] <= transcript.duration_s


@pytest.mark.parametrize("n", [48_160, 48_159, 20_001])
def test_no_word_ends_behind_a_recording_of_broken_frames(bundled: Transcriber, n: int) -> None:
    """Faults, V5."""
    transcript = bundled.transcribe(load_audio(DEMO)[:n], RATE_HZ, word_timestamps=True)
    assert transcript.words
    assert all(part.end_s <= n / RATE_HZ for part in (*transcript.words, *transcript.segments))


@pytest.mark.full
@pytest.mark.parametrize("decode", [None, "greedy", "ctc"])
def test_a_batch_equals_its_items_bit_by_bit(bundled: Transcriber, decode: str | None) -> None:
    """Words, times and confidences of recordings of 1 s and more, in int8 where the CPU has it, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = [load_audio(entry.audio) for entry in read_entries(DEMO.parent / "demo.jsonl")]
    some = [samples[: round(seconds * RATE_HZ)] for samples in whole for seconds in (1.0, 1.9, 2.7, 3.3, 4.1, 99.0)]
    options = TranscribeOptions(decode=decode, word_timestamps=True)
    together = [result for _, result in bundled.transcribe_many(some, RATE_HZ, options=replace(options, batch_size=16))]
    alone = [bundled.transcribe(one, RATE_HZ, options=replace(options, batch_size=1)) for one in some]
    torch.set_num_threads(threads)
    assert together == alone


def test_the_encoder_alone_is_understood_too(bundled: Transcriber) -> None:
    entries = read_entries(DEMO.parent / "demo.jsonl")
    said = [(e.text, bundled.transcribe(e.audio, decode="ctc").text) for e in entries]
    assert score(said, "en").rate < 0.54


def test_beams_that_heed_the_encoder_say_more_of_what_it_spells(bundled: Transcriber) -> None:
    files = [entry.audio for entry in read_entries(DEMO.parent / "demo.jsonl")]
    spelled = [bundled.transcribe(file, decode="ctc", ctc_head="characters").text for file in files]

    def distance(ctc_weight: float) -> float:
        options = TranscribeOptions(punctuate=False, decode="beam", num_beams=4, ctc_weight=ctc_weight)
        replies = [bundled.transcribe(file, options=options).text for file in files]
        return score_characters(list(zip(spelled, replies, strict=True)), "en").rate

    assert 0 < distance(0.3) < distance(0.0)


def test_a_listed_name_is_written_where_it_is_said_and_no_other(bundled: Transcriber) -> None:
    options = TranscribeOptions(
        punctuate=False, language="en", decode="beam", num_beams=8, ctc_weight=0.5, keyword_boost=0.5
    )
    names = ("Dashwood", "Willoughby", "Norland")
    listed = bundled.transcribe(DEMO, options=options, keywords=names).text.lower()
    assert [name for name in names if name.lower() in listed] == ["Dashwood"]
    assert "dashwood" not in bundled.transcribe(DEMO, options=options).text.lower()


def test_a_language_that_is_given_is_written(bundled: Transcriber) -> None:
    """Synthetic clips: an unseen voice, or half of one."""
    entries = read_entries(DEMO.parent / "languages.jsonl")
    said = [(e.text, bundled.transcribe(e.audio, language=e.lang).text) for e in entries if e.lang != "ja"]
    assert score_characters(said, "fr").rate < 0.35
    (japanese,) = [entry for entry in entries if entry.lang == "ja"]
    options = TranscribeOptions(language="ja", decode="ctc", ctc_head="characters")
    assert set(bundled.transcribe(japanese.audio, options=options).text) <= set(map(chr, range(0x30A1, 0x3100)))


UNRELIABLE = {"low_confidence", "disagreement", "loop", "no_speech", "text_without_speech", "speech_without_text"}


def codes(transcript: Transcript) -> set[str]:
    return {warning.code for warning in transcript.warnings}


def test_speech_backwards_and_sung_vowels_have_a_warning_and_readings_have_none(bundled: Transcriber) -> None:
    speech = load_audio(DEMO)
    for samples in (speech[::-1].copy(), sung_vowels(6.0)):
        assert codes(bundled.transcribe(samples, RATE_HZ, language="en", decode="ctc")) & UNRELIABLE
        assert codes(bundled.transcribe(samples, RATE_HZ, language="en")) & UNRELIABLE
    assert not codes(bundled.transcribe(DEMO, language="en"))


def test_speech_of_another_language_than_the_one_given_has_a_warning(bundled: Transcriber) -> None:
    """Recordings of people: the encoder is sure of the sounds of clear synthetic voices in any language."""
    for name, language in (("demo.flac", "ja"), ("ja.flac", "fr"), ("ja.flac", "en")):
        assert codes(bundled.transcribe(DEMO.parent / name, language=language)) & UNRELIABLE, name


def test_text_of_another_language_than_the_one_given_has_a_warning(bundled: Transcriber) -> None:
    for decode in (None, "ctc"):
        assert "other_language" in codes(bundled.transcribe(DEMO, language="fr", decode=decode))
    for entry in read_entries(DEMO.parent / "languages.jsonl"):
        assert "other_language" not in codes(bundled.transcribe(entry.audio, language=entry.lang))


def test_the_languages_of_the_demo_are_detected(bundled: Transcriber) -> None:
    """Words are those of the language given; recordings share batches."""
    entries = read_entries(DEMO.parent / "languages.jsonl")
    found = bundled.transcribe_many([entry.audio for entry in entries], language="auto", decode="ctc")
    for entry, (_, detected) in zip(entries, found, strict=True):
        assert isinstance(detected, Transcript)
        assert detected.language == entry.lang
        assert detected.language_probability == pytest.approx(bundled.detect_language(entry.audio).probability)
        assert detected.language_probability > 0.8
        assert detected.segments == bundled.transcribe(entry.audio, language=entry.lang, decode="ctc").segments


def test_japanese_is_raw_unless_punctuation_is_asked_for(bundled: Transcriber) -> None:
    file = DEMO.parent / "ja.flac"
    as_it_comes, raw = bundled.transcribe(file, language="ja"), bundled.transcribe(file, language="ja", punctuate=False)
    assert as_it_comes == raw
    assert as_it_comes != bundled.transcribe(file, language="ja", punctuate=True)


def test_japanese_is_raw_where_no_language_is_given(bundled: Transcriber) -> None:
    file = DEMO.parent / "ja.flac"
    as_it_comes = bundled.transcribe(file)
    assert as_it_comes == bundled.transcribe(file, punctuate=False)
    assert as_it_comes != bundled.transcribe(file, punctuate=True)
    assert bundled.transcribe(DEMO).text.endswith(".")
