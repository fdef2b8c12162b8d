"""Live captions of a recording that is fed at real-time speed: latency, load, and words against the offline result.

    python bench/captions.py --out bench/results/captions.json
    python bench/captions.py --manifest ../shared/speech/dev.jsonl --lang en --seconds 50

Clips are joined with pauses of a second. Blocks are of 50 ms; a block that is due while another is computed waits.

    pass      from the arrival of the last sample of a pass to its partial event; passes are 0.4 s apart or more
    shown     from the end of a word, by the encoder's alignment, to the partial event that first has as many words
    stable    the same for stable text
    final     from the end of speech, which is before the silence that ends it, to the final event
    cores     CPU time of the process over the length of the recording
    rtfx      length of the recording over the time of the same calls without waiting
    words     word error rate of final text against `transcribe` of the recording, whose windows differ
    letters   share of letters of stable and last partial text that differ from offline CTC decoding of the same windows
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from report import save_results

import lithophone
from lithophone.audio.reader import RATE_HZ, Samples, load_audio
from lithophone.ctc.forced_alignment import edit_distance
from lithophone.data.manifest import read_entries
from lithophone.hub import DEFAULT_MODEL
from lithophone.metrics.wer import score
from lithophone.pipeline.captions import CaptionEvent, Captions, Final, Partial, SpeechStopped
from lithophone.pipeline.transcriber import Transcriber

DEMO = Path(lithophone.__file__).parent / "assets" / "demo" / "demo.jsonl"
BLOCK = RATE_HZ // 20
PAUSE_S = 1.0


@dataclass(frozen=True)
class Arrived:
    at_s: float
    """Seconds since the first sample was due."""
    event: CaptionEvent


def recording(manifest: Path, lang: str, seconds: float) -> Samples:
    """Clips of a language with pauses between them, cut at `seconds`."""
    parts: list[Samples] = [np.zeros(RATE_HZ // 2, np.float32)]
    for entry in read_entries(manifest):
        if entry.lang == lang and sum(map(len, parts)) < seconds * RATE_HZ:
            parts += [load_audio(entry.audio), np.zeros(int(PAUSE_S * RATE_HZ), np.float32)]
    return np.concatenate(parts)[: int(seconds * RATE_HZ)]


def fed_live(captions: Captions, samples: Samples) -> tuple[list[Arrived], float]:
    """Events with the time they came, and the CPU time of it all."""
    arrived: list[Arrived] = []
    began, cpu_began, read = time.perf_counter(), time.process_time(), 0

    def take(events: Sequence[CaptionEvent]) -> None:
        now_s = time.perf_counter() - began
        arrived.extend(Arrived(now_s, event) for event in events)

    while read < len(samples):
        due = min(len(samples), int((time.perf_counter() - began) * RATE_HZ) // BLOCK * BLOCK)
        if due > read:
            block, read = samples[read:due], due
            take(captions.push(block))
        elif captions.busy:
            take(captions.step())
        else:
            time.sleep(0.005)
    while captions.busy:
        take(captions.step())
    take(captions.flush())
    return arrived, time.process_time() - cpu_began


def fed_at_once(captions: Captions, samples: Samples) -> list[CaptionEvent]:
    events: list[CaptionEvent] = []
    for first in range(0, len(samples), BLOCK):
        events += captions.push(samples[first : first + BLOCK])
    return events + captions.flush()


# --- latencies


def pass_latencies(arrived: Sequence[Arrived]) -> list[float]:
    return [one.at_s - one.event.end_s for one in arrived if isinstance(one.event, Partial)]


def word_latencies(
    arrived: Sequence[Arrived], item: int, ends_s: Sequence[float], text_of: Callable[[Partial], str]
) -> list[float]:
    """Delay of the n-th word from its end to the first event with n words; words without one are left out."""
    partials = [(one.at_s, len(text_of(one.event).split())) for one in arrived if _is_partial(one.event, item)]
    first = [next((at_s for at_s, n_words in partials if n_words > number), None) for number in range(len(ends_s))]
    return [at_s - end_s for at_s, end_s in zip(first, ends_s, strict=True) if at_s is not None]


def _is_partial(event: CaptionEvent, item: int) -> bool:
    return isinstance(event, Partial) and event.item == item


def final_latencies(arrived: Sequence[Arrived]) -> list[float]:
    stopped = {one.event.item: one.event.end_s for one in arrived if isinstance(one.event, SpeechStopped)}
    return [one.at_s - stopped[one.event.item] for one in arrived if isinstance(one.event, Final)]


def percentiles(seconds: Sequence[float]) -> dict[str, Any]:
    if not seconds:
        return {"n": 0}
    return {"n": len(seconds)} | {f"p{q}_s": round(float(np.percentile(seconds, q)), 3) for q in (50, 95)}


# --- words


def offline_ctc(transcriber: Transcriber, samples: Samples, final: Final, lang: str) -> Any:
    """CTC decoding of an item's window, with word times in the window."""
    window = samples[round(final.start_s * RATE_HZ) : round(final.end_s * RATE_HZ)]
    captions = Captions(
        transcriber, detection=None, language=lang, decode="ctc", ctc_head="characters", word_timestamps=True
    )
    (found,) = [e for e in captions.push(window) + captions.flush() if isinstance(e, Final)]
    return found


def letters_off(found: Sequence[str], expected: Sequence[str], *, prefix: bool) -> float:
    """Edits per letter; `prefix`: against the nearest beginning of the expected text."""
    edits = letters = 0
    for text, whole in zip(found, expected, strict=True):
        text_codes, codes = [ord(c) for c in text.strip()], [ord(c) for c in whole]
        lengths = range(len(codes) + 1) if prefix else [len(codes)]
        edits += min(edit_distance(codes[:n], text_codes) for n in lengths)
        letters += len(text_codes)
    return edits / max(1, letters)


def measured(transcriber: Transcriber, samples: Samples, lang: str) -> dict[str, Any]:
    arrived, cpu_s = fed_live(Captions(transcriber, language=lang), samples)
    finals = [one.event for one in arrived if isinstance(one.event, Final)]
    began = time.perf_counter()
    fed_at_once(Captions(transcriber, language=lang), samples)
    at_once_s = time.perf_counter() - began
    latencies: dict[str, list[float]] = {"shown": [], "stable": []}
    stable, last, expected = [], [], []
    for final in finals:
        offline = offline_ctc(transcriber, samples, final, lang)
        words = [word for segment in offline.segments for word in segment.words]
        ends_s = [final.start_s + word.end_s for word in words]
        latencies["shown"] += word_latencies(arrived, final.item, ends_s, lambda partial: partial.text)
        latencies["stable"] += word_latencies(arrived, final.item, ends_s, lambda partial: partial.stable)
        partials = [one.event for one in arrived if isinstance(one.event, Partial) and one.event.item == final.item]
        if partials:
            stable.append(partials[-1].stable)
            last.append(partials[-1].text)
            expected.append(offline.text)
    transcript = transcriber.transcribe(samples, RATE_HZ, language=lang)
    live = " ".join(final.text for final in finals)
    return {
        "seconds": len(samples) / RATE_HZ,
        "items": len(finals),
        "windows_offline": len(transcript.segments),
        **{name: percentiles(values) for name, values in latencies.items()},
        "pass": percentiles(pass_latencies(arrived)),
        "final": percentiles(final_latencies(arrived)),
        "cores": round(cpu_s / (len(samples) / RATE_HZ), 3),
        "rtfx": round(len(samples) / RATE_HZ / at_once_s, 2),
        "words_off": round(score([(transcript.text, live)], lang).rate, 4),
        "stable_letters_off": round(letters_off(stable, expected, prefix=True), 4),
        "last_letters_off": round(letters_off(last, expected, prefix=True), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--manifest", type=Path, default=DEMO)
    parser.add_argument("--lang", default="en")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    transcriber = lithophone.load(given.model, device="cpu")
    samples = recording(given.manifest, given.lang, given.seconds)
    found = measured(transcriber, samples, given.lang)
    for name, value in found.items():
        print(f"{name:20} {value}")
    if given.out:
        save_results(given.out, {"model": given.model, "manifest": given.manifest.name, "lang": given.lang, **found})


if __name__ == "__main__":
    main()
