"""What the encoder spells by itself: the best CTC path as text, without the language model.

The BPE head where the checkpoint has one, else the characters. Text is raw: lower case, no punctuation.
"""

from __future__ import annotations

from torch import Tensor

from lithophone.checkpoint import Checkpoint
from lithophone.ctc.characters import labels_text
from lithophone.ctc.forced_alignment import BLANK, Path, best_path
from lithophone.decode.reply import Reply
from lithophone.model.config import ModelConfig
from lithophone.model.conformer import EncoderOutput
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import NarConfig


def spelled_replies(checkpoint: Checkpoint, logits: Tensor, lengths: Tensor, head: str) -> list[tuple[str, Reply]]:
    """Text and reply of every row, by the `ctc_logits` of a `head`; a path always ends, so every reply is finished.

    Characters have no token ids.
    """
    if head == "characters":
        return [(text, Reply((), True, ())) for text in _texts(logits, lengths)]
    blank, first = _numbering(checkpoint.config)
    replies = [_reply(best_path(own[:n], blank), first) for own, n in zip(logits, lengths.tolist(), strict=True)]
    return [(checkpoint.tokenizer.decode(reply.ids), reply) for reply in replies]


def ctc_logits(checkpoint: Checkpoint, encoded: EncoderOutput, head: str) -> tuple[Tensor, Tensor]:
    """Logits (B, T', labels) of a head, "bpe" or "characters", and the lengths (B,) that go with them."""
    if head == "characters":
        return encoded.logits, encoded.lengths
    network = checkpoint.network
    bpe_head = network.encoder.out_bpe if isinstance(network, GraniteSpeechNar) else network.bpe_head
    assert bpe_head is not None, "the checkpoint has no BPE head"
    return bpe_head.logits(encoded)


def _numbering(config: ModelConfig | NarConfig) -> tuple[int, int]:
    """The BPE head's blank, and its label of token 0."""
    return (config.blank_label, config.first_label) if isinstance(config, NarConfig) else (BLANK, 1)


def _reply(path: Path, first: int) -> Reply:
    """Labels of a BPE head as tokens."""
    return Reply(tuple(label - first for label, _ in path), True, tuple(logprob for _, logprob in path))


def spelled_texts(encoded: EncoderOutput) -> list[str]:
    """What the characters of every row spell; "" where nothing was heard."""
    return _texts(encoded.logits, encoded.lengths)


def _texts(logits: Tensor, lengths: Tensor) -> list[str]:
    rows = zip(logits, lengths.tolist(), strict=True)
    return [labels_text([label for label, _ in best_path(own[:n])]) for own, n in rows]
