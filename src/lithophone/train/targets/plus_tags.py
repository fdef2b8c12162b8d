"""Target replies of a plus model: word-time and speaker tags that `text/replies.py` parses.

Tags with voice clusters are for training only: no task of inference has their instruction.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lithophone.ctc.characters import raw_text
from lithophone.errors import ManifestError
from lithophone.model.config import ModelType
from lithophone.text.prompts import SPEAKERS, SpeakerTurns, prompt_text
from lithophone.text.replies import SILENCE, Turn
from lithophone.text.tags import WRAP_S
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.targets.prompt_reply import Example, TaskTarget, make_example
from lithophone.transcript import Word

MODEL_TYPE: ModelType = "granite_speech_plus"

LONGEST_STEP_CS = round(100 * WRAP_S) - 1
"""Longest step between two tags: 10 s would wrap to no step at all."""

SILENCE_S = 0.1
"""Shorter gaps belong to the next word: few stop consonants are longer."""

CLUSTERS = SPEAKERS.replace("[Speaker 1]: and [Speaker 2]:", "[Speaker 1 cluster 1]: and [Speaker 2 cluster 2]:")
"""Instruction for speaker tags with voice clusters."""

UNKNOWN_SPEAKER = ""


def raw_words(words: Iterable[Word]) -> tuple[Word, ...]:
    """Words in raw form: punctuation dropped; a word that splits divides its time by letters."""
    return tuple(piece for word in words for piece in _pieces(word))


def _pieces(word: Word) -> Iterator[Word]:
    parts = raw_text(word.text).split()
    edges = np.cumsum([0, *map(len, parts)])
    times = np.interp(edges, [0, max(1, edges[-1])], [word.start_s, word.end_s]).tolist()
    for part, (start_s, end_s) in zip(parts, pairwise(times), strict=True):
        yield replace(word, text=part, start_s=start_s, end_s=end_s)


def word_time_reply(words: Sequence[Word], silence_s: float = SILENCE_S) -> str:
    """`hello [T:45] _ [T:60] world [T:82]`: words, and silences of `silence_s` or more, with end times.

    Centiseconds modulo 1000, monotonic; a silence of 10 s or more is split. Raises ManifestError for a word of 10 s or
    more, or without letters.
    """
    pieces: list[str] = []
    last_cs = 0
    for word in words:
        start_cs, end_cs = round(100 * word.start_s), max(round(100 * word.end_s), last_cs)
        if start_cs - last_cs >= 100 * silence_s:
            stops = [*range(last_cs + LONGEST_STEP_CS, start_cs, LONGEST_STEP_CS), start_cs]
            pieces += [f"{SILENCE} {time_tag(stop)}" for stop in stops]
            last_cs = start_cs
        if end_cs - last_cs > LONGEST_STEP_CS:
            raise ManifestError(
                f"the word {word.text!r} takes {(end_cs - last_cs) / 100:.2f} s: below {WRAP_S:g} s it must be"
            )
        if not raw_text(word.text) or len(word.text.split()) != 1:
            raise ManifestError(f"{word.text!r} is no single word of a raw transcript: pass words through raw_words")
        pieces.append(f"{word.text} {time_tag(end_cs)}")
        last_cs = end_cs
    return " ".join(pieces)


def time_tag(end_cs: int) -> str:
    """`[T:45]` for 45 or 1045 centiseconds."""
    return f"[T:{end_cs % round(100 * WRAP_S)}]"


def speaker_reply(turns: Iterable[Turn], clusters: Mapping[str, int] | None = None) -> str:
    """`[Speaker 1]: hello [Speaker 2]: hi`: speakers numbered by first turn, neighbouring turns joined.

    With `clusters` by speaker, `[Speaker 1 cluster 42]: hello`; a speaker without a cluster keeps the plain tag.
    """
    numbers: dict[str | None, int] = {}
    pieces: list[str] = []
    last: str | None = None
    for turn in turns:
        if not pieces or turn.speaker != last:
            number = numbers.setdefault(turn.speaker, len(numbers) + 1)
            cluster = (clusters or {}).get(turn.speaker or UNKNOWN_SPEAKER)
            pieces.append(f"[Speaker {number}]:" if cluster is None else f"[Speaker {number} cluster {cluster}]:")
        pieces.append(raw_text(turn.text))
        last = turn.speaker
    return " ".join(pieces)


@dataclass(frozen=True)
class ClusteredSpeakerTurns(SpeakerTurns):
    """Speaker turns whose tags name voice clusters."""


def plus_example(target: TaskTarget, tokenizer: Tokenizer, n_audio: int) -> Example:
    """Prompt and reply of a plus model."""
    example = make_example(target, tokenizer, MODEL_TYPE, n_audio)
    if not isinstance(target.task, ClusteredSpeakerTurns):
        return example
    text = prompt_text(SpeakerTurns(), tokenizer, MODEL_TYPE).replace(SPEAKERS, CLUSTERS)
    slot = tokenizer.audio_id
    ids = [i for token in tokenizer.encode(text) for i in ([slot] * n_audio if token == slot else [token])]
    return replace(example, prompt=ids)
