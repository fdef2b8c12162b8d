"""Stage 4: the non-autoregressive editing model (nar; NLE, arXiv 2603.08397).

    lithophone train nar --init lithophone-tiny --data speech/train.jsonl:en --data synth/pico.jsonl:fr+de+es \\
        --dev speech/dev.jsonl --out runs/nar

Loss = CTC(slots, reference) + 0.02 CE(slots, their own tokens), on hypotheses of the encoder's BPE head. Encoder and
head are frozen and come, with the language model, from a trained model (`--init`) or from stages 1 and 2a (`--encoder`,
`--language-model`, `--tokenizer`); the projector is new. The paper trains adapters of rank 128 at 3e-5; here a small
language model is trained in full, at a higher rate. The cosine schedule depends on `--steps`: resume with the same
number.

`OUT/model` is the model of the third generation (`train/targets/editing.py`), for `--decode edit`; `OUT/data.json`
lists used and dropped clips.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lithophone.audio.features import FRAME_S, batch_frames
from lithophone.checkpoint import Checkpoint, save_checkpoint
from lithophone.ctc.characters import raw_text
from lithophone.decode.edit import edit_batch
from lithophone.decode.options import Edit
from lithophone.errors import OptionError
from lithophone.metrics.wer import score
from lithophone.model.nar import GraniteSpeechNar
from lithophone.train.base_model import starting_checkpoint
from lithophone.train.data.augment import STRONG, seeded
from lithophone.train.data.batches import SpeechBatch
from lithophone.train.dev_clips import DevClip, dev_clips, dev_corpora, in_batches
from lithophone.train.run.arguments import (
    Data,
    add_data_arguments,
    add_init_arguments,
    add_run_arguments,
    begin,
    check_init_arguments,
    loop_options,
    recipe_parser,
)
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Cosine
from lithophone.train.targets.editing import (
    WEIGHTS,
    HypothesisNoise,
    corrupt_hypothesis,
    ctc_drafts,
    editing_losses,
    editing_model_from,
    frames_that_fit,
)
from lithophone.train.targets.losses import Loss

WARMUP_SHARE = 0.05
LONGEST_S = 80.0
ALPHA = 0.65

PARTS = {
    "projector": "projector",
    "language_model": "language_model",
    "embeddings": "language_model.model.embed_tokens",
}
"""Parts that may be frozen besides the encoder: name on the command line -> name in the model."""


class EditingTask(nn.Module):
    """Editing model; the encoder and the `frozen` of PARTS are frozen, the encoder in evaluation mode."""

    def __init__(self, checkpoint: Checkpoint, noise: HypothesisNoise, frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.model = checkpoint.editor
        self.checkpoint = checkpoint
        self.noise = noise
        for path in ("encoder", *(PARTS[name] for name in frozen)):
            self.model.get_submodule(path).requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise OptionError(f"--freeze {' '.join(frozen)} freezes everything: leave one of them out")

    def train(self, mode: bool = True) -> EditingTask:
        super().train(mode)
        self.model.encoder.eval()
        return self

    def hypotheses(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, list[list[int]]]:
        """Audio embeddings (B, N, H) and counts (B,), with gradients, and the CTC hypotheses to edit."""
        weight = self.model.projector.out_linear.weight
        encoded, drafts = ctc_drafts(self.model, frames.to(weight.device, weight.dtype), lengths.to(weight.device))
        return *self.model.project(encoded), [self.checkpoint.reread(ids) for ids in drafts]

    def losses(self, batch: SpeechBatch, step: int) -> Mapping[str, Loss]:
        """The corruption of a hypothesis depends on step and text alone, not on the batch."""
        tokenizer = self.checkpoint.tokenizer
        audio, counts, hypotheses = self.hypotheses(batch.frames, batch.lengths)
        corrupted = [
            corrupt_hypothesis(ids, self.noise, tokenizer, seeded(step, "corrupt", text))
            for ids, text in zip(hypotheses, batch.texts, strict=True)
        ]
        references = [tokenizer.encode(raw_text(text)) for text in batch.texts]
        return editing_losses(self.model, audio, counts, corrupted, references)


class EditingDevSet:
    """Error rates per language on dev clips, of the CTC hypotheses and after one pass of editing."""

    def __init__(self, manifest: Path, langs: Sequence[str], clips: int, cache: Path) -> None:
        corpora = dev_corpora(manifest, langs, clips, cache, by_corpus=False)
        self.sets = {lang: dev_clips(corpus, whole=True) for lang, corpus in corpora.items()}

    def evaluate(self, task: EditingTask) -> dict[str, float]:
        """`wer_ctc_<lang>` of the hypotheses, `wer_<lang>` of the edited texts."""
        result = {}
        for lang, clips in self.sets.items():
            rows = [row for some in in_batches(clips) for row in self._edit(task, some)]
            result[f"wer_ctc_{lang}"] = score([(text, draft) for text, draft, _ in rows], lang).rate
            result[f"wer_{lang}"] = score([(text, edited) for text, _, edited in rows], lang).rate
            print(rows[len(rows) // 2], rows[-1], flush=True)
        return result

    def _edit(self, task: EditingTask, clips: Sequence[DevClip]) -> list[tuple[str, str, str]]:
        audio, counts, hypotheses = task.hypotheses(*batch_frames([clip.frames for clip in clips]))
        replies = edit_batch(task.model, audio, counts, hypotheses, Edit())
        decode = task.checkpoint.tokenizer.decode
        rows = zip(clips, hypotheses, replies, strict=True)
        return [(clip.text, decode(ids), decode(reply.ids)) for clip, ids, reply in rows]


def save_model(state: Mapping[str, Tensor], checkpoint: Checkpoint, folder: Path) -> None:
    averaged = {n.removeprefix("model."): tensor for n, tensor in state.items()}
    final = GraniteSpeechNar(checkpoint.editor.config)
    final.load_state_dict(averaged)
    save_checkpoint(replace(checkpoint, network=final), folder, dtype=torch.bfloat16)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    add_data_arguments(parser, batch_seconds=60.0, alpha=ALPHA, longest_s=LONGEST_S)
    add_init_arguments(parser)
    parser.add_argument("--freeze", nargs="+", choices=PARTS, default=[], help="parts to freeze besides the encoder")
    parser.add_argument("--corrupt", type=float, default=HypothesisNoise().row_p, help="share of corrupted hypotheses")
    add_run_arguments(parser, steps=3000, lr=5e-4, seed=4)
    args = parser.parse_args(argv)
    check_init_arguments(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = read_arguments(argv)
    ranks = begin(args)
    checkpoint = editing_model_from(starting_checkpoint(args))
    slowest = 1.0 if args.plain else STRONG.speed_range[0]
    data = Data.read(args, ranks, slowest * frames_that_fit(checkpoint.editor.config) * FRAME_S)
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in checkpoint.editor.named_children()}
    print({name: f"{size:.2f} M" for name, size in sizes.items()}, flush=True)
    task = EditingTask(checkpoint, HypothesisNoise(row_p=args.corrupt), args.freeze)
    options = loop_options(args, Cosine(args.lr, args.steps, round(WARMUP_SHARE * args.steps)), ranks)
    trainer = Trainer(task, task.losses, WEIGHTS, options)
    trainer.resume()
    dev = EditingDevSet(args.dev, args.dev_langs, args.dev_clips, args.cache)
    trainer.run(data.batches(STRONG, trainer.batches_seen, ranks), lambda: dev.evaluate(task))
    state = trainer.averaged_state()
    if ranks.leads:
        save_model(state, checkpoint, args.out / "model")


if __name__ == "__main__":
    main()
