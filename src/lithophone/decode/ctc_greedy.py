"""CTC greedy (best-path) decoding, without the language model."""

from __future__ import annotations

from lithophone.ctc.forced_alignment import BLANK
from lithophone.ctc.posteriors import CTCPosteriors
from lithophone.decode.reply import Reply
from lithophone.model.conformer import EncoderOutput
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.speech import GraniteSpeech

Network = GraniteSpeech | GraniteSpeechNar


def character_posteriors(encoded: EncoderOutput) -> CTCPosteriors:
    """Posteriors of the character head, 20 ms a frame."""
    return CTCPosteriors(encoded.logits, encoded.lengths)


def bpe_posteriors(network: Network, encoded: EncoderOutput) -> CTCPosteriors:
    """Posteriors of the BPE head, 80 ms a frame; the network must have one."""
    head = network.encoder.out_bpe if isinstance(network, GraniteSpeechNar) else network.bpe_head
    assert head is not None, "the checkpoint has no BPE head"
    blank = network.config.blank_label if isinstance(network, GraniteSpeechNar) else BLANK
    return CTCPosteriors(*head.logits(encoded), blank)


def bpe_replies(network: Network, posteriors: CTCPosteriors) -> list[Reply]:
    """Best paths of the BPE head as token ids, always finished."""
    first = network.config.first_label if isinstance(network, GraniteSpeechNar) else 1
    return [
        Reply(tuple(label - first for label, _ in path), True, tuple(logprob for _, logprob in path))
        for path in posteriors.paths
    ]
