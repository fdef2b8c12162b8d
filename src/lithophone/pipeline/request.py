"""Requests: options resolved once for a model, and carried by every window.

    not given -> the checkpoint's generation_config.json -> the default of the decoder's dataclass

Modules behind this one read no options.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lithophone.audio.features import FRAME_S, audio_embedding_count, frame_count
from lithophone.audio.segmenter import LIMIT_S, MIN_LIMIT_S
from lithophone.checkpoint import Checkpoint
from lithophone.ctc.characters import N_LABELS
from lithophone.ctc.language_conditioning import language_bias
from lithophone.ctc.pronunciation import SPACE, spoken_labels
from lithophone.decode.keyword_biasing import KeywordTrie
from lithophone.decode.options import CTC, NEED_CTC, Budget, Decoder, JointSearch
from lithophone.diarization.clustering import SpeakerCount
from lithophone.errors import OptionError, PromptError
from lithophone.model.conformer import EncoderBias
from lithophone.model.nar import GraniteSpeechNar
from lithophone.model.nar_config import NarConfig
from lithophone.pipeline.options import DECODERS, TranscribeOptions, fields_of
from lithophone.text import japanese
from lithophone.text.prompts import (
    TASKS,
    SpeakerTurns,
    Task,
    Transcribe,
    Translate,
    WordTimes,
    build_prompt,
    longest_window_s,
    max_new_tokens,
)

REPLY_TOKENS_PER_S = 5.0
"""Tokens of a transcript with speakers for a second of speech."""

POSITIONS_PER_S = 10.0 + REPLY_TOKENS_PER_S
"""Positions that a second of speech takes: audio embeddings, and tokens of the reply."""


@dataclass(frozen=True, eq=False)
class Request:
    """How a window is transcribed by one model; windows of different requests share batches."""

    task: Task
    decoder: Decoder
    before: tuple[int, ...]
    """Prompt ids before the audio; none in a nar model."""
    behind: tuple[int, ...]
    """Prompt ids behind the audio."""
    kana_prompt: tuple[tuple[int, ...], tuple[int, ...]] | None
    """Instead of `before` and `behind` where the encoder's characters are kana."""
    bias: EncoderBias | None
    """Language conditioning of the encoder, (1, 1, labels)."""
    text_language: str | None
    """Code of the transcript's language; None where unknown."""
    speakers: SpeakerCount | None
    """Bounds of the number of speakers to be found by their voices; None where speakers are not asked for."""
    word_times: bool
    """Whether results have words with times."""
    timestamps: str
    """tags or aligned, of word times."""
    is_spelled: bool
    """Whether the character head spells the words of the reply."""
    keywords: KeywordTrie | None
    """Keywords to boost as labels."""
    head: str | None
    """CTC head of drafts and of CTC decoding: bpe or characters."""
    batch_size: int
    limit_s: float
    is_budget_given: bool
    """Whether the caller gave `max_new_tokens`."""
    min_confidence: float
    """Mean posterior of the character head's best path below which a window has a warning."""

    @property
    def needs_words(self) -> bool:
        """Whether words are aligned: where their times are asked for, and for speakers found by voice."""
        return self.word_times or self.speakers is not None

    @property
    def joins_windows(self) -> bool:
        """Whether windows go on through long silences, which are left out: speakers keep their numbers."""
        return isinstance(self.task, SpeakerTurns | WordTimes)

    @property
    def continues(self) -> bool:
        """Whether windows continue the one before (incremental decoding)."""
        return isinstance(self.task, SpeakerTurns)

    @property
    def window_s(self) -> float:
        """Longest window; one that continues another takes half of the limit."""
        return max(self.limit_s / 2, MIN_LIMIT_S) if self.continues else self.limit_s

    @property
    def ahead_s(self) -> float:
        """Seconds to read ahead for a place in a batch; windows that continue each other wait in any case."""
        return min(self.limit_s, LIMIT_S) if self.continues else self.limit_s

    def prompt_for(self, characters: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Prompt ids before and behind audio with these characters."""
        if self.kana_prompt is not None and japanese.is_mostly_kana(characters):
            return self.kana_prompt
        return self.before, self.behind

    @property
    def task_name(self) -> str:
        return next(name for name, kind in TASKS.items() if kind is type(self.task))


def resolve_request(checkpoint: Checkpoint, options: TranscribeOptions) -> Request:
    """Options -> request; OptionError for what the model cannot do."""
    task = options.task_for(checkpoint.config.variant, checkpoint.raw_languages)
    before, behind = _prompt(checkpoint, task)
    decoder = resolve_decoder(checkpoint, options, task)
    heads = ctc_heads(checkpoint)
    boosted = isinstance(decoder, JointSearch) and decoder.ctc_weight and decoder.keyword_boost and task.keywords
    return Request(
        task=task,
        decoder=decoder,
        before=before,
        behind=behind,
        kana_prompt=_kana_prompt(checkpoint, options, task),
        bias=_encoder_bias(checkpoint, options, task),
        text_language=options.text_language,
        speakers=options.speaker_count,
        word_times=options.word_timestamps or isinstance(task, SpeakerTurns | WordTimes),
        timestamps=_timestamps(options, task, heads),
        is_spelled=not isinstance(task, Translate) and "characters" in heads,
        keywords=_keyword_trie(task) if boosted else None,
        head=(isinstance(decoder, CTC) and decoder.ctc_head) or (heads[0] if heads else None),
        batch_size=options.batch_size,
        limit_s=_limit_s(checkpoint, options, task, len(before) + len(behind)),
        is_budget_given=options.max_new_tokens is not None,
        min_confidence=checkpoint.min_confidence,
    )


def _timestamps(options: TranscribeOptions, task: Task, heads: tuple[str, ...]) -> str:
    """The source of word times: by default the tags of a reply that has them."""
    if options.timestamps == "tags" and not isinstance(task, WordTimes):
        raise OptionError("timestamps='tags' goes with task 'word-times', whose replies have time tags")
    if options.timestamps == "aligned" and "characters" not in heads:
        raise OptionError(
            "timestamps='aligned' needs the family's character head, which this model's encoder does not have"
        )
    return options.timestamps or ("tags" if isinstance(task, WordTimes) else "aligned")


def _limit_s(checkpoint: Checkpoint, options: TranscribeOptions, task: Task, prompt_length: int) -> float:
    """The longest window: as given, 30 s, or for speaker turns what the model was trained for and has positions for.

    OptionError beyond what the model was trained for.
    """
    longest_s = longest_window_s(task, checkpoint.config.variant)
    if options.limit_s is not None:
        if options.limit_s > longest_s:
            name = next(name for name, kind in TASKS.items() if kind is type(task))
            raise OptionError(
                f"limit_s is {options.limit_s:g}: windows of a {checkpoint.config.variant} model are at most "
                f"{longest_s:g} s long with task {name!r}"
            )
        return options.limit_s
    if not isinstance(task, SpeakerTurns):
        return LIMIT_S
    room_s = (checkpoint.config.text_config.max_position_embeddings - prompt_length) / POSITIONS_PER_S
    return min(longest_s, max(room_s, MIN_LIMIT_S))


def possible_decoders(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Decoders of the model, its default first."""
    if isinstance(checkpoint.network, GraniteSpeechNar):
        return ("edit", "ctc")
    with_prompt = ("greedy", "beam", "sample")
    return ("speculative", *with_prompt, "ctc") if ctc_heads(checkpoint) else with_prompt


def ctc_heads(checkpoint: Checkpoint) -> tuple[str, ...]:
    """CTC heads that give text, the better first; characters only with the family's 348 labels."""
    bpe = isinstance(checkpoint.network, GraniteSpeechNar) or checkpoint.network.bpe_head is not None
    characters = checkpoint.config.encoder_config.output_dim == N_LABELS
    return ("bpe",) * bpe + ("characters",) * characters


def resolve_decoder(checkpoint: Checkpoint, options: TranscribeOptions, task: Task) -> Decoder:
    """The decoder with its settings; OptionError where model or task does not allow it."""
    able, kind = possible_decoders(checkpoint), checkpoint.config.model_type
    name = options.decode or _default_decoder(checkpoint, task)
    if name not in able:
        raise OptionError(f"this {kind} model cannot do decode={name!r}: it can do {', '.join(able)}")
    if options.decode is None:
        options.check_owner(name, f"this model decodes with {name!r} unless decode names another decoder")
    decoder = DECODERS[name](**_settings(checkpoint, options, task, DECODERS[name]))
    _check_encoder(checkpoint, decoder, task)
    return decoder


def _default_decoder(checkpoint: Checkpoint, task: Task) -> str:
    """The checkpoint's beams for transcripts, greedy for translations, which have no CTC draft."""
    able = possible_decoders(checkpoint)
    if isinstance(task, Translate):
        return "greedy"
    return "beam" if checkpoint.beams and isinstance(task, Transcribe) and "beam" in able else able[0]


def _settings(checkpoint: Checkpoint, options: TranscribeOptions, task: Task, kind: type[Decoder]) -> dict[str, Any]:
    """Given settings, else the checkpoint's, which are for transcripts: other tasks leave out the CTC score."""
    given = options.given(kind)
    settings: dict[str, Any] = {}
    if issubclass(kind, JointSearch) and checkpoint.beams:
        settings = {name: getattr(checkpoint.beams, name) for name in fields_of(kind) - fields_of(Budget)}
        settings |= {} if isinstance(task, Transcribe) else {"ctc_weight": 0.0}
    settings |= given
    if not settings.get("ctc_weight"):
        settings = {name: value for name, value in settings.items() if name in given or name not in NEED_CTC}
    if issubclass(kind, Budget):
        settings["max_new_tokens"] = options.max_new_tokens or max_new_tokens(task, checkpoint.config.variant)
    return settings


def _check_encoder(checkpoint: Checkpoint, decoder: Decoder, task: Task) -> None:
    """OptionError where the encoder lacks the decoder's head."""
    heads = ctc_heads(checkpoint)
    if isinstance(decoder, CTC) and decoder.ctc_head not in (None, *heads):
        raise OptionError(f"this model has no head {decoder.ctc_head!r}: it has {', '.join(heads)}")
    if not (isinstance(decoder, JointSearch) and decoder.ctc_weight):
        return
    if "characters" not in heads:
        raise OptionError("ctc_weight needs the family's character head, which this model's encoder does not have")
    if not isinstance(task, Transcribe):
        raise OptionError("ctc_weight goes with task 'transcribe': the character head spells nothing but the words")


def _encoder_bias(checkpoint: Checkpoint, options: TranscribeOptions, task: Task) -> EncoderBias | None:
    asked = options.foreign_penalty
    nats = checkpoint.foreign_penalty if asked is None else asked
    known = "characters" in ctc_heads(checkpoint)
    if asked and not known:
        raise OptionError("foreign_penalty needs the family's character head, which this model's encoder does not have")
    return language_bias([task.language], nats, checkpoint.language_ids) if known else None


def _prompt(checkpoint: Checkpoint, task: Task) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Prompt ids before and behind the audio; OptionError where the model lacks the task or the positions."""
    if isinstance(checkpoint.network, GraniteSpeechNar):
        if not isinstance(task, Transcribe) or task.punctuate or task.keywords:
            raise OptionError(
                f"a {checkpoint.config.model_type} model takes no prompt: it gives raw transcripts, and does not "
                "translate, punctuate, name speakers or bias keywords"
            )
        return (), ()
    ids = build_prompt(task, checkpoint.tokenizer, checkpoint.config.variant, n_audio=1)
    limit = checkpoint.config.text_config.max_position_embeddings
    if len(ids) >= limit:
        raise OptionError(f"the prompt takes {len(ids)} positions, the model has {limit}: name fewer keywords")
    at = ids.index(checkpoint.tokenizer.audio_id)
    return tuple(ids[:at]), tuple(ids[at + 1 :])


def _kana_prompt(
    checkpoint: Checkpoint, options: TranscribeOptions, task: Task
) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The raw prompt, where Japanese is raw by default and no language is given; the others share their letters."""
    given = options.text_language is not None or options.punctuate is not None
    if given or not isinstance(task, Transcribe) or "ja" not in checkpoint.raw_languages:
        return None
    return _prompt(checkpoint, replace(task, punctuate=False)) if "characters" in ctc_heads(checkpoint) else None


def _keyword_trie(task: Task) -> KeywordTrie:
    """Keywords as CTC labels, Japanese by their reading, without spaces."""
    words = [spoken_labels(word, task.language) for word in task.keywords]
    unspaced = any(japanese.is_japanese(word, task.language) for word in task.keywords)
    return KeywordTrie(words, space=None if unspaced else SPACE)


def frames_of(checkpoint: Checkpoint, n_samples: int) -> int:
    return frame_count(n_samples, checkpoint.config.whole_frames)


def check_positions(checkpoint: Checkpoint, request: Request, n_samples: int) -> None:
    """PromptError where a window leaves no position for a reply."""
    frames = frames_of(checkpoint, n_samples)
    needed, limit = _positions(checkpoint, request, frames), checkpoint.config.text_config.max_position_embeddings
    if needed >= limit:
        raise PromptError(
            f"a window of {frames * FRAME_S:.1f} s and its prompt take {needed} positions, the model has {limit}: "
            "lower limit_s or name fewer keywords"
        )


def _positions(checkpoint: Checkpoint, request: Request, frames: int) -> int:
    """Positions of the language model before the first token of a reply.

    A nar model takes audio and at most two slots for every window of the BPE head.
    """
    config = checkpoint.config
    n_audio = audio_embedding_count(frames, config.window_size, config.downsample_rate)
    if isinstance(config, NarConfig):
        return n_audio + 2 * -(-frames // config.encoder_config.bpe_pooling_window)
    return len(request.before) + n_audio + len(request.behind)
