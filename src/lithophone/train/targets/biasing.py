"""Contextual biasing (arXiv 2604.12398): phonetic cues for keywords, and an auxiliary tagger of keyword positions.

A cue is a common word that sounds partly like a keyword: `Dashwood (dash wood)`. The tagger, a training loss only,
predicts from audio embeddings where keywords are spoken. Syntax, similarity and weight are this project's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache

import torch
from rapidfuzz import process
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn

from lithophone.ctc.characters import raw_text
from lithophone.model.granite import pad_rows
from lithophone.train.targets.losses import Loss, ctc

CUES = 2
"""Most cues per keyword."""

ALIKE = 0.5
"""Lowest similarity of a cue: 1 - normalised edit distance of the codes."""

OTHER, KEYWORD = 1, 2
"""Labels of the tagger, one per spoken word; 0 is the blank."""

_SOUNDS = (
    ("sch", "s"), ("tch", "s"), ("ch", "s"), ("sh", "s"), ("th", "t"), ("ph", "f"), ("gh", ""), ("ck", "k"),
    ("qu", "kw"), ("c(?=[eiy])", "s"), ("[cq]", "k"), ("x", "ks"), ("z", "s"), ("[dt]+", "t"), ("[bp]+", "p"),
    ("v", "f"), ("y", "i"), ("h", ""), ("[aeiou]+", "a"), (r"(.)\1+", r"\1"),
)  # fmt: skip


@lru_cache(1 << 16)
def sounds(word: str) -> str:
    """Rough phonetic code: voiced as voiceless, vowel runs as one; other scripts unchanged."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", raw_text(word)) if not unicodedata.combining(c))
    for pattern, sound in _SOUNDS:
        plain = re.sub(pattern, sound, plain)
    return plain.replace(" ", "")


class Cues:
    def __init__(self, common: Iterable[str], count: int = CUES) -> None:
        self.words = sorted({raw_text(word) for word in common} - {""})
        self.codes = [sounds(word) for word in self.words]
        self.count = count
        self.known: dict[str, tuple[str, ...]] = {}

    def of(self, keyword: str) -> tuple[str, ...]:
        """Most similar common words, best first; none below ALIKE."""
        if keyword not in self.known:
            found = process.extract(
                sounds(keyword), self.codes, scorer=Levenshtein.normalized_similarity, limit=None, score_cutoff=ALIKE
            )
            said = raw_text(keyword)
            words = [self.words[place] for _, _, place in found if self.words[place] != said]
            self.known[keyword] = tuple(words[: self.count])
        return self.known[keyword]


def with_cues(keywords: Iterable[str], common: Iterable[str] | Cues) -> tuple[str, ...]:
    """Keywords with cues, for models trained with the recipe `biasing`; others do not profit.

    `common`: frequent words of the training texts. Returns a list for `TranscribeOptions.keywords` or `--keywords`.
    """
    cues = common if isinstance(common, Cues) else Cues(common)
    found = ((keyword, " ".join(cues.of(keyword))) for keyword in keywords)
    return tuple(f"{keyword} ({cue})" if cue else keyword for keyword, cue in found)


class PositionTagger(nn.Module):
    """Audio embeddings (N, H), language-model states over the list (L, H) -> logits of word labels (N, 3).

    Cross-attention from audio to the list and one learned state for unlisted words. Query and key start equal: from
    independent random weights it does not learn.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.audio_norm = nn.LayerNorm(hidden_size)
        self.list_norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, hidden_size)
        self.unlisted = nn.Parameter(torch.zeros(1, hidden_size))
        self.out = nn.Linear(2 * hidden_size, 3)
        nn.init.orthogonal_(self.query.weight)
        self.key.load_state_dict(self.query.state_dict())

    def forward(self, audio: Tensor, states: Tensor) -> Tensor:
        audio = self.audio_norm(audio)
        states = torch.cat([self.unlisted, self.list_norm(states)])
        scores = self.query(audio) @ self.key(states).T * audio.shape[-1] ** -0.5
        out: Tensor = self.out(torch.cat([audio, scores.softmax(-1) @ self.value(states)], -1))
        return out


def tagged(text: str, keywords: Sequence[str]) -> list[int]:
    """KEYWORD or OTHER per word of a raw text; every word of a multi-word keyword counts."""
    listed = {word for keyword in keywords for word in raw_text(keyword).split()}
    return [KEYWORD if word in listed else OTHER for word in raw_text(text).split()]


def tagger_loss(
    tagger: PositionTagger, audio: Sequence[Tensor], states: Sequence[Tensor], tags: Sequence[Sequence[int]]
) -> Loss:
    """CTC of each row's tags: audio (N_i, H), states (L_i, H) of its list."""
    if not audio:
        return Loss(tagger.out.bias.sum() * 0.0, 0.0)
    padded, lengths = pad_rows([tagger(row, listed) for row, listed in zip(audio, states, strict=True)])
    return ctc(padded, lengths, tags)
