"""Development clips, held out per corpus and language, and greedy replies to them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from lithophone.audio.features import log_mel_frames
from lithophone.data.manifest import Entry, read_entries
from lithophone.decode.options import Greedy
from lithophone.decode.scheduler import decode_batch
from lithophone.metrics.wer import measure_name, score, score_characters
from lithophone.model.speech import GraniteSpeech
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.clips import DecodedCorpus
from lithophone.train.targets.ctc_transcripts import training_language

BATCH = 8
"""Clips per decoding batch."""

T = TypeVar("T")


@dataclass(frozen=True)
class DevClip:
    """Frames (T, 160) of a clip, text, language, and keyword list if any."""

    frames: Tensor
    text: str
    lang: str
    keywords: tuple[str, ...] = ()


def dev_corpora(
    manifest: Path, langs: Sequence[str], clips: int, cache: Path, *, by_corpus: bool = True
) -> dict[str, DecodedCorpus]:
    """At most `clips` clips, evenly spaced in the manifest, per corpus and language (`librispeech_en`).

    Without `by_corpus`: per language (`en`).
    """
    wanted = [training_language(lang) for lang in langs]
    groups: dict[str, list[Entry]] = {} if by_corpus else {lang: [] for lang in wanted}
    for entry in read_entries(manifest):
        lang = training_language(entry.lang)
        if lang in wanted:
            groups.setdefault(f"{entry.corpus}_{lang}" if by_corpus else lang, []).append(entry)
    return {
        name: DecodedCorpus(entries[:: max(1, len(entries) // clips)][:clips], cache)
        for name, entries in groups.items()
        if entries
    }


def dev_clips(corpus: DecodedCorpus, *, whole: bool = False) -> list[DevClip]:
    """All clips of a corpus, shortest first; `whole` drops an incomplete last frame."""
    clips = [
        DevClip(log_mel_frames(torch.from_numpy(corpus.samples(clip)), whole=whole), clip.text, clip.lang)
        for clip in corpus.clips
    ]
    return sorted(clips, key=lambda clip: len(clip.frames))


def in_batches(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def error_rates(pairs: Sequence[tuple[str, str]], lang: str, name: str) -> dict[str, float]:
    """`cer_<name>` and, in languages with spaces, `wer_<name>` of (reference, hypothesis) pairs."""
    characters = {f"cer_{name}": score_characters(pairs, lang).rate}
    return characters | {f"{measure_name(lang).lower()}_{name}": score(pairs, lang).rate}


def greedy_replies(
    model: GraniteSpeech,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    audio: Tensor,
    counts: Tensor,
    options: Greedy | None = None,
) -> list[str]:
    """Greedy replies to prompts with embeddings `audio` (B, N, H) and `counts` (B,) in their audio slots."""
    rows = model.embed([list(prompt) for prompt in prompts], audio, counts)
    replies = decode_batch(model, rows, options or Greedy(), counts.tolist())
    return [tokenizer.decode(reply.ids) for reply in replies]
