"""Synthetic talks: clips of several speakers one after the other, with the true turns and words.

    python bench/talks.py FOLDER --manifest dev.jsonl --corpus librispeech_devclean_mp3 --speakers 3 --minutes 20

Writes `talk.flac`, `talk.rttm` and `talk.stm`. A turn is a clip of 2 to 10 s without its silent ends; pauses between
turns are 0.2 to 1.5 s. Every speaker has a level of their own within 6 dB, and there is noise at -60 dB full scale
throughout. In the rttm a pause of 0.5 s inside a clip ends a turn. Clips are repeated when a speaker has no other.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from lithophone.audio.reader import RATE_HZ, Samples, load_audio
from lithophone.transcript import Segment

TURN_S = 2.0, 10.0
PAUSE_S = 0.2, 1.5
LEVEL_DB = 3.0
NOISE_DB = -60.0
QUIET_DB = -35.0
"""Frames this far below a clip's loudest are silent."""

HOP = RATE_HZ // 100
INNER_PAUSE_S = 0.5


@dataclass(frozen=True)
class Talk:
    samples: Samples
    clips: tuple[Segment, ...]
    """Text, times and speaker of every clip."""
    turns: tuple[Segment, ...]
    """Clips, cut at their pauses; without text."""


@dataclass(frozen=True)
class Clip:
    path: Path
    text: str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--manifest", type=Path, required=True)
    parser.add_argument("--corpus", help="of the manifest's lines; all where it is not given")
    parser.add_argument("--speakers", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    found = talk(clips_of(args.manifest, args.corpus), args.speakers, args.minutes * 60, args.seed)
    args.folder.mkdir(parents=True, exist_ok=True)
    soundfile.write(args.folder / "talk.flac", found.samples, RATE_HZ)
    (args.folder / "talk.rttm").write_text("".join(rttm_lines(found.turns)))
    (args.folder / "talk.stm").write_text("".join(stm_lines(found.clips)))


def clips_of(manifest: Path, corpus: str | None = None) -> dict[str, list[Clip]]:
    """Clips of 2 to 10 s by speaker."""
    found: dict[str, list[Clip]] = defaultdict(list)
    for line in manifest.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row.get("speaker") and corpus in (None, row["corpus"]) and TURN_S[0] <= row["duration"] <= TURN_S[1]:
            found[row["speaker"]].append(Clip(manifest.parent / row["audio"], row["text"]))
    return dict(found)


def talk(clips: dict[str, list[Clip]], n_speakers: int, seconds: float, seed: int = 0) -> Talk:
    """A talk of at least `seconds`. Speakers are drawn among those with the most clips, if these are few."""
    rng = np.random.default_rng(seed)
    able = sorted(clips, key=lambda name: (-len(clips[name]), name))[: max(3 * n_speakers, 10)]
    names = [able[i] for i in rng.choice(len(able), n_speakers, replace=False)]
    order = {name: _drawn(clips[name], rng) for name in names}
    gain = {name: 10 ** (rng.uniform(-LEVEL_DB, LEVEL_DB) / 20) for name in names}
    parts: list[Samples] = []
    said: list[Segment] = []
    turns: list[Segment] = []
    at, speaker = 0, ""
    while at < seconds * RATE_HZ:
        speaker = str(rng.choice([name for name in names if name != speaker or n_speakers == 1]))
        clip = next(order[speaker])
        samples, loud = _trimmed(load_audio(clip.path))
        parts += [(samples * gain[speaker]).astype(np.float32), _silence(rng)]
        said.append(Segment(clip.text, at / RATE_HZ, (at + len(samples)) / RATE_HZ, speaker=speaker))
        turns += [
            Segment("", (at + start) / RATE_HZ, (at + end) / RATE_HZ, speaker=speaker) for start, end in _spans(loud)
        ]
        at += len(samples) + len(parts[-1])
    joined = np.concatenate(parts)
    joined += rng.normal(0, 10 ** (NOISE_DB / 20), len(joined)).astype(np.float32)
    return Talk(joined.clip(-1, 1), tuple(said), tuple(turns))


def _drawn(clips: Sequence[Clip], rng: np.random.Generator) -> Iterator[Clip]:
    """All clips in random order, again and again."""
    while True:
        yield from (clips[i] for i in rng.permutation(len(clips)))


def _silence(rng: np.random.Generator) -> Samples:
    return np.zeros(round(rng.uniform(*PAUSE_S) * RATE_HZ), np.float32)


def _trimmed(samples: Samples) -> tuple[Samples, np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    """A clip at a common level without its silent ends, and which of its hops of 10 ms are loud."""
    hops = samples[: len(samples) // HOP * HOP].reshape(-1, HOP)
    rms = np.sqrt(np.square(hops).mean(1))
    loud = rms > np.quantile(rms, 0.99) * 10 ** (QUIET_DB / 20)
    first, last = np.flatnonzero(loud)[[0, -1]]
    level = 0.05 / max(float(np.sqrt(np.square(hops[loud]).mean())), 1e-6)
    return samples[first * HOP : (last + 1) * HOP] * np.float32(level), loud[first : last + 1]


def _spans(loud: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Iterator[tuple[int, int]]:
    """Samples of speech between pauses."""
    at = np.flatnonzero(loud)
    breaks = np.flatnonzero(np.diff(at) > INNER_PAUSE_S * 100)
    for start, end in zip([at[0], *at[breaks + 1]], [*at[breaks], at[-1]], strict=True):
        yield int(start) * HOP, (int(end) + 1) * HOP


def rttm_lines(turns: Sequence[Segment], recording: str = "talk") -> Iterator[str]:
    for turn in turns:
        length = turn.end_s - turn.start_s
        yield f"SPEAKER {recording} 1 {turn.start_s:.3f} {length:.3f} <NA> <NA> {turn.speaker} <NA> <NA>\n"


def stm_lines(clips: Sequence[Segment], recording: str = "talk") -> Iterator[str]:
    for clip in clips:
        yield f"{recording} 1 {clip.speaker} {clip.start_s:.3f} {clip.end_s:.3f} {clip.text}\n"


if __name__ == "__main__":
    main()
