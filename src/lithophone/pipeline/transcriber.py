"""Recordings -> transcripts: the loop that joins all rooms below.

    source -> samples -> windows at silences -> batches -> replies -> segments in the recording's time -> transcript

Windows of one recording, and of all recordings of a list, go through the model in common batches. What is held is the
samples of the recordings under way, never the frames of more than a batch. Knows no terminal and no output file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import torch

from lithophone.audio.features import FRAME_S, batch_frames, frame_count, log_mel_frames
from lithophone.audio.reader import RATE_HZ, load_audio
from lithophone.audio.segmenter import Window, speech_windows
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, suits_int8
from lithophone.ctc.characters import N_LABELS
from lithophone.ctc.posteriors import CTCPosteriors
from lithophone.decode.ctc_greedy import character_posteriors
from lithophone.decode.options import Decoder
from lithophone.errors import LithophoneError, PromptError
from lithophone.hub import DEFAULT_MODEL, resolve
from lithophone.pipeline.batching import run_in_order
from lithophone.pipeline.ctc_greedy import character_texts
from lithophone.pipeline.options import TranscribeOptions, options_with
from lithophone.pipeline.quality import Heard
from lithophone.pipeline.request import check_task, encoder_bias, positions_needed, replies_of, settled_decoder
from lithophone.pipeline.utterance import Job, Piece, Recording, jobs_of, piece_of, transcript_of
from lithophone.pipeline.word_times import with_words
from lithophone.runtime import torch_device, torch_dtype
from lithophone.text.prompts import Task, Translate, WordTimes, parse_reply
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

    `device` None is the GPU where there is one, else the CPU; `dtype` None is bfloat16 on a GPU, and on a CPU int8 for
    large models where it has VNNI or AMX, and for weights that are int8, else float32. Raises DownloadError,
    CheckpointError or ConfigError for the model, OptionError for a device or dtype that is not there.
    """
    chosen, folder = torch_device(device), resolve(name_or_folder)
    if dtype is None and chosen.type == "cpu" and suits_int8(folder):
        dtype = torch.int8
    return Transcriber(load_checkpoint(folder, chosen, torch_dtype(dtype, chosen)))


class Transcriber:
    """A loaded model that transcribes recordings of any length. Keeps no state between calls."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @property
    def device(self) -> torch.device:
        return next(self.checkpoint.network.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.checkpoint.network.parameters()).dtype

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
        task = asked.task_for(self.checkpoint.config.variant)
        check_task(self.checkpoint, task)
        settled_decoder(self.checkpoint, asked, task)
        encoder_bias(self.checkpoint, asked, task)
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
        task = options.task_for(self.checkpoint.config.variant)
        decoder = settled_decoder(self.checkpoint, options, task)
        recordings = (self._recording(source, rate_hz, task, options.limit_s) for source in sources)
        jobs = (job for recording in recordings for job in jobs_of(recording))

        def run(batch: list[Job]) -> list[Heard | None]:
            return self._hear_windows(batch, task, decoder, options)

        for job, heard in run_in_order(jobs, run, lambda job: job.size, options.batch_size):
            yield job, piece_of(job, heard)

    def _recording(self, source: Any, rate_hz: float | None, task: Task, limit_s: float) -> Recording:
        """Read and cut one source. What is wrong with it, its error says: the others go on."""
        try:
            samples = load_audio(source, rate_hz)
            windows = tuple(w for w in speech_windows(samples, limit_s) if self._frames(w))
            self._check_room(task, windows)
        except LithophoneError as error:
            return Recording(source, error=error)
        return Recording(source, samples, windows)

    def _check_room(self, task: Task, windows: tuple[Window, ...]) -> None:
        """PromptError where the longest window and its prompt leave the model no position for a reply."""
        longest = max((self._frames(window) for window in windows), default=0)
        if not longest:
            return
        needed = positions_needed(self.checkpoint, task, longest)
        limit = self.checkpoint.config.text_config.max_position_embeddings
        if needed >= limit:
            raise PromptError(
                f"a window of {longest * FRAME_S:.1f} s and its prompt take {needed} positions, the model has {limit}: "
                "lower limit_s or name fewer keywords"
            )

    def _frames(self, window: Window) -> int:
        return frame_count(window.end - window.start, self.checkpoint.config.whole_frames)

    def _hear_windows(
        self, jobs: list[Job], task: Task, decoder: Decoder, options: TranscribeOptions
    ) -> list[Heard | None]:
        """Run the model over the jobs that have a window."""
        waiting = [job for job in jobs if job.window is not None]
        heard = iter(self._hear(waiting, task, decoder, options) if waiting else [])
        return [None if job.window is None else next(heard) for job in jobs]

    @torch.inference_mode()
    def _hear(self, jobs: list[Job], task: Task, decoder: Decoder, options: TranscribeOptions) -> list[Heard]:
        """One batch through the model."""
        whole = self.checkpoint.config.whole_frames
        frames, lengths = batch_frames([log_mel_frames(job.samples.to(self.device), whole) for job in jobs])
        bias = encoder_bias(self.checkpoint, options, task)
        encoded = self.checkpoint.network.encode(frames.to(self.dtype), lengths, bias)
        posteriors = character_posteriors(encoded)
        said = replies_of(self.checkpoint, encoded, posteriors, task, decoder)
        same = not isinstance(task, Translate) and encoded.logits.shape[-1] == N_LABELS
        heard = [
            Heard(reply, parse_reply(task, text, job.size / RATE_HZ), bool(spelling), spelling if same else None)
            for job, (text, reply), spelling in zip(jobs, said, character_texts(posteriors), strict=True)
        ]
        timed = options.word_timestamps or isinstance(task, WordTimes)
        return self._with_words(heard, posteriors, options.text_language) if timed else heard

    def _with_words(self, heard: list[Heard], posteriors: CTCPosteriors, language: str | None) -> list[Heard]:
        """The same replies with their words timed and weighed."""
        decode = self.checkpoint.tokenizer.decode
        rows = zip(heard, posteriors, strict=True)
        return [with_words(h, row.log_probs.numpy(), decode, language) for h, row in rows]


def _ignore(piece: Piece) -> None:
    """What a caller without `on_piece` does with a piece."""


def _log_warning(warning: TranscriptWarning) -> None:
    logger.warning("%.1f to %.1f s: %s (%s)", warning.start_s, warning.end_s, warning.message, warning.code)
