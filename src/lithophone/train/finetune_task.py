"""Fine-tuning a base or plus model on prompts and replies drawn from a mix of tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from lithophone.audio.features import batch_frames
from lithophone.checkpoint import Checkpoint, load_checkpoint
from lithophone.ctc.language_conditioning import language_bias
from lithophone.errors import OptionError
from lithophone.hub import resolve
from lithophone.model.config import ModelConfig
from lithophone.text.prompts import Task, build_prompt
from lithophone.train.data.augment import seeded
from lithophone.train.data.batches import SpeechBatch
from lithophone.train.data.keyword_lists import KeywordLists
from lithophone.train.dev_clips import DevClip, greedy_replies
from lithophone.train.finetune import learns
from lithophone.train.targets.ctc_transcripts import conditioning_languages
from lithophone.train.targets.losses import Loss
from lithophone.train.targets.prompt_reply import TaskMix, draw_target, make_example, reply_loss


class FineTuneTask(nn.Module):
    """The model on prompts and replies; frozen parts stay in evaluation mode."""

    def __init__(self, checkpoint: Checkpoint, mix: TaskMix, keywords: Mapping[str, KeywordLists]) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer
        self.config: ModelConfig = self.model.config
        self.foreign_penalty, self.language_ids = checkpoint.foreign_penalty, checkpoint.language_ids
        self.mix = mix
        self.keywords = keywords

    def train(self, mode: bool = True) -> FineTuneTask:
        super().train(mode)
        for part in self.model.children():
            part.train(mode and learns(part))
        return self

    def audio_embeddings(
        self, frames: Tensor, lengths: Tensor, languages: Sequence[str | None]
    ) -> tuple[Tensor, Tensor]:
        """Frames (B, T, 160), lengths (B,), conditioning languages -> embeddings (B, N, H), counts (B,)."""
        weight = self.model.projector.linear.weight
        language = language_bias(languages, self.foreign_penalty, self.language_ids)
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns(self.model.encoder)):
            encoded = self.model.encode(frames.to(weight.device, weight.dtype), lengths.to(weight.device), language)
        return self.model.project(encoded)

    def conditioning(self, batch: SpeechBatch, rng: np.random.Generator) -> list[str | None]:
        """Conditioning languages of a training batch; None without conditioning in the encoder."""
        if not (self.foreign_penalty or self.language_ids):
            return [None] * len(batch.langs)
        return conditioning_languages(batch.texts, batch.langs, rng)

    def losses(self, batch: SpeechBatch, step: int) -> Mapping[str, Loss]:
        rng = seeded(0, "tasks", step)
        audio, counts = self.audio_embeddings(batch.frames, batch.lengths, self.conditioning(batch, rng))
        targets = [draw_target(source, self.mix, rng, self.keywords) for source in batch.sources]
        examples = [
            make_example(target, self.tokenizer, self.config.variant, count)
            for target, count in zip(targets, counts.tolist(), strict=True)
        ]
        rows = self.model.embed([example.prompt + example.reply[:-1] for example in examples], audio, counts)
        return {"reply": reply_loss(self.model.language_model, rows, examples)}

    def replies(self, clips: Sequence[DevClip], tasks: Sequence[Task]) -> list[str]:
        """Greedy reply to one task per clip, the encoder conditioned on the clip's language."""
        audio, counts = self.audio_embeddings(
            *batch_frames([clip.frames for clip in clips]), [clip.lang for clip in clips]
        )
        prompts = [
            build_prompt(task, self.tokenizer, self.config.variant, n)
            for task, n in zip(tasks, counts.tolist(), strict=True)
        ]
        return greedy_replies(self.model, self.tokenizer, prompts, audio, counts)


def read_model(name: str) -> Checkpoint:
    """A base or plus model. Raises OptionError for an editing model, which has no prompts."""
    checkpoint = load_checkpoint(resolve(name))
    if checkpoint.config.model_type == "granite_speech_nar":
        raise OptionError(f"{name} is a nar model: train it with `lithophone train nar --init {name}`")
    return checkpoint


def suited(mix: TaskMix, config: ModelConfig) -> TaskMix:
    """The mix without tasks the model lacks: plus models neither punctuate nor translate."""
    plus = config.model_type == "granite_speech_plus"
    return replace(mix, punctuated=0.0, translate=0.0) if plus else mix
