"""Stage 1: the conformer encoder with both CTC heads, helped by the states of a teacher.

    python recipes/encoder.py --data ../shared/speech/train.jsonl:en:1:data/teacher/train-en \\
        --data ../shared/speech/train.jsonl:fr+de --data data/synth/kokoro-en.jsonl:en:2:data/teacher/kokoro-en \\
        --dev ../shared/speech/dev.jsonl --dev-langs en fr de \\
        --tokenizer checkpoints/tokenizer --out checkpoints/encoder

Loss = 0.8 CTC(characters, last layer) + 0.2 CTC(characters, middle layer) + 0.3 CTC(BPE, pooled) + 5 distance to the
teacher's states. The first two shares are those of the family's paper; the other two are ours: the BPE head has to
follow the characters without leading them, and the dense target carries the run while CTC is still on its plateau.
The targets of both heads are the raw form of a text, and Japanese in kana
(`train/targets/ctc_transcripts.py`). Some training rows and all dev clips are conditioned on their language.
A row is drawn from a corpus by its weight and hours ** alpha. Stopped and started again, a run goes on from its last
checkpoint; `--steps` may have grown meanwhile. `OUT/data.json` says what was trained on, what was dropped and why.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lithophone.audio.features import batch_frames, log_mel_frames
from lithophone.checkpoint import load_checkpoint
from lithophone.ctc.characters import character_labels, hiragana, labels_text
from lithophone.ctc.forced_alignment import collapse
from lithophone.ctc.language_bias import language_bias
from lithophone.data.manifest import Entry, read_entries
from lithophone.hub import resolve
from lithophone.metrics.wer import measure_name, score, score_characters
from lithophone.model.config import EncoderConfig
from lithophone.model.conformer import Conformer
from lithophone.model.heads import BPEHead
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.augment import Augment, seeded
from lithophone.train.data.batches import Batch, Corpus
from lithophone.train.embedding_transfer import carry_over
from lithophone.train.run.arguments import (
    Data,
    add_data_arguments,
    add_run_arguments,
    begin,
    loop_options,
    recipe_parser,
)
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.targets.ctc_transcripts import FOREIGN_PENALTY, encoder_biass, heard_text
from lithophone.train.targets.losses import Loss, ctc, regression

TINY = EncoderConfig(hidden_dim=192, num_layers=8, num_heads=4, dim_head=48, feedforward_mult=3, dropout=0.0)
WEIGHTS = {"ctc": 0.8, "ctc_mid": 0.2, "ctc_bpe": 0.3, "teacher": 5.0}
WEIGHTS_FILE = "encoder.safetensors"


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
        rng = seeded(0, "told", int(torch.initial_seed()) % 2**31)
        language = language_bias(encoder_biass(batch.texts, batch.langs, rng), FOREIGN_PENALTY, with_ids=True)
        output = task.encoder(batch.frames.to(task.to_teacher.weight.dtype), batch.lengths, language)
        heard = [heard_text(text, lang) for text, lang in zip(batch.texts, batch.langs, strict=True)]
        characters = [character_labels(text) for text in heard]
        tokens = [[i + 1 for i in tokenizer.encode(text)] for text in heard]
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


@dataclass(frozen=True)
class DevClip:
    """Frames (T, 160) of a clip, and what is said in it."""

    frames: Tensor
    text: str
    lang: str


class DevSet:
    """A few clips that are never trained on, by corpus and language; error rates by best path, no language model."""

    def __init__(self, manifest: Path, langs: Sequence[str], clips: int, tokenizer: Tokenizer, cache: Path) -> None:
        self.tokenizer = tokenizer
        groups: dict[str, list[Entry]] = {}
        for entry in read_entries(manifest):
            if entry.lang in langs:
                groups.setdefault(f"{entry.corpus}_{entry.lang}", []).append(entry)
        self.sets = {name: self._read(entries, clips, cache) for name, entries in groups.items()}

    def _read(self, entries: list[Entry], clips: int, cache: Path) -> list[DevClip]:
        """So many clips from all over the corpus, the shortest first."""
        corpus = Corpus(entries[:: max(1, len(entries) // clips)][:clips], cache)
        read = [
            DevClip(log_mel_frames(torch.from_numpy(corpus.samples(clip))), clip.text, clip.lang)
            for clip in corpus.clips
        ]
        return sorted(read, key=lambda clip: len(clip.frames))

    def evaluate(self, task: EncoderTask) -> dict[str, float]:
        """`wer_<corpus>_<lang>` and `cer_...` of the characters, `wer_bpe_...` of the tokens; Japanese has no words."""
        result = {}
        for name, clips in self.sets.items():
            rows = [row for i in range(0, len(clips), 8) for row in self._decode(task, clips[i : i + 8])]
            lang = clips[0].lang
            measure = measure_name(lang).lower()
            spelled = [(text, chars) for text, chars, _ in rows]
            result[f"cer_{name}"] = score_characters(spelled, lang).rate
            result[f"{measure}_{name}"] = score(spelled, lang).rate
            result[f"{measure}_bpe_{name}"] = score([(text, bpe) for text, _, bpe in rows], lang).rate
            print(rows[len(rows) // 2], flush=True)
        return result

    def _decode(self, task: EncoderTask, clips: list[DevClip]) -> list[tuple[str, str, str]]:
        """What is heard in every clip, and what characters and tokens spell."""
        frames, lengths = batch_frames([clip.frames for clip in clips])
        weight = task.to_teacher.weight
        language = language_bias([clip.lang for clip in clips], FOREIGN_PENALTY, with_ids=True)
        output = task.encoder(frames.to(weight.device, weight.dtype), lengths.to(weight.device), language)
        bpe, bpe_lengths = task.bpe_head.logits(output)
        decoded = []
        for i, clip in enumerate(clips):
            chars = labels_text(collapse(output.logits[i, : lengths[i]].argmax(-1).tolist()))
            tokens = self.tokenizer.decode([t - 1 for t in collapse(bpe[i, : bpe_lengths[i]].argmax(-1).tolist())])
            spelt = hiragana(chars) if clip.lang == "ja" else chars
            decoded.append((heard_text(clip.text, clip.lang), spelt, tokens))
        return decoded


def start_from(task: EncoderTask, name: str, tokenizer: Tokenizer) -> None:
    """Take the encoder and BPE head of a trained model with the same sizes; its tokenizer may be another one.

    Or those of a folder that this recipe wrote, by the same tokenizer.
    """
    if (Path(name) / WEIGHTS_FILE).is_file():
        task.load_state_dict(load_file(Path(name) / WEIGHTS_FILE), strict=False)
        return
    trained = load_checkpoint(resolve(name))
    task.encoder.load_state_dict(trained.model.encoder.state_dict())
    head = trained.model.bpe_head
    if head is not None:
        for mine, theirs in ((task.bpe_head.weight, head.weight), (task.bpe_head.bias, head.bias)):
            mine.data = torch.cat([theirs[:1], carry_over(theirs[1:], trained.tokenizer, tokenizer)]).to(mine.dtype)


def save_weights(state: Mapping[str, Tensor], task: EncoderTask, folder: Path) -> None:
    """The averaged weights, float32, under the checkpoint's own names; the teacher's layer stays behind."""
    kept = {n: t.contiguous() for n, t in state.items() if n.startswith(("encoder.", "bpe_head."))}
    save_file(kept, folder / WEIGHTS_FILE)
    (folder / "encoder_config.json").write_text(json.dumps(task.encoder.config.to_dict()))


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    add_data_arguments(parser, batch_seconds=40.0, row_frames=(200, 400, 600))
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument(
        "--init", help="start from the encoder of a model, by name or folder, or of a run: lithophone-tiny"
    )
    add_run_arguments(parser, steps=6000, lr=1.5e-3, seed=1)
    parser.add_argument("--warmup", type=int, default=300)
    parser.add_argument("--cooldown", type=int, default=1500)
    args = parser.parse_args(argv)

    ranks = begin(args)
    data = Data.read(args, ranks)
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    teacher_size = next((part.teacher.size for part in data.parts if part.teacher), 0)
    task = EncoderTask(TINY, len(tokenizer), teacher_size)
    if args.init:
        start_from(task, args.init, tokenizer)
    options = loop_options(args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks)
    trainer = Trainer(task, encoder_losses(task, tokenizer), WEIGHTS, options)
    trainer.resume()
    dev = DevSet(args.dev, args.dev_langs, args.dev_clips, tokenizer, args.cache)
    print(f"{sum(p.numel() for p in task.encoder.parameters()) / 1e6:.2f} M parameters in the encoder", flush=True)
    trainer.run(data.batches(Augment(), trainer.batches_seen, ranks), lambda: dev.evaluate(task))
    state = trainer.averaged_state()
    if ranks.leads:
        save_weights(state, task, args.out)


if __name__ == "__main__":
    main()
