"""Utterances encoded as a batch, and what follows from the encoder's output.

    samples -> frames -> encoder -> character and BPE posteriors, replies of the decoders ctc and edit, drafts
                                 -> projector -> prompts for the language model

Language bias, prompt and decoder are those of each row's request.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import TypeAlias

import torch
from torch import Tensor

from lithophone.audio.features import batch_frames, log_mel_frames
from lithophone.checkpoint import Checkpoint
from lithophone.ctc.characters import labels_text
from lithophone.ctc.posteriors import CTCPosteriors
from lithophone.ctc.prefix_score import PrefixScorer
from lithophone.ctc.pronunciation import labels_and_unscored
from lithophone.ctc.token_spellings import token_spellings
from lithophone.decode.ctc_greedy import bpe_posteriors
from lithophone.decode.ctc_scorer import CTCScorer, Pronunciation
from lithophone.decode.edit import ctc_hypotheses, edit_batch
from lithophone.decode.options import CTC, BeamSearch, Edit, Greedy, JointSearch, Sampling, Speculative
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import DecodeRequest
from lithophone.decode.speculative import confident
from lithophone.model.conformer import EncoderBias, EncoderOutput
from lithophone.pipeline.ctc_greedy import ctc_replies
from lithophone.pipeline.incremental import Context, context_of
from lithophone.pipeline.request import Request
from lithophone.pipeline.utterance import Utterance

TextReply: TypeAlias = tuple[str, Reply]
"""Text and reply."""


class EncodedBatch:
    """Encoded utterances; rows are those of `utterances`."""

    def __init__(self, checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> None:
        self.checkpoint, self.utterances = checkpoint, list(utterances)
        self.requests = [utterance.request for utterance in utterances]
        self.contexts = [context_of(checkpoint, utterance) for utterance in utterances]
        self.output = _encode(checkpoint, utterances, self.contexts)
        self.characters = _own_posteriors(self.output, [context.frames for context in self.contexts])
        """Of the utterances, without what precedes them."""
        self.head_replies: dict[int, TextReply] = {}
        """Row -> reply of the request's CTC head, for the decoders ctc and speculative."""
        self._sure: set[int] = set()
        for row, request in enumerate(self.requests):
            if isinstance(request.decoder, CTC | Speculative) and self.contexts[row].is_empty:
                self._read_head(row, request)

    def replies(self) -> dict[int, TextReply]:
        """Row -> reply that needs no decoding pass of the language model: ctc, edit, confident drafts."""
        ctc = [row for row, request in enumerate(self.requests) if isinstance(request.decoder, CTC)]
        return {row: self.head_replies[row] for row in (*ctc, *self._sure)} | self._edited()

    def decode_requests(self, rows: Sequence[int]) -> list[DecodeRequest]:
        if not rows:
            return []
        return [
            DecodeRequest(
                prompt, n_audio, _options(self.requests[row]), self.draft(row), self.scorer(row),
                expected_labels=len(self.characters[row].labels),
            )
            for row, (prompt, n_audio) in zip(rows, self._prompts(rows), strict=True)
        ]  # fmt: skip

    def _prompts(self, rows: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Prompt embeddings (L, H) of rows, and the number of audio embeddings in each."""
        model = self.checkpoint.model
        audio, counts = model.project(rows_of(self.output, rows))
        n_audio: list[int] = counts.tolist()
        slot = self.checkpoint.tokenizer.audio_id
        texts = [self.requests[row].prompt_for(self.character_text(row)) for row in rows]
        prefixes = [self.contexts[row].prefix for row in rows]
        prompts = [
            (*before, *[slot] * n, *behind, *prefix)
            for (before, behind), n, prefix in zip(texts, n_audio, prefixes, strict=True)
        ]
        return list(zip(model.embed(prompts, audio, counts), n_audio, strict=True))

    def character_text(self, row: int) -> str:
        """Best path of the character head; "" where all frames are blank."""
        return labels_text(self.characters[row].labels)

    def draft(self, row: int) -> Sequence[int]:
        """Token ids for the decoder speculative, of the BPE head or else of the characters."""
        if row not in self.head_replies or not isinstance(self.requests[row].decoder, Speculative):
            return ()
        text, reply = self.head_replies[row]
        return reply.ids or self.checkpoint.tokenizer.encode(text.strip())

    def scorer(self, row: int) -> CTCScorer | None:
        """CTC scorer of a search with `ctc_weight`."""
        request = self.requests[row]
        if not (isinstance(request.decoder, JointSearch) and request.decoder.ctc_weight):
            return None
        language = request.task.language

        def pronounce(ids: Sequence[int]) -> Pronunciation:
            return Pronunciation(*labels_and_unscored(self.checkpoint.tokenizer.decode(ids), language))

        prefixes = PrefixScorer(self.characters[row].log_probs)
        # In every step only keywords near the best path are considered.
        keywords = request.keywords and request.keywords.pruned(prefixes.continuation(prefixes.empty))
        return CTCScorer(prefixes, pronounce, token_spellings(self.checkpoint.tokenizer), keywords)

    def _read_head(self, row: int, request: Request) -> None:
        posteriors = self._head_posteriors(row, request)
        assert request.head is not None, "the model has a CTC head for this decoder"
        [text_reply] = ctc_replies(self.checkpoint, posteriors, request.head)
        self.head_replies[row] = text_reply
        tau = request.decoder.tau_ctc if isinstance(request.decoder, Speculative) else None
        if tau is not None and text_reply[0] and all(confident(posteriors.logits, posteriors.lengths, tau)):
            self._sure.add(row)

    def _head_posteriors(self, row: int, request: Request) -> CTCPosteriors:
        """Posteriors of one row, to save memory with vocabularies of tokens."""
        own = rows_of(self.output, [row])
        if request.head == "characters":
            return CTCPosteriors(own.logits, own.lengths)
        return bpe_posteriors(self.checkpoint.network, own)

    def _edited(self) -> dict[int, TextReply]:
        found: dict[int, TextReply] = {}
        rows = [row for row, request in enumerate(self.requests) if isinstance(request.decoder, Edit)]
        for decoder, group in groupby(rows, key=lambda row: self.requests[row].decoder):
            assert isinstance(decoder, Edit)
            found |= self._edited_by(decoder, list(group))
        return found

    def _edited_by(self, decoder: Edit, rows: Sequence[int]) -> dict[int, TextReply]:
        model, output = self.checkpoint.editor, rows_of(self.output, rows)
        hypotheses = [self.checkpoint.reread(ids) for ids in ctc_hypotheses(model, output)]
        replies = edit_batch(model, *model.project(output), hypotheses, decoder)
        texts = (self.checkpoint.tokenizer.decode(reply.ids) for reply in replies)
        return dict(zip(rows, zip(texts, replies, strict=True), strict=True))


def _options(request: Request) -> Greedy | Speculative | Sampling | BeamSearch:
    decoder = request.decoder
    assert not isinstance(decoder, CTC | Edit), "these have their reply already"
    return decoder


def _own_posteriors(output: EncoderOutput, skipped: Sequence[int]) -> CTCPosteriors:
    """Character posteriors without the first `skipped` frames of every row."""
    if not any(skipped):
        return CTCPosteriors(output.logits, output.lengths)
    rolled = [logits.roll(-n, 0) for logits, n in zip(output.logits, skipped, strict=True)]
    return CTCPosteriors(torch.stack(rolled), output.lengths - torch.tensor(skipped, device=output.lengths.device))


def _encode(checkpoint: Checkpoint, utterances: Sequence[Utterance], contexts: Sequence[Context]) -> EncoderOutput:
    network = checkpoint.network
    weight = next(network.parameters())
    whole = checkpoint.config.whole_frames
    samples = [torch.cat([c.samples, u.samples]).to(weight.device) for u, c in zip(utterances, contexts, strict=True)]
    frames, lengths = batch_frames([log_mel_frames(one, whole) for one in samples])
    return network.encode(frames.to(weight.dtype), lengths, batch_bias([u.request.bias for u in utterances]))


def batch_bias(biases: Sequence[EncoderBias | None]) -> EncoderBias | None:
    """Biases of single rows -> bias of the batch; None where no row has one."""
    some = [bias for bias in biases if bias is not None]
    if not some:
        return None
    zeros = torch.zeros_like(some[0].penalty)
    penalty = torch.cat([zeros if bias is None else bias.penalty for bias in biases])
    if all(bias.language_id is None for bias in some):
        return EncoderBias(penalty)
    ids = [zeros if bias is None or bias.language_id is None else bias.language_id for bias in biases]
    return EncoderBias(penalty, torch.cat(ids))


def rows_of(output: EncoderOutput, rows: Sequence[int]) -> EncoderOutput:
    """Rows of a batch, without padding that none of them needs."""
    index = torch.tensor(rows, device=output.lengths.device)
    lengths = output.lengths[index]
    longest = int(lengths.max())
    tensors = {name: value[index, :longest] for name, value in vars(output).items() if name != "lengths"}
    return replace(output, lengths=lengths, **tensors)
