"""Manifest and transcriber, or manifest and hypotheses -> a system with counted clips.

A clip that cannot be transcribed, or has no hypothesis, counts as an empty transcript. Scoring needs no torch.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeAlias

from lithophone.data.manifest import Entry
from lithophone.errors import LithophoneError, OptionError
from lithophone.evaluation.hypotheses import Hypothesis
from lithophone.evaluation.matching import match, some_of
from lithophone.evaluation.saved import Answer, SavedAnswers
from lithophone.evaluation.summary import AS_USUAL, Clip, Evaluation, Resampling, System, summarize
from lithophone.evaluation.tally import AS_SPOKEN, ZEROS, Tally, Texts, count_clip
from lithophone.metrics.speed import latency

if TYPE_CHECKING:
    from lithophone.pipeline.assembly import Event
    from lithophone.pipeline.options import TranscribeOptions
    from lithophone.pipeline.transcriber import Transcriber
    from lithophone.transcript import Transcript

OnEvent: TypeAlias = Callable[["Event"], None]

WORTH_A_PROCESS = 20_000
"""Clips from which several processes are faster than one, imports included."""

PART = 1_000
"""Clips per task of a process."""

Row: TypeAlias = tuple[Entry, Hypothesis | None, float | None]
"""A clip, its hypothesis, and its seconds of audio if known."""

logger = logging.getLogger(__name__)


def evaluate(
    transcriber: Transcriber,
    entries: Sequence[Entry],
    options: TranscribeOptions | None = None,
    on_event: OnEvent | None = None,
    resampling: Resampling = AS_USUAL,
) -> Evaluation:
    """Transcribe and score all entries, by corpus and language, sorted by name."""
    return summarize(run_model("", transcriber, entries, options, on_event), resampling)


def run_model(
    name: str,
    transcriber: Transcriber,
    entries: Sequence[Entry],
    options: TranscribeOptions | None = None,
    on_event: OnEvent | None = None,
    *,
    biased: bool = False,
    texts: Texts = AS_SPOKEN,
    saved: SavedAnswers | None = None,
    about: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> System:
    """Run `transcriber` with these options.

    Words are timed where the references are. biased: keywords of each clip in its prompt. saved: answers of an earlier
    run, to which new ones are added. Raises ManifestError for duplicate clip names.
    """
    from lithophone.pipeline.options import TranscribeOptions

    match(entries, {})  # clips that share a name are refused before any of them is decoded
    options = options or TranscribeOptions()
    if options.task == "transcribe" and any(entry.words for entry in entries):
        options = replace(options, word_timestamps=True)
    answers = saved.of(entries) if saved else {}
    waiting = [entry for entry in entries if entry.id not in answers]
    lost_s = 0.0
    for entry, result, seconds in _results(transcriber, waiting, options, on_event, biased):
        if isinstance(result, LithophoneError):
            logger.warning("counted as empty: %s", result)
            lost_s += seconds
        else:
            answer = Answer(_hypothesis(entry, result), seconds, result.duration_s, entry.state)
            answers[entry.id] = answer
            if saved:
                saved.append(answer)
    mine = {key: answers[key] for entry in entries if (key := entry.id) in answers}
    hypotheses = {key: answer.hypothesis for key, answer in mine.items()}
    texts = replace(texts, to=options.to and options.text_language)
    clips = count(
        [(entry, hypotheses.get(entry.id)) for entry in entries],
        texts,
        {key: answer.audio_s for key, answer in mine.items()},
        timed=options.word_timestamps or options.task == "word-times",
        workers=workers,
    )
    seconds_of = [answer.processing_s for answer in mine.values()]
    return System(
        name,
        clips,
        sum(seconds_of) + lost_s,
        latency(seconds_of) if options.batch_size == 1 and seconds_of else None,
        texts=texts,
        about=about or {},
    )


def from_hypotheses(
    name: str,
    entries: Sequence[Entry],
    hypotheses: Mapping[str, Hypothesis],
    *,
    texts: Texts = AS_SPOKEN,
    about: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> System:
    """A system from given hypotheses; workers: processes that count, for many clips.

    Raises OptionError where none belongs to a clip of the manifest, ManifestError as `match`.
    """
    matched = match(entries, hypotheses)
    if all(hypothesis is None for _, hypothesis in matched.pairs):
        raise OptionError(
            f"none of the {len(hypotheses)} hypotheses of {name} ({some_of(matched.without_reference)}) belongs to one "
            f"of the {len(entries)} clips ({some_of(matched.without_hypothesis)}): their names must be the same"
        )
    clips = count(matched.pairs, texts, workers=workers)
    return System(name, clips, without_reference=tuple(matched.without_reference), texts=texts, about=about or {})


def count(
    pairs: Sequence[tuple[Entry, Hypothesis | None]],
    texts: Texts,
    audio_s: Mapping[str, float] | None = None,
    timed: bool = False,
    workers: int = 1,
) -> tuple[Clip, ...]:
    """Every clip with its counts.

    audio_s: lengths by clip name, if known better than the manifest's.
    timed: word times were requested.
    workers: processes; for more than one the caller's script must be importable (multiprocessing's `spawn`).
    """
    some = [hypothesis for _, hypothesis in pairs if hypothesis]
    timed, has_speakers = timed or any(h.words for h in some), any(h.has_speakers for h in some)
    known = audio_s or {}
    rows = [(entry, hypothesis, known.get(entry.id)) for entry, hypothesis in pairs]
    count_rows = functools.partial(_counts_of, texts=texts, timed=timed, has_speakers=has_speakers)
    if workers > 1 and len(rows) >= WORTH_A_PROCESS:
        parts = [rows[start : start + PART] for start in range(0, len(rows), PART)]
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            counts = [one for part in pool.map(count_rows, parts) for one in part]
    else:
        counts = count_rows(rows)
    return tuple(
        Clip(entry, hypothesis.text if hypothesis else "", Tally(**one))
        for (entry, hypothesis), one in zip(pairs, counts, strict=True)
    )


def _counts_of(rows: Sequence[Row], texts: Texts, timed: bool, has_speakers: bool) -> list[dict[str, Any]]:
    """Non-zero fields of the tallies, which are cheap to send between processes."""
    tallies = (
        count_clip(
            entry,
            hypothesis,
            texts=texts,
            keywords=entry.keywords,
            timed=timed,
            has_speakers=has_speakers,
            audio_s=audio_s,
        )
        for entry, hypothesis, audio_s in rows
    )
    return [
        {name: value for name, zero in ZEROS.items() if (value := getattr(tally, name)) is not zero}
        for tally in tallies
    ]


def _results(
    transcriber: Transcriber,
    entries: Sequence[Entry],
    options: TranscribeOptions,
    on_event: OnEvent | None,
    biased: bool,
) -> Iterator[tuple[Entry, Transcript | LithophoneError, float]]:
    """Results in order, each with the seconds since the last. Raises OptionError for refused keywords."""
    from lithophone.pipeline.assembly import WindowDone
    from lithophone.pipeline.sources import AudioSource

    began, waiting = time.perf_counter(), iter(entries)
    sources = [
        AudioSource(
            entry.audio,
            start_s=entry.start_s,
            end_s=entry.end_s,
            options=replace(options, keywords=entry.keywords) if biased else None,
        )
        for entry in entries
    ]
    for event in transcriber.events(sources, options=options):
        if on_event:
            on_event(event)
        if isinstance(event, WindowDone):
            continue
        if isinstance(event.result, OptionError):
            raise event.result
        now = time.perf_counter()
        yield next(waiting), event.result, now - began
        began = now


def _hypothesis(entry: Entry, transcript: Transcript) -> Hypothesis:
    turns = tuple(segment for segment in transcript.segments if segment.speaker)
    return Hypothesis(entry.id, transcript.text, transcript.words, turns)
