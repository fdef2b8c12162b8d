"""Stage 4: a model that edits (nar; NLE, arXiv 2603.08397): recording and hypothesis in, all tokens out at once.

    python recipes/nar.py --init lithophone-tiny --data ../shared/speech/train.jsonl:en \\
        --data data/synth/pico.jsonl:fr+de+es --dev ../shared/speech/dev.jsonl --out checkpoints/nar

Loss = CTC(slots, reference) + 0.02 CE(slots, what they hold), on hypotheses that the encoder's BPE head spells. Encoder
and head are held still and come, with the language model, from a trained model (`--init`) or from the parts of stages 1
and 2a (`--encoder`, `--language-model`, `--tokenizer`); the projector is new. The family trains adapters of rank 128 at
3e-5; here the whole of a small language model learns, at a rate of its own. The cosine ends where the run ends: a run
that was stopped goes on from its last checkpoint, but with the same `--steps`.

`OUT/model` is the finished folder, of the third generation (`train/targets/editing.py` says why), for `--decode edit`;
`OUT/data.json` says what was trained on, and what was dropped and why.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from speech import HARDER, assemble
from torch import Tensor, nn

from lithophone.audio.features import FRAME_S, batch_frames, log_mel_frames
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.ctc.characters import raw_text
from lithophone.data.manifest import read_entries
from lithophone.decode.edit import edit_batch
from lithophone.decode.options import Edit
from lithophone.errors import OptionError
from lithophone.hub import resolve
from lithophone.metrics.wer import score
from lithophone.model.nar import GraniteSpeechNar
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.augment import seeded
from lithophone.train.data.batches import Batch, Corpus
from lithophone.train.run.arguments import (
    Data,
    add_data_arguments,
    add_run_arguments,
    begin,
    loop_options,
    recipe_parser,
)
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Cosine
from lithophone.train.targets.editing import (
    WEIGHTS,
    Corruption,
    corrupt,
    editing_losses,
    editor_from,
    frames_that_fit,
    hear,
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
"""What may be held still besides the encoder: names on the command line, and in the model."""


class EditingTask(nn.Module):
    """A whole model that edits; its encoder is held still, in evaluation mode, and so are the `frozen` of PARTS."""

    def __init__(self, checkpoint: Checkpoint, corruption: Corruption, frozen: Sequence[str] = ()) -> None:
        super().__init__()
        self.model = checkpoint.editor
        self.checkpoint = checkpoint
        self.corruption = corruption
        for path in ("encoder", *(PARTS[name] for name in frozen)):
            self.model.get_submodule(path).requires_grad_(False)
        if not any(parameter.requires_grad for parameter in self.parameters()):
            raise OptionError(f"--freeze {' '.join(frozen)} leaves nothing to train: leave one of them out")

    def train(self, mode: bool = True) -> EditingTask:
        super().train(mode)
        self.model.encoder.eval()
        return self

    def hear(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, list[list[int]]]:
        """Audio embeddings and their counts, with gradients, and the hypotheses to be edited."""
        weight = self.model.projector.out_linear.weight
        encoded, spelt = hear(self.model, frames.to(weight.device, weight.dtype), lengths.to(weight.device))
        return *self.model.project(encoded), [self.checkpoint.reread(ids) for ids in spelt]

    def losses(self, batch: Batch) -> Mapping[str, Loss]:
        """How a hypothesis is bent depends on the step and on its text alone, not on who else is in the batch."""
        tokenizer, step = self.checkpoint.tokenizer, int(torch.initial_seed()) % 2**31
        audio, counts, hypotheses = self.hear(batch.frames, batch.lengths)
        bent = [
            corrupt(ids, self.corruption, tokenizer, seeded(step, "corrupt", text))
            for ids, text in zip(hypotheses, batch.texts, strict=True)
        ]
        references = [tokenizer.encode(raw_text(text)) for text in batch.texts]
        return editing_losses(self.model, audio, counts, bent, references)


class EditingDevSet:
    """Clips that are never trained on: error rates per language before (`heard`) and after one pass of editing."""

    def __init__(self, manifest: Path, langs: Sequence[str], clips: int, cache: Path) -> None:
        self.sets: dict[str, list[tuple[Tensor, str]]] = {}
        for lang in langs:
            entries = read_entries(manifest, lang)
            corpus = Corpus(entries[:: max(1, len(entries) // clips)][:clips], cache)
            frames = [(log_mel_frames(torch.from_numpy(corpus.samples(c)), whole=True), c.text) for c in corpus.clips]
            self.sets[lang] = sorted(frames, key=lambda clip: len(clip[0]))

    def evaluate(self, task: EditingTask) -> dict[str, float]:
        result = {}
        for lang, clips in self.sets.items():
            rows = [row for i in range(0, len(clips), 8) for row in self._edit(task, clips[i : i + 8])]
            result[f"wer_heard_{lang}"] = score([(text, heard) for text, heard, _ in rows], lang).rate
            result[f"wer_{lang}"] = score([(text, edited) for text, _, edited in rows], lang).rate
            print(rows[len(rows) // 2], rows[-1], flush=True)
        return result

    def _edit(self, task: EditingTask, clips: Sequence[tuple[Tensor, str]]) -> list[tuple[str, str, str]]:
        audio, counts, hypotheses = task.hear(*batch_frames([frames for frames, _ in clips]))
        replies = edit_batch(task.model, audio, counts, hypotheses, Edit())
        decode = task.checkpoint.tokenizer.decode
        rows = zip(clips, hypotheses, replies, strict=True)
        return [(text, decode(heard), decode(reply.ids)) for (_, text), heard, reply in rows]


def start(args: argparse.Namespace) -> Checkpoint:
    """The model before its first step, from a trained one or from parts."""
    if args.init:
        return editor_from(load_checkpoint(resolve(args.init)))
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    model = assemble(args.encoder, args.language_model, tokenizer)
    return editor_from(Checkpoint(model.eval(), tokenizer, model.config, args.encoder))


def save_model(state: Mapping[str, Tensor], checkpoint: Checkpoint, folder: Path) -> None:
    """The averaged weights as a folder that `lithophone.load` reads."""
    averaged = {n.removeprefix("model."): tensor for n, tensor in state.items()}
    final = GraniteSpeechNar(checkpoint.editor.config)
    final.load_state_dict(averaged)
    save_checkpoint(dataclasses.replace(checkpoint, network=final), folder, dtype=torch.bfloat16)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    add_data_arguments(parser, batch_seconds=60.0, alpha=ALPHA, longest_s=LONGEST_S)
    parser.add_argument("--init", help="start from a trained model, by name or folder: lithophone-tiny")
    parser.add_argument("--encoder", type=Path, help="or from parts: the folder of stage 1,")
    parser.add_argument("--language-model", type=Path, help="the folder of stage 2a,")
    parser.add_argument("--tokenizer", type=Path, help="and the tokenizer of both")
    parser.add_argument("--freeze", nargs="+", choices=PARTS, default=[], help="what is not trained")
    parser.add_argument("--corrupt", type=float, default=Corruption().row_p, help="share of hypotheses that are bent")
    add_run_arguments(parser, steps=3000, lr=5e-4, seed=4)
    args = parser.parse_args(argv)
    parts = [args.encoder, args.language_model, args.tokenizer]
    if any(parts) if args.init else not all(parts):
        parser.error("give either --init, or all of --encoder, --language-model and --tokenizer")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = read_arguments(argv)
    ranks = begin(args)
    checkpoint = start(args)
    slowest = 1.0 if args.plain else HARDER.speed_range[0]
    data = Data.read(args, ranks, slowest * frames_that_fit(checkpoint.editor.config) * FRAME_S)
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in checkpoint.editor.named_children()}
    print({name: f"{size:.2f} M" for name, size in sizes.items()}, flush=True)
    task = EditingTask(checkpoint, Corruption(row_p=args.corrupt), args.freeze)
    options = loop_options(args, Cosine(args.lr, args.steps, round(WARMUP_SHARE * args.steps)), ranks)
    trainer = Trainer(task, task.losses, WEIGHTS, options)
    trainer.resume()
    dev = EditingDevSet(args.dev, args.dev_langs, args.dev_clips, args.cache)
    trainer.run(data.batches(HARDER, trainer.batches_seen, ranks), lambda: dev.evaluate(task))
    state = trainer.averaged_state()
    if ranks.leads:
        save_model(state, checkpoint, args.out / "model")


if __name__ == "__main__":
    main()
