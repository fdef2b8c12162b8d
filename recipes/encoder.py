"""Stage 1: the conformer encoder with both CTC heads, helped by the states of a teacher.

    python recipes/encoder.py --data ../shared/speech/train.jsonl:en:1.0:data/teacher/train-en \\
        --data data/synth/kokoro-en.jsonl:en:2.0:data/teacher/kokoro-en --dev ../shared/speech/dev.jsonl \\
        --tokenizer checkpoints/tokenizer --out checkpoints/encoder --steps 6000

Loss = 0.8 CTC(characters, last layer) + 0.2 CTC(characters, middle layer) + 0.3 CTC(BPE, pooled) + 5 distance to the
teacher's states. The first two shares are those of the family's paper; the other two are ours: the BPE head has to
follow the characters without leading them, and the dense target carries the run while CTC is still on its plateau.
Stopped and started again, a run goes on from its last checkpoint; `--steps` may have grown meanwhile.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lithophone.checkpoint import load_checkpoint
from lithophone.config import EncoderConfig
from lithophone.decode.ctc import collapse
from lithophone.features import batch_frames, log_mel_frames
from lithophone.hub import resolve
from lithophone.labels import character_labels, labels_text, raw_text
from lithophone.manifest import read_entries
from lithophone.metrics.wer import score
from lithophone.model.conformer import Conformer
from lithophone.model.heads import BPEHead
from lithophone.tokenizer import Tokenizer
from lithophone.train.augment import Augment
from lithophone.train.data import Batch, Corpus, Mixture, Source, Teacher
from lithophone.train.loop import LoopOptions, Trainer
from lithophone.train.losses import Loss, ctc, regression
from lithophone.train.optim import Schedule
from lithophone.train.ranks import join_ranks

TINY = EncoderConfig(hidden_dim=192, num_layers=8, num_heads=4, dim_head=48, feedforward_mult=3, dropout=0.0)
CACHE = Path("data/pcm")
WEIGHTS = {"ctc": 0.8, "ctc_mid": 0.2, "ctc_bpe": 0.3, "teacher": 5.0}


class EncoderTask(nn.Module):
    """The encoder, its BPE head, and a linear layer that must tell the teacher's states (dropped after training)."""

    def __init__(self, config: EncoderConfig, n_tokens: int, teacher_size: int) -> None:
        super().__init__()
        self.encoder = Conformer(config)
        self.bpe_head = BPEHead(config.hidden_dim, n_tokens + 1)
        self.head_dropout = nn.Dropout(0.25)
        self.to_teacher = nn.Linear(config.hidden_dim, max(1, teacher_size))


def encoder_losses(task: EncoderTask, tokenizer: Tokenizer) -> Callable[[Batch], Mapping[str, Loss]]:
    def losses(batch: Batch) -> Mapping[str, Loss]:
        output = task.encoder(batch.frames.to(task.to_teacher.weight.dtype), batch.lengths)
        characters = [character_labels(raw_text(text)) for text in batch.texts]
        tokens = [[i + 1 for i in tokenizer.encode(raw_text(text))] for text in batch.texts]
        pooled, pooled_lengths = task.bpe_head.pool(output)
        found = {
            "ctc": ctc(output.logits, output.lengths, characters),
            "ctc_mid": ctc(output.mid_logits, output.lengths, characters),
            "ctc_bpe": ctc(task.bpe_head(task.head_dropout(pooled)), pooled_lengths, tokens),
        }
        if batch.teacher is not None and batch.teacher_valid is not None:
            found["teacher"] = regression(task.to_teacher(output.last), batch.teacher, batch.teacher_valid)
        return found

    return losses


class DevSet:
    """A few clips that are never trained on; WER of both heads by best path, no language model."""

    def __init__(self, manifest: Path, corpora: Sequence[str], clips: int, tokenizer: Tokenizer) -> None:
        self.sets = {}
        self.tokenizer = tokenizer
        for name in corpora:
            entries = [e for e in read_entries(manifest, "en") if e.corpus == name]
            corpus = Corpus(entries[:: max(1, len(entries) // clips)][:clips], CACHE)
            self.sets[name] = [(log_mel_frames(torch.from_numpy(corpus.samples(c))), c.text) for c in corpus.clips]

    def evaluate(self, task: EncoderTask) -> dict[str, float]:
        result = {}
        for name, clips in self.sets.items():
            ordered = sorted(clips, key=lambda clip: len(clip[0]))
            pairs = [pair for i in range(0, len(ordered), 8) for pair in self._decode(task, ordered[i : i + 8])]
            result[f"wer_{name}"] = score([(text, chars) for text, chars, _ in pairs], "en").rate
            result[f"wer_bpe_{name}"] = score([(text, bpe) for text, _, bpe in pairs], "en").rate
        print(pairs[0], pairs[-1], flush=True)
        return result

    def _decode(self, task: EncoderTask, clips: list[tuple[Tensor, str]]) -> list[tuple[str, str, str]]:
        frames, lengths = batch_frames([f for f, _ in clips])
        weight = task.to_teacher.weight
        output = task.encoder(frames.to(weight.device, weight.dtype), lengths.to(weight.device))
        bpe, bpe_lengths = task.bpe_head.logits(output)
        decoded = []
        for i, (_, text) in enumerate(clips):
            chars = labels_text(collapse(output.logits[i, : lengths[i]].argmax(-1).tolist()))
            tokens = self.tokenizer.decode([t - 1 for t in collapse(bpe[i, : bpe_lengths[i]].argmax(-1).tolist())])
            decoded.append((text, chars, tokens))
        return decoded


def read_source(text: str) -> Source:
    """`MANIFEST:LANGS[@CORPORA]:WEIGHT[:TEACHER]`, LANGS and CORPORA joined by `+`."""
    manifest, which, weight, *teacher = text.split(":")
    langs, _, corpora = which.partition("@")
    wanted = [e for e in read_entries(manifest) if e.lang in langs.split("+")]
    corpus = Corpus([e for e in wanted if not corpora or e.corpus in corpora.split("+")], CACHE)
    print(f"{manifest} {which}: {len(corpus.clips)} clips, {corpus.hours:.2f} h, weight {weight}", flush=True)
    return Source(corpus, float(weight), Teacher(Path(teacher[0])) if teacher else None)


def start_from(task: EncoderTask, name: str) -> None:
    """Take the encoder and BPE head of a trained model with the same sizes and tokenizer."""
    model = load_checkpoint(resolve(name)).model
    task.encoder.load_state_dict(model.encoder.state_dict())
    if model.bpe_head is not None:
        task.bpe_head.load_state_dict(model.bpe_head.state_dict())


def save_weights(trainer: Trainer[Batch], task: EncoderTask, folder: Path) -> None:
    """The averaged weights, float32, under the checkpoint's own names; the teacher's layer stays behind."""
    state = trainer.averaged_state()
    kept = {n: t.contiguous() for n, t in state.items() if n.startswith(("encoder.", "bpe_head."))}
    save_file(kept, folder / "encoder.safetensors")
    (folder / "encoder_config.json").write_text(json.dumps(task.encoder.config.to_dict()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="MANIFEST:LANGS[@CORPORA]:WEIGHT[:TEACHER]")
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--dev-corpora", default="librispeech_devclean_mp3,cv_delta_en")
    parser.add_argument("--dev-clips", type=int, default=60)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--init", help="start from the encoder of a model, by name or folder: lithophone-tiny")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--cooldown", type=int, default=1500)
    parser.add_argument("--lr", type=float, default=1.5e-3)
    parser.add_argument("--batch-seconds", type=float, default=40.0)
    parser.add_argument("--row-frames", type=int, nargs="+", default=(200, 400, 600))
    parser.add_argument("--plain", action="store_true", help="no augmentation")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--evaluate-every", type=int, default=500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--fp32", action="store_true", help="compute in float32 instead of bfloat16")
    args = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(args.seed)
    ranks = join_ranks(args.device)
    sources = [read_source(text) for text in args.data]
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    teacher_size = next((s.teacher.size for s in sources if s.teacher), 0)
    task = EncoderTask(TINY, len(tokenizer), teacher_size)
    if args.init:
        start_from(task, args.init)
    options = LoopOptions(
        schedule=Schedule(args.lr, args.steps, args.warmup, args.cooldown),
        folder=args.out,
        device=ranks.device,
        leads=ranks.leads,
        precision=torch.float32 if args.fp32 else torch.bfloat16,
        evaluate_every=args.evaluate_every,
    )
    trainer = Trainer(task, encoder_losses(task, tokenizer), WEIGHTS, options)
    trainer.resume()
    mixture = Mixture(
        sources,
        seconds=args.batch_seconds,
        row_frames=args.row_frames,
        augment=Augment.none() if args.plain else Augment(),
        seed=args.seed,
        start=trainer.step,
        rank=ranks.rank,
        world=ranks.world,
    )
    batches = torch.utils.data.DataLoader(
        mixture, batch_size=None, num_workers=args.workers, prefetch_factor=8 if args.workers else None
    )
    dev = DevSet(args.dev, args.dev_corpora.split(","), args.dev_clips, tokenizer)
    print(f"{sum(p.numel() for p in task.encoder.parameters()) / 1e6:.2f} M parameters in the encoder", flush=True)
    trainer.run(batches, lambda: dev.evaluate(task))
    if ranks.leads:
        save_weights(trainer, task, args.out)


if __name__ == "__main__":
    main()
