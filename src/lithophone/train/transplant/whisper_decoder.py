"""Whisper's decoder as a teacher of text: its next-token losses on the states of a student's encoder.

The decoder is frozen. Its gradient weighs the errors of states by what they change in the text, which a distance
between states does not. Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lithophone.errors import OptionError
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.targets.losses import Loss, next_token
from lithophone.train.transplant.statistics import Statistics
from lithophone.train.transplant.whisper import WhisperEncoder
from lithophone.train.transplant.whisper_weights import complete, read_decoder

if TYPE_CHECKING:
    from typing_extensions import Self

MULTILINGUAL = 51_865
"""Tokens of the smallest multilingual vocabulary. Others write English only, and have no language in the prompt."""

IGNORED = -100


class WhisperAttention(nn.Module):
    """Pre-norm attention with a residual connection, to itself or to encoder states."""

    def __init__(self, size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(size)
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, size)

    def forward(self, x: Tensor, states: Tensor | None = None, valid: Tensor | None = None) -> Tensor:
        """x (B, N, D), causal unless there are states (B, T, D), valid (B, T) -> (B, N, D)."""
        normed = self.norm(x)
        k, v = self.key_value(normed if states is None else states).chunk(2, -1)
        q, k, v = (part.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for part in (self.query(normed), k, v))
        mask = None if valid is None else valid[:, None, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=states is None)
        out: Tensor = x + self.out(attended.transpose(1, 2).flatten(2))
        return out


class WhisperDecoderLayer(nn.Module):
    """Attention to the text, to the encoder states, and an MLP; each with its norm before."""

    def __init__(self, size: int, units: int, num_heads: int) -> None:
        super().__init__()
        self.self_attention = WhisperAttention(size, num_heads)
        self.cross_attention = WhisperAttention(size, num_heads)
        self.mlp_norm = nn.LayerNorm(size)
        self.up = nn.Linear(size, units)
        self.down = nn.Linear(units, size)

    def forward(self, x: Tensor, states: Tensor, valid: Tensor) -> Tensor:
        x = self.cross_attention(self.self_attention(x), states, valid)
        return x + self.mlp(x)

    def mlp(self, x: Tensor) -> Tensor:
        """(B, N, D) -> the update (B, N, D) of the residual stream."""
        out: Tensor = self.down(F.gelu(self.up(self.mlp_norm(x))))
        return out


class WhisperDecoder(nn.Module):
    """Token ids and encoder states -> logits of the next tokens."""

    def __init__(self, n_tokens: int, n_positions: int, size: int, units: int, num_heads: int, num_layers: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.empty(n_tokens, size))
        self.positions = nn.Parameter(torch.empty(n_positions, size))
        self.layers = nn.ModuleList(WhisperDecoderLayer(size, units, num_heads) for _ in range(num_layers))
        self.norm = nn.LayerNorm(size)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """The frozen decoder of a Whisper model in the format of CTranslate2 or `transformers`.

        Raises CheckpointError where there is none, or it is incomplete.
        """
        with complete(folder):
            return cls._with_weights(*read_decoder(folder))

    @classmethod
    def _with_weights(cls, weights: Mapping[str, Tensor], num_heads: int) -> Self:
        n_tokens, size = weights["embeddings"].shape
        num_layers = sum(name.endswith("mlp_norm.weight") for name in weights)
        units = len(weights["layers.0.up.weight"])
        decoder = cls(n_tokens, len(weights["positions"]), size, units, num_heads, num_layers)
        decoder.load_state_dict({name: weight.float() for name, weight in weights.items()})
        return decoder.requires_grad_(False).eval()

    def forward(self, tokens: Tensor, states: Tensor, valid: Tensor) -> Tensor:
        """Tokens (B, N), states (B, T, D), valid (B, T) -> hidden states (B, N, D), input of `logits`."""
        x = self.embeddings[tokens] + self.positions[: tokens.shape[1]]
        for layer in self.layers:
            x = layer(x, states, valid)
        out: Tensor = self.norm(x)
        return out

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., tokens)."""
        return F.linear(hidden, self.embeddings)


class DecoderInput(nn.Module):
    """Output of the last block -> what Whisper's decoder attends to: the same, with the usual offset of positions."""

    offset: Tensor

    def __init__(self, teacher: WhisperEncoder, statistics: Statistics) -> None:
        super().__init__()
        self.size = teacher.size
        offset = statistics.position_offset[-1] / statistics.scale[-1] * teacher.norm.weight
        self.register_buffer("offset", offset.detach(), persistent=False)

    @classmethod
    def from_folders(cls, whisper: Path, encoder: Path) -> Self:
        """For a Whisper model, and the encoder that the recipe `transplant` made of it.

        Raises OptionError where the encoder has no statistics, CheckpointError for another Whisper model.
        """
        path = encoder / "statistics.safetensors"
        if not path.is_file():
            raise OptionError(f"{path} is missing: the encoder must be a folder of the recipe transplant")
        return cls(WhisperEncoder.from_folder(whisper), Statistics.read(path))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D + SPARE), T at most 1500 -> (B, T, D)."""
        return x[..., : self.size] + self.offset[: x.shape[1]].to(x)


@dataclass(frozen=True)
class TextTeacher:
    """Whisper's decoder and its tokenizer."""

    decoder: WhisperDecoder
    tokenizer: Tokenizer

    @classmethod
    def from_folder(cls, folder: Path) -> TextTeacher:
        """Raises CheckpointError where decoder or tokenizer are missing."""
        return cls(WhisperDecoder.from_folder(folder), Tokenizer.from_file(folder / "tokenizer.json"))

    def to(self, device: torch.device | str) -> TextTeacher:
        return TextTeacher(self.decoder.to(device), self.tokenizer)

    def prompt(self, lang: str) -> list[int]:
        """Ids in front of a transcript without timestamps."""
        language = (lang, "transcribe") if len(self.decoder.embeddings) >= MULTILINGUAL else ()
        return [self.tokenizer.id_of(f"<|{name}|>") for name in ("startoftranscript", *language, "notimestamps")]

    def rows(self, texts: Sequence[str], langs: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Input ids and targets (B, N).

        Targets are IGNORED in the prompt, in padding, and for rows without text or with more tokens than positions.
        A text in capitals alone is read in lower case: Whisper spells capitals letter by letter.
        """
        end = self.tokenizer.id_of("<|endoftext|>")
        prompts = [self.prompt(lang) for lang in langs]
        replies = [[*self.tokenizer.encode(" " + lower_capitals(text)), end] for text in texts]
        rows = list(zip(prompts, replies, strict=True))
        width = min(max(len(p) + len(r) - 1 for p, r in rows), len(self.decoder.positions))
        ids, targets = torch.full((len(rows), width), end), torch.full((len(rows), width), IGNORED)
        for n, (text, (prompt, reply)) in enumerate(zip(texts, rows, strict=True)):
            used = [*prompt, *reply[:-1]]
            ids[n, : len(used[:width])] = torch.tensor(used[:width])
            if text and len(used) <= width:
                targets[n, len(prompt) - 1 : len(used)] = torch.tensor(reply)
        return ids, targets

    def losses(
        self, states: Tensor, teacher_states: Tensor, valid: Tensor, texts: Sequence[str], langs: Sequence[str]
    ) -> dict[str, Loss]:
        """On decoder inputs of student and teacher (B, T, D), valid (B, T), counted per token of the transcripts.

        `text` is the cross-entropy of the transcript, `teacher_text` the Kullback-Leibler divergence of the student's
        next-token probabilities from the teacher's.
        """
        ids, targets = (part.to(states.device) for part in self.rows(texts, langs))
        kept = targets != IGNORED
        with torch.no_grad():
            teacher = self._logits(ids, teacher_states, valid, kept).log_softmax(-1)
        student = self._logits(ids, states.float(), valid, kept)
        divergence = F.kl_div(student.log_softmax(-1), teacher, reduction="sum", log_target=True)
        text = next_token(student, targets[kept])
        return {"text": text, "teacher_text": Loss(divergence, text.count)}

    def _logits(self, ids: Tensor, states: Tensor, valid: Tensor, kept: Tensor) -> Tensor:
        """(targets, tokens) in float32."""
        return self.decoder.logits(self.decoder(ids, states, valid)[kept]).float()


def lower_capitals(text: str) -> str:
    """A text in capitals alone in lower case: Whisper spells capitals letter by letter."""
    return text.lower() if text == text.upper() else text
