"""What a model can decode with, and the replies of its decoders to a batch that the encoder has heard.

greedy, beam, sample   the language model alone answers a prompt
speculative            the same answer as greedy's, of a draft that the encoder's CTC heads make
edit                   a nar model mends what its encoder spells
ctc                    what the encoder spells, as it is
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from lithophone.audio.features import audio_embedding_count
from lithophone.checkpoint import Checkpoint
from lithophone.ctc.characters import N_LABELS
from lithophone.ctc.language_bias import language_bias
from lithophone.ctc.posteriors import CTCPosteriors
from lithophone.ctc.prefix_score import PrefixScorer
from lithophone.ctc.pronunciation import SPACE, spoken_labels, unscored_letters
from lithophone.ctc.token_spellings import token_spellings
from lithophone.decode.ctc_scorer import CTCScorer, Pronunciation
from lithophone.decode.edit import ctc_hypotheses, edit_batch
from lithophone.decode.keyword_biasing import KeywordTrie
from lithophone.decode.options import CTC, BeamSearch, Decoder, Edit, Greedy, Sampling, Speculative
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import decode_batch
from lithophone.decode.speculative import confident
from lithophone.errors import OptionError
from lithophone.model.conformer import EncoderBias, EncoderOutput
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import NarConfig
from lithophone.pipeline.ctc_greedy import ctc_replies, head_posteriors
from lithophone.pipeline.options import TranscribeOptions
from lithophone.text import japanese as kana
from lithophone.text.prompts import Task, Transcribe, Translate, build_prompt, max_new_tokens

Said: TypeAlias = list[tuple[str, Reply]]
"""Text and reply of every row."""


def possible_decoders(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names of the decoders this model can do, the one it does by default first."""
    if isinstance(checkpoint.network, GraniteSpeechNar):
        return ("edit", "ctc")
    written = ("greedy", "beam", "sample")
    return ("speculative", *written, "ctc") if ctc_heads(checkpoint) else written


def ctc_heads(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Names of the heads that spell text, the better one first; characters only where they are the family's 348."""
    bpe = isinstance(checkpoint.network, GraniteSpeechNar) or checkpoint.network.bpe_head is not None
    characters = checkpoint.config.encoder_config.output_dim == N_LABELS
    return ("bpe",) * bpe + ("characters",) * characters


def settled_decoder(checkpoint: Checkpoint, options: TranscribeOptions, task: Task) -> Decoder:
    """The decoder that was asked for, or the model's own; OptionError for one that this model cannot do.

    Its own are the beams of its folder, for a transcript, or the first of `possible_decoders`. Words of another
    language are no draft: a translation is decoded greedily unless asked otherwise.
    """
    able, kind = possible_decoders(checkpoint), checkpoint.config.model_type
    budget = max_new_tokens(task, kind)
    if options.decode is None and checkpoint.beams and isinstance(task, Transcribe):
        decoder: Decoder = replace(checkpoint.beams, max_new_tokens=options.max_new_tokens or budget)
    else:
        name = options.decode or ("greedy" if isinstance(task, Translate) else able[0])
        if name not in able:
            raise OptionError(f"this {kind} model cannot do decode={name!r}: it can do {', '.join(able)}")
        decoder = options.decoder(name, budget)
    _check_encoder(checkpoint, decoder, task)
    return decoder


def _check_encoder(checkpoint: Checkpoint, decoder: Decoder, task: Task) -> None:
    """OptionError where the encoder cannot do its part: a head to spell with, characters to judge a transcript by."""
    if isinstance(decoder, CTC) and decoder.ctc_head not in (None, *ctc_heads(checkpoint)):
        raise OptionError(f"this model has no head {decoder.ctc_head!r}: it has {', '.join(ctc_heads(checkpoint))}")
    if not (isinstance(decoder, BeamSearch) and decoder.ctc_weight):
        return
    if "characters" not in ctc_heads(checkpoint):
        raise OptionError("ctc_weight needs the family's character head, which this model's encoder does not have")
    if not isinstance(task, Transcribe):
        raise OptionError("ctc_weight goes with task 'transcribe': the encoder hears words, not what stands for them")


def encoder_bias(checkpoint: Checkpoint, options: TranscribeOptions, task: Task) -> EncoderBias | None:
    """What the encoder is told of the language that is spoken, by the options and its checkpoint; None for nothing.

    OptionError where a penalty was asked for and the encoder's characters are not the family's.
    """
    asked = options.foreign_penalty
    nats = checkpoint.foreign_penalty if asked is None else asked
    known = "characters" in ctc_heads(checkpoint)
    if asked and not known:
        raise OptionError("foreign_penalty needs the family's character head, which this model's encoder does not have")
    return language_bias([task.language], nats, checkpoint.language_ids) if known else None


def check_task(checkpoint: Checkpoint, task: Task) -> None:
    """OptionError for what this model cannot do, before a recording is opened."""
    if isinstance(checkpoint.network, GraniteSpeechNar):
        if not isinstance(task, Transcribe) or task.punctuate or task.keywords:
            raise OptionError(
                f"a {checkpoint.config.model_type} model takes no prompt: it gives raw transcripts, and does not "
                "translate, punctuate, name speakers or heed keywords"
            )
    else:
        prompt_of(checkpoint, task, n_audio=1)


def prompt_of(checkpoint: Checkpoint, task: Task, n_audio: int) -> list[int]:
    """Token ids of the prompt, with `n_audio` slots for audio."""
    return build_prompt(task, checkpoint.tokenizer, checkpoint.config.variant, n_audio)


def positions_needed(checkpoint: Checkpoint, task: Task, frames: int) -> int:
    """Positions of the language model that audio of so many frames takes, before the first token of a reply.

    What is edited takes them all at once: audio and, at most, a token and two slots for every window of the BPE head.
    """
    config = checkpoint.config
    n_audio = audio_embedding_count(frames, config.window_size, config.downsample_rate)
    if isinstance(config, NarConfig):
        return n_audio + 2 * -(-frames // config.encoder_config.bpe_pooling_window)
    return len(prompt_of(checkpoint, task, n_audio))


def replies_of(
    checkpoint: Checkpoint, encoded: EncoderOutput, characters: CTCPosteriors, task: Task, decoder: Decoder
) -> Said:
    """What the decoder makes of every row of a batch, whose character posteriors are `characters`."""
    if isinstance(decoder, CTC):
        head = decoder.ctc_head or ctc_heads(checkpoint)[0]
        return ctc_replies(checkpoint, head_posteriors(checkpoint, encoded, characters, head), head)
    if isinstance(decoder, Edit):
        return _edited(checkpoint, encoded, decoder)
    if isinstance(decoder, Speculative):
        return _drafted(checkpoint, encoded, characters, task, decoder)
    scorers = None
    if isinstance(decoder, BeamSearch) and decoder.ctc_weight:
        scorers = _scorers(checkpoint, characters, task, boosted=decoder.keyword_boost > 0)
    return _written(checkpoint, encoded, task, decoder, scorers=scorers)


def _edited(checkpoint: Checkpoint, encoded: EncoderOutput, decoder: Edit) -> Said:
    model = checkpoint.editor
    hypotheses = [checkpoint.reread(ids) for ids in ctc_hypotheses(model, encoded)]
    replies = edit_batch(model, *model.project(encoded), hypotheses, decoder)
    return [(checkpoint.tokenizer.decode(reply.ids), reply) for reply in replies]


def _drafted(
    checkpoint: Checkpoint, encoded: EncoderOutput, characters: CTCPosteriors, task: Task, decoder: Speculative
) -> Said:
    """Drafts that the encoder is sure of are the replies; the language model verifies the others."""
    head = ctc_heads(checkpoint)[0]
    posteriors = head_posteriors(checkpoint, encoded, characters, head)
    spelled = ctc_replies(checkpoint, posteriors, head)
    sure = [False] * len(spelled)
    if decoder.tau_ctc is not None:
        sure = confident(posteriors.logits, posteriors.lengths, decoder.tau_ctc)
    open_rows = [i for i, (text, _) in enumerate(spelled) if not (sure[i] and text)]
    drafts = [_draft(checkpoint, *spelled[i]) for i in open_rows]
    written = _written(checkpoint, _rows(encoded, open_rows), task, decoder, drafts) if open_rows else []
    verified = dict(zip(open_rows, written, strict=True))
    return [verified.get(i, said) for i, said in enumerate(spelled)]


def _draft(checkpoint: Checkpoint, text: str, reply: Reply) -> Sequence[int]:
    """Tokens of what a head spells: the BPE head's own, else those of the text."""
    return reply.ids or checkpoint.tokenizer.encode(text.strip())


def _written(
    checkpoint: Checkpoint,
    encoded: EncoderOutput,
    task: Task,
    decoder: Greedy | Speculative | Sampling | BeamSearch,
    drafts: Sequence[Sequence[int]] | None = None,
    scorers: Sequence[CTCScorer] | None = None,
) -> Said:
    """Projector and language model."""
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    audio, counts = model.project(encoded)
    n_audio = counts.tolist()
    prompts = model.embed([prompt_of(checkpoint, task, n) for n in n_audio], audio, counts)
    folds = _folds(checkpoint) if drafts else None
    replies = decode_batch(model, prompts, decoder, n_audio, drafts, folds, scorers)
    return [(tokenizer.decode(reply.ids), reply) for reply in replies]


def _scorers(checkpoint: Checkpoint, characters: CTCPosteriors, task: Task, boosted: bool) -> list[CTCScorer]:
    """The CTC scorer of every row of a batch; keywords are `boosted` or not."""

    def pronounce(ids: Sequence[int]) -> Pronunciation:
        text = checkpoint.tokenizer.decode(ids)
        return Pronunciation(spoken_labels(text, task.language), unscored_letters(text, task.language))

    propose = token_spellings(checkpoint.tokenizer)
    keywords = _keyword_trie(task) if boosted else None
    # Of a long list only what resembles the best path somewhere is looked for in every step.
    return [
        CTCScorer(PrefixScorer(row.log_probs), pronounce, propose, keywords and keywords.pruned(row.labels))
        for row in characters
    ]


def _keyword_trie(task: Task) -> KeywordTrie:
    """The task's keywords as they are heard: Japanese ones by their reading, between which there are no spaces."""
    words = [spoken_labels(word, task.language) for word in task.keywords]
    return KeywordTrie(
        words, space=None if any(kana.is_japanese(word, task.language) for word in task.keywords) else SPACE
    )


def _folds(checkpoint: Checkpoint) -> Sequence[str]:
    """The tokenizer's, as long as the embedding table, which may hold rows that no token uses."""
    folds = checkpoint.tokenizer.folds
    unused = checkpoint.config.text_config.vocab_size - len(folds)
    return (*folds, *[""] * unused) if unused > 0 else folds


def _rows(encoded: EncoderOutput, rows: Sequence[int]) -> EncoderOutput:
    """Some rows of a batch."""
    index = torch.tensor(rows, device=encoded.lengths.device)
    tensors: dict[str, Tensor] = {name: value[index] for name, value in vars(encoded).items()}
    return replace(encoded, **tensors)
