"""Manifest and transcriber, or manifest and hypotheses -> a system whose clips are counted.

A clip that cannot be transcribed, or that has no hypothesis, counts as an empty transcript: all of its words are
deletions. Torch comes with the transcriber, and is not needed to score.
"""

from __future__ import annotations

import functools
import logging
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from lithophone.data.manifest import Entry
from lithophone.errors import AudioError, LithophoneError, OptionError
from lithophone.evaluation.hypotheses import Hypothesis, match
from lithophone.evaluation.saved import Answer, SavedAnswers
from lithophone.evaluation.sound import clip_source
from lithophone.evaluation.summary import AS_USUAL, Clip, Evaluation, Resampling, System, summarize
from lithophone.evaluation.tally import AS_SPOKEN, ZEROS, Tally, Texts, count_clip
from lithophone.metrics.speed import latency

if TYPE_CHECKING:
    from lithophone.pipeline.options import TranscribeOptions
    from lithophone.pipeline.transcriber import OnPiece, Transcriber
    from lithophone.transcript import Transcript

WORTH_A_PROCESS = 20_000
"""Clips from which on several processes are faster than one, in which all is imported already."""

PART = 1_000
"""Clips that go to a process together."""

Row: TypeAlias = tuple[Entry, Hypothesis | None, float | None]
"""A clip, what was heard, and the seconds of audio where they are known."""

logger = logging.getLogger(__name__)


def evaluate(
    transcriber: Transcriber,
    entries: Sequence[Entry],
    options: TranscribeOptions | None = None,
    on_piece: OnPiece | None = None,
    resampling: Resampling = AS_USUAL,
) -> Evaluation:
    """Transcribe all entries and score them, corpus by corpus and language by language, sorted by name."""
    return summarize(transcribed("", transcriber, entries, options, on_piece), resampling)


def transcribed(
    name: str,
    transcriber: Transcriber,
    entries: Sequence[Entry],
    options: TranscribeOptions | None = None,
    on_piece: OnPiece | None = None,
    *,
    biased: bool = False,
    texts: Texts = AS_SPOKEN,
    saved: SavedAnswers | None = None,
    about: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> System:
    """The system that `transcriber` is with these options.

    Words are timed where the references are. `biased` names every clip's keywords in its prompt; clips with different
    keywords share no batch. `saved` holds what an earlier run has done, and takes what this one does. Raises
    ManifestError for two clips of one name.
    """
    from lithophone.pipeline.options import TranscribeOptions

    match(entries, {})  # clips that share a name are refused before any of them is decoded
    options = options or TranscribeOptions()
    if options.task == "transcribe" and any(entry.words for entry in entries):
        options = replace(options, word_timestamps=True)
    answers = saved.read() if saved else {}
    waiting = [entry for entry in entries if key_of(entry) not in answers]
    lost_s = 0.0
    for entry, result, seconds in _results(transcriber, waiting, options, on_piece, biased):
        if isinstance(result, LithophoneError):
            logger.warning("counted as empty: %s", result)
            lost_s += seconds
        else:
            answer = Answer(_hypothesis(entry, result), seconds, result.duration_s)
            answers[key_of(entry)] = answer
            if saved:
                saved.append(answer)
    mine = {key: answers[key] for entry in entries if (key := key_of(entry)) in answers}
    hypotheses = {key: answer.hypothesis for key, answer in mine.items()}
    texts = replace(texts, to=options.to and options.text_language)
    clips = counted(
        [(entry, hypotheses.get(key_of(entry))) for entry in entries],
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


def given(
    name: str,
    entries: Sequence[Entry],
    hypotheses: Mapping[str, Hypothesis],
    *,
    texts: Texts = AS_SPOKEN,
    about: Mapping[str, Any] | None = None,
    workers: int = 1,
) -> System:
    """The system that gave these hypotheses; counted by so many processes where there are many of them.

    Raises OptionError where none of them belongs to a clip of the manifest, and ManifestError as `match` does.
    """
    matched = match(entries, hypotheses)
    if all(hypothesis is None for _, hypothesis in matched.pairs):
        raise OptionError(
            f"none of the {len(hypotheses)} hypotheses of {name} ({_some(matched.without_reference)}) belongs to one "
            f"of the {len(entries)} clips ({_some(matched.without_hypothesis)}): their names must be the same"
        )
    clips = counted(matched.pairs, texts, workers=workers)
    return System(name, clips, without_reference=tuple(matched.without_reference), texts=texts, about=about or {})


def counted(
    pairs: Sequence[tuple[Entry, Hypothesis | None]],
    texts: Texts,
    audio_s: Mapping[str, float] | None = None,
    timed: bool = False,
    workers: int = 1,
) -> tuple[Clip, ...]:
    """Every clip with its counts.

    audio_s: lengths by the names of clips, where they are known better than the manifest knows them.
    timed: times of words were asked for, so that they count as malformed where there are none.
    workers: processes; a script that asks for more than one must be importable, as with multiprocessing's `spawn`.
    """
    some = [hypothesis for _, hypothesis in pairs if hypothesis]
    timed, named = timed or any(h.words for h in some), any(_names_speakers(h) for h in some)
    known = audio_s or {}
    rows = [(entry, hypothesis, known.get(key_of(entry))) for entry, hypothesis in pairs]
    count = functools.partial(_counts_of, texts=texts, timed=timed, named=named)
    if workers > 1 and len(rows) >= WORTH_A_PROCESS:
        parts = [rows[start : start + PART] for start in range(0, len(rows), PART)]
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            counts = [one for part in pool.map(count, parts) for one in part]
    else:
        counts = count(rows)
    return tuple(
        Clip(entry, hypothesis.text if hypothesis else "", Tally(**one))
        for (entry, hypothesis), one in zip(pairs, counts, strict=True)
    )


def _counts_of(rows: Sequence[Row], texts: Texts, timed: bool, named: bool) -> list[dict[str, Any]]:
    """What is not zero in the tallies, which is much less to hand from process to process."""
    tallies = (
        count_clip(entry, hypothesis, texts=texts, keywords=entry.keywords, timed=timed, named=named, audio_s=audio_s)
        for entry, hypothesis, audio_s in rows
    )
    return [
        {name: value for name, zero in ZEROS.items() if (value := getattr(tally, name)) is not zero}
        for tally in tallies
    ]


def key_of(entry: Entry) -> str:
    """What a clip is called: the name in its manifest, else its file."""
    return entry.name or str(entry.audio)


def _results(
    transcriber: Transcriber,
    entries: Sequence[Entry],
    options: TranscribeOptions,
    on_piece: OnPiece | None,
    biased: bool,
) -> Iterator[tuple[Entry, Transcript | LithophoneError, float]]:
    """Results in order, with the seconds since the one before."""
    began = time.perf_counter()
    for keywords, group in groupby(entries, key=lambda entry: entry.keywords if biased else options.keywords):
        some = list(group)
        asked = replace(options, keywords=keywords)
        unread: dict[int, AudioError] = {}
        results = transcriber.transcribe_many(_sources(some, unread), options=asked, on_piece=on_piece)
        for number, (entry, (_, result)) in enumerate(zip(some, results, strict=True)):
            now = time.perf_counter()
            yield entry, unread.get(number, result), now - began
            began = now


def _sources(entries: Sequence[Entry], unread: dict[int, AudioError]) -> Iterator[Path | bytes]:
    """What is to be transcribed; a stretch that cannot be read is told in `unread`, and stands there as no bytes."""
    for number, entry in enumerate(entries):
        try:
            source = clip_source(entry)
        except AudioError as error:
            unread[number] = error
            source = b""
        yield source


def _hypothesis(entry: Entry, transcript: Transcript) -> Hypothesis:
    turns = tuple(segment for segment in transcript.segments if segment.speaker)
    return Hypothesis(key_of(entry), transcript.text, transcript.words, turns)


def _names_speakers(hypothesis: Hypothesis) -> bool:
    return any(word.speaker for word in hypothesis.words) or any(turn.speaker for turn in hypothesis.turns)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
