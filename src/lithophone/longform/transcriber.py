"""Recordings -> transcripts: the loop that joins all rooms below.

    source -> samples -> windows at silences -> batches -> replies -> segments in the recording's time -> transcript

Windows of one recording, and of all recordings of a list, go through the model in common batches. What is held is the
samples of the recordings under way, never the frames of more than a batch. Knows no terminal and no output file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lithophone.audio import RATE_HZ, load_audio
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.decode import Greedy, Reply, decode_batch
from lithophone.devices import torch_device, torch_dtype
from lithophone.errors import LithophoneError, PromptError
from lithophone.features import FRAME_S, audio_embedding_count, batch_frames, frame_count, log_mel_frames
from lithophone.hub import DEFAULT_MODEL, resolve
from lithophone.longform.batching import run_in_order
from lithophone.longform.jobs import Job, Piece, Recording, jobs_of, piece_of, transcript_of
from lithophone.longform.judge import Heard
from lithophone.longform.options import TranscribeOptions, options_with
from lithophone.longform.segment import Window, speech_windows
from lithophone.longform.spelled import spelled_replies
from lithophone.longform.words import timed_words
from lithophone.model.conformer import EncoderOutput
from lithophone.prompts import Task, build_prompt, max_new_tokens, parse_reply
from lithophone.replies import ParsedReply
from lithophone.transcript import Segment, Transcript, TranscriptWarning

logger = logging.getLogger(__name__)

OnPiece: TypeAlias = Callable[[Piece], None]
OnWarning: TypeAlias = Callable[[TranscriptWarning], None]


def load(
    name_or_folder: str | Path = DEFAULT_MODEL,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype | None = None,
) -> Transcriber:
    """Load a model by its name or folder, from the package, the disk or the hub.

    `device` None is the GPU where there is one, else the CPU; `dtype` None is bfloat16 on a GPU, else float32. Raises
    DownloadError, CheckpointError or ConfigError for the model, OptionError for a device or dtype that is not there.
    """
    chosen = torch_device(device)
    return Transcriber(load_checkpoint(resolve(name_or_folder), chosen, torch_dtype(dtype, chosen)))


class Transcriber:
    """A loaded model that transcribes recordings of any length. Keeps no state between calls."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def device(self) -> torch.device:
        return next(self.checkpoint.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.checkpoint.model.parameters()).dtype

    def transcribe(
        self,
        source: Any,
        rate_hz: float | None = None,
        *,
        options: TranscribeOptions | None = None,
        on_piece: OnPiece | None = None,
        **changes: Any,
    ) -> Transcript:
        """Transcribe one recording: a path, the bytes of a file, a file object, or samples with their `rate_hz`.

        `changes` are single fields of TranscribeOptions, as in `transcribe("a.wav", language="fr")`. `on_piece` is
        called after every window. A recording without speech gives an empty transcript with a warning. Raises
        AudioError for the source, OptionError for the options, PromptError for a window beyond the model's positions.
        """
        [(_, result)] = self.transcribe_many([source], rate_hz, options=options, on_piece=on_piece, **changes)
        if isinstance(result, LithophoneError):
            raise result
        return result

    def transcribe_many(
        self,
        sources: Iterable[Any],
        rate_hz: float | None = None,
        *,
        options: TranscribeOptions | None = None,
        on_piece: OnPiece | None = None,
        **changes: Any,
    ) -> Iterator[tuple[Any, Transcript | LithophoneError]]:
        """Transcribe many recordings in common batches, in their order; an error takes the place of one transcript.

        Sources are read a bounded number of windows ahead. Raises OptionError for the options, at once.
        """
        asked = self._settled(options, changes)
        return self._transcripts(sources, rate_hz, asked, on_piece or _ignore)

    def stream(
        self,
        source: Any,
        rate_hz: float | None = None,
        *,
        options: TranscribeOptions | None = None,
        on_warning: OnWarning | None = None,
        **changes: Any,
    ) -> Iterator[Segment]:
        """Segments of one recording in the order of time, each as soon as it is ready; warnings are logged by default.

        Arguments and errors as in `transcribe`.
        """
        return self._segments(source, rate_hz, self._settled(options, changes), on_warning or _log_warning)

    def save(self, folder: str | Path) -> None:
        """Write the model as a folder that `load` reads."""
        save_checkpoint(self.checkpoint, folder)

    def _settled(self, options: TranscribeOptions | None, changes: dict[str, Any]) -> TranscribeOptions:
        """The options, checked against this model: what it cannot do is refused before a recording is opened."""
        asked = options_with(options, changes)
        self._prompt(asked.task_for(self.checkpoint.config.model_type), n_audio=1)
        return asked

    def _transcripts(
        self, sources: Iterable[Any], rate_hz: float | None, options: TranscribeOptions, on_piece: OnPiece
    ) -> Iterator[tuple[Any, Transcript | LithophoneError]]:
        pieces: list[Piece] = []
        for job, piece in self._pieces(sources, rate_hz, options):
            pieces.append(piece)
            on_piece(piece)
            if job.last:
                yield job.recording.source, job.recording.error or transcript_of(pieces, options)
                pieces = []

    def _segments(
        self, source: Any, rate_hz: float | None, options: TranscribeOptions, on_warning: OnWarning
    ) -> Iterator[Segment]:
        for job, piece in self._pieces([source], rate_hz, options):
            if job.recording.error is not None:
                raise job.recording.error
            for warning in piece.warnings:
                on_warning(warning)
            yield from piece.segments

    def _pieces(
        self, sources: Iterable[Any], rate_hz: float | None, options: TranscribeOptions
    ) -> Iterator[tuple[Job, Piece]]:
        """Every job and what came of it, recording by recording, in the order of time."""
        task = options.task_for(self.checkpoint.config.model_type)
        budget = options.max_new_tokens or max_new_tokens(task, self.checkpoint.config.model_type)
        recordings = (self._recording(source, rate_hz, task, options.limit_s) for source in sources)
        jobs = (job for recording in recordings for job in jobs_of(recording))

        def run(batch: list[Job]) -> list[Heard | None]:
            return self._hear_windows(batch, task, Greedy(budget), options)

        for job, heard in run_in_order(jobs, run, lambda job: job.size, options.batch_size):
            yield job, piece_of(job, heard)

    def _recording(self, source: Any, rate_hz: float | None, task: Task, limit_s: float) -> Recording:
        """Read and cut one source. What is wrong with it, its error says: the others go on."""
        try:
            samples = load_audio(source, rate_hz)
            windows = tuple(w for w in speech_windows(samples, limit_s) if frame_count(w.end - w.start))
            self._check_room(task, windows)
        except LithophoneError as error:
            return Recording(source, error=error)
        return Recording(source, samples, windows)

    def _check_room(self, task: Task, windows: tuple[Window, ...]) -> None:
        """PromptError where the longest window and its prompt leave the model no position for a reply."""
        longest = max((window.end - window.start for window in windows), default=0)
        if not longest:
            return
        config = self.checkpoint.config
        n_audio = audio_embedding_count(frame_count(longest), config.window_size, config.downsample_rate)
        needed, limit = len(self._prompt(task, n_audio)), config.text_config.max_position_embeddings
        if needed >= limit:
            raise PromptError(
                f"a window of {longest / RATE_HZ:.1f} s and its prompt take {needed} positions, the model has {limit}: "
                "lower limit_s or name fewer keywords"
            )

    def _hear_windows(
        self, jobs: list[Job], task: Task, greedy: Greedy, options: TranscribeOptions
    ) -> list[Heard | None]:
        """Run the model over the jobs that have a window."""
        waiting = [job for job in jobs if job.window is not None]
        heard = iter(self._hear(waiting, task, greedy, options) if waiting else [])
        return [None if job.window is None else next(heard) for job in jobs]

    @torch.inference_mode()
    def _hear(self, jobs: list[Job], task: Task, greedy: Greedy, options: TranscribeOptions) -> list[Heard]:
        """One batch through the model."""
        frames, lengths = batch_frames([log_mel_frames(job.samples.to(self.device)) for job in jobs])
        encoded = self.checkpoint.model.encode(frames.to(self.dtype), lengths)
        spelled = options.decode == "ctc"
        said = spelled_replies(self.checkpoint, encoded) if spelled else self._replies(encoded, task, greedy)
        heard = [
            Heard(reply, parse_reply(task, text, job.size / RATE_HZ), speech)
            for job, (text, reply), speech in zip(jobs, said, _has_characters(encoded), strict=True)
        ]
        return _with_words(heard, encoded) if options.word_timestamps else heard

    def _replies(self, encoded: EncoderOutput, task: Task, greedy: Greedy) -> list[tuple[str, Reply]]:
        """Projector and language model: text and reply of every row."""
        model = self.checkpoint.model
        audio, counts = model.project(encoded)
        n_audio = counts.tolist()
        prompts = model.embed([self._prompt(task, n) for n in n_audio], audio, counts)
        replies = decode_batch(model, prompts, greedy, n_audio)
        return [(self.checkpoint.tokenizer.decode(reply.ids), reply) for reply in replies]

    def _prompt(self, task: Task, n_audio: int) -> list[int]:
        return build_prompt(task, self.checkpoint.tokenizer, self.checkpoint.config.model_type, n_audio)


def _has_characters(encoded: EncoderOutput) -> list[bool]:
    """For every row (B,) whether its most probable characters are anything but blank."""
    characters = encoded.logits.argmax(dim=-1) != 0
    return [bool(row[:n].any()) for row, n in zip(characters, encoded.lengths.tolist(), strict=True)]


def _with_words(heard: list[Heard], encoded: EncoderOutput) -> list[Heard]:
    """The same replies with their words timed, where the reply itself brings no times."""
    return [
        one if one.parsed.words or one.parsed.turns else replace(one, parsed=_timed(one.parsed, logits[:n]))
        for one, logits, n in zip(heard, encoded.logits, encoded.lengths.tolist(), strict=True)
    ]


def _timed(parsed: ParsedReply, logits: Tensor) -> ParsedReply:
    """`parsed` with its text aligned to character logits (T, V)."""
    log_probs = logits.float().log_softmax(-1).cpu().numpy()
    return replace(parsed, words=timed_words(parsed.text, log_probs, len(logits) * FRAME_S))


def _ignore(piece: Piece) -> None:
    """What a caller without `on_piece` does with a piece."""


def _log_warning(warning: TranscriptWarning) -> None:
    logger.warning("%.1f to %.1f s: %s (%s)", warning.start_s, warning.end_s, warning.message, warning.code)
