"""Encoder states of whisper-base for all clips of a manifest: regression targets of the recipe `encoder`.

    lithophone train teacher_states speech/train.jsonl --out data/teacher/train

Writes `OUT.npy`, float16 (total frames, 512) at 50 Hz, and `OUT.json`, {name of the clip: [first row, rows]}. Clips are
packed into Whisper's windows of 30 s. A clip has `features.frame_count` rows, as its encoder frames.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from lithophone.audio.features import FRAME_S, RATE_HZ, frame_count
from lithophone.audio.reader import load_audio
from lithophone.data.manifest import read_entries
from lithophone.languages import is_language
from lithophone.train.run.arguments import recipe_parser
from lithophone.train.transplant.whisper_weights import fetch_whisper

WINDOW = 30 * RATE_HZ
GAP = RATE_HZ * 3 // 10
FRAME = round(FRAME_S * RATE_HZ)
STATE_SIZE = 512


def packed(rows: Iterable[tuple[str, np.ndarray]]) -> Iterator[list[tuple[str, np.ndarray]]]:
    """Consecutive clips that fit one window, with a short silence after each."""
    group: list[tuple[str, np.ndarray]] = []
    used = 0
    for name, samples in rows:
        if group and used + len(samples) > WINDOW:
            yield group
            group, used = [], 0
        group.append((name, samples))
        used += -(-(len(samples) + GAP) // FRAME) * FRAME
    if group:
        yield group


def read_clips(manifest: Path, langs: str | None, corpora: str | None, every: int) -> Iterator[tuple[str, np.ndarray]]:
    """Names and samples of one clip in `every`; clips longer than a window are left out."""
    wanted = [
        entry
        for entry in read_entries(manifest)
        if (langs is None or any(is_language(entry.lang, lang) for lang in langs.split(",")))
        and (corpora is None or entry.corpus in corpora.split(","))
    ]
    for entry in wanted[::every]:
        samples = load_audio(entry.audio, start_s=entry.start_s, end_s=entry.end_s)
        if len(samples) <= WINDOW:
            yield entry.id, samples


def states_of(
    group: list[tuple[str, np.ndarray]], model: object, extractor: object
) -> Iterator[tuple[str, np.ndarray]]:
    audio = np.zeros(WINDOW, np.float32)
    starts, at = [], 0
    for _, samples in group:
        starts.append(at)
        audio[at : at + len(samples)] = samples[: WINDOW - at]
        at += -(-(len(samples) + GAP) // FRAME) * FRAME
    states = np.asarray(model.encode(extractor(audio)[:, :3000]))[0]  # type: ignore[attr-defined,operator]
    for (name, samples), start in zip(group, starts, strict=True):
        yield name, states[start // FRAME : start // FRAME + frame_count(len(samples))].astype(np.float16)


def main() -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("manifest", type=Path, help="JSON lines of clips")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--langs", help="comma-separated; all when left out")
    parser.add_argument("--corpora", help="comma-separated; all when left out")
    parser.add_argument("--every", type=int, default=1, help="only one clip in so many")
    parser.add_argument("--model", type=Path, default=Path("data/whisper-base"), help="folder of the model")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    args = parser.parse_args()

    from faster_whisper import WhisperModel
    from faster_whisper.feature_extractor import FeatureExtractor

    model = WhisperModel(str(fetch_whisper(args.model)), compute_type="int8", cpu_threads=args.threads)
    extractor = FeatureExtractor()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    index: dict[str, tuple[int, int]] = {}
    raw = args.out.with_suffix(".part")
    total = 0
    with raw.open("wb") as file:
        clips = read_clips(args.manifest, args.langs, args.corpora, args.every)
        for done, group in enumerate(packed(clips)):
            for name, states in states_of(group, model, extractor):
                index[name] = (total, len(states))
                total += len(states)
                file.write(states.tobytes())
            if done % 50 == 0:
                print(f"{total * FRAME_S / 3600:.2f} h", flush=True)
    np.save(args.out.with_suffix(".npy"), np.memmap(raw, np.float16, "r", shape=(total, STATE_SIZE)))
    raw.unlink()
    args.out.with_suffix(".json").write_text(json.dumps(index))


if __name__ == "__main__":
    main()
