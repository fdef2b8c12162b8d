"""Stage 2b: projector and language model learn together to transcribe what the encoder hears; the encoder is frozen.

    python recipes/speech.py --data ... --dev ../shared/speech/dev.jsonl --tokenizer checkpoints/tokenizer \\
        --encoder checkpoints/encoder --language-model checkpoints/language_model --out checkpoints/speech

Loss = cross-entropy of the reply + 0.3 CTC over the projector's output, read with the language model's own embedding
table and its padding token as the blank. The second term tells every audio embedding which token it stands for: stage
2a has taught the language model to read just that, so the two halves meet instead of searching for each other.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping
from pathlib import Path

import torch
from encoder import DevSet, read_source
from safetensors.torch import load_file
from torch import nn

from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.config import EncoderConfig, ModelConfig, ProjectorConfig, TextConfig
from lithophone.decode.batched import decode_batch
from lithophone.decode.options import BeamSearch, Greedy
from lithophone.features import batch_frames
from lithophone.hub import resolve
from lithophone.labels import raw_text
from lithophone.metrics.wer import score
from lithophone.model.speech import GraniteSpeech
from lithophone.prompts import Transcribe, build_prompt
from lithophone.tokenizer import Tokenizer
from lithophone.train.augment import Augment, seeded
from lithophone.train.data import Batch, Mixture
from lithophone.train.loop import LoopOptions, Trainer
from lithophone.train.losses import Loss, ctc
from lithophone.train.optim import Schedule
from lithophone.train.ranks import join_ranks
from lithophone.train.replies import draw_task, make_pair, reply_loss

MODEL_TYPE = "granite_speech"
WEIGHTS = {"reply": 1.0, "ctc": 0.3}

BEAMS = BeamSearch(num_beams=8, ctc_weight=0.3)
"""What the model decodes with by default: at this size the encoder spells better than the language model listens."""

HARDER = Augment(
    room_p=0.2, noise_p=0.5, noise_snr_db=(2.0, 25.0), spec_p=1.0, time_masks_per_s=0.8, time_mask_frames=16,
    mel_mask_bands=16,
)  # fmt: skip
"""The encoder knows these clips better than any others. Made harder, they sound to what comes next as new ones do."""


def read_part(folder: Path, name: str) -> tuple[dict[str, object], dict[str, torch.Tensor]]:
    return json.loads((folder / f"{name}_config.json").read_text()), load_file(folder / f"{name}.safetensors")


def assemble(encoder: Path, language_model: Path, tokenizer: Tokenizer) -> GraniteSpeech:
    """The encoder of stage 1, the language model of stage 2a, and a new projector between them."""
    encoder_values, encoder_weights = read_part(encoder, "encoder")
    text_values, text_weights = read_part(language_model, "language_model")
    encoder_config, text_config = EncoderConfig.from_dict(encoder_values), TextConfig.from_dict(text_values)
    projector = ProjectorConfig(
        hidden_size=192,
        intermediate_size=768,
        num_attention_heads=4,
        encoder_hidden_size=encoder_config.output_size,
        attention_probs_dropout_prob=0.0,
        hidden_dropout_prob=0.0,
    )
    config = ModelConfig(
        encoder_config,
        projector,
        text_config,
        audio_token_index=tokenizer.audio_id,
        tie_word_embeddings=text_config.tie_word_embeddings,
    )
    model = GraniteSpeech(config, bpe_labels=len(tokenizer) + 1)
    missing, unexpected = model.load_state_dict(encoder_weights | text_weights, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith("projector.") for name in missing), missing
    match_scale(model)
    return model


def start_from(model: GraniteSpeech, name: str) -> None:
    """Take projector and language model of a trained model with the same sizes and tokenizer; keep the encoder."""
    trained = load_checkpoint(resolve(name)).model
    model.projector.load_state_dict(trained.projector.state_dict())
    model.language_model.load_state_dict(trained.language_model.state_dict())


@torch.no_grad()
def match_scale(model: GraniteSpeech) -> None:
    """Let the new projector speak as loudly as the embeddings the language model knows.

    A fresh linear layer over normed states has outputs of variance 1/3.
    """
    linear = model.projector.linear
    linear.weight.mul_(3**0.5 * model.language_model.model.embed_tokens.weight.std())
    linear.bias.zero_()


class SpeechTask(nn.Module):
    """The whole model; the encoder and its head are held still, in evaluation mode."""

    def __init__(self, model: GraniteSpeech, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.temperature = nn.Parameter(torch.tensor([4.0]))
        for part in (model.encoder, model.bpe_head):
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> SpeechTask:
        super().train(mode)
        self.model.encoder.eval()
        return self

    def losses(self, batch: Batch) -> Mapping[str, Loss]:
        weight = self.model.projector.linear.weight
        with torch.no_grad():
            encoded = self.model.encode(batch.frames.to(weight.dtype), batch.lengths)
        audio, counts = self.model.project(encoded)
        rng = seeded(0, "tasks", int(torch.initial_seed()) % 2**31)
        pairs = [
            make_pair(draw_task(text, rng), text, self.tokenizer, MODEL_TYPE, count)
            for text, count in zip(batch.texts, counts.tolist(), strict=True)
        ]
        rows = self.model.embed([p.prompt + p.reply[:-1] for p in pairs], audio, counts)
        language_model = self.model.language_model
        table = language_model.model.embed_tokens.weight
        tokens = [self.tokenizer.encode(raw_text(text)) for text in batch.texts]
        said = nn.functional.layer_norm(audio.float(), audio.shape[-1:]).to(table.dtype)
        logits = said @ table.T * self.temperature
        return {
            "reply": reply_loss(language_model, rows, pairs),
            "ctc": ctc(logits, counts, tokens, blank=self.tokenizer.pad_id),
        }


class ReplyDevSet(DevSet):
    """The dev clips through the whole path: encoder, projector, language model, greedy."""

    def evaluate_replies(self, task: SpeechTask) -> dict[str, float]:
        result = {}
        for name, clips in self.sets.items():
            ordered = sorted(clips, key=lambda clip: len(clip[0]))
            pairs = [pair for i in range(0, len(ordered), 8) for pair in self._replies(task.model, ordered[i : i + 8])]
            result[f"wer_{name}"] = score(pairs, "en").rate
            print(pairs[len(pairs) // 2], pairs[-1], flush=True)
        return result

    def _replies(self, model: GraniteSpeech, clips: list[tuple[torch.Tensor, str]]) -> list[tuple[str, str]]:
        weight = model.projector.linear.weight
        frames, lengths = batch_frames([f for f, _ in clips])
        audio, counts = model.audio_embeddings(frames.to(weight.device, weight.dtype), lengths.to(weight.device))
        sizes = counts.tolist()
        prompts = [build_prompt(Transcribe(punctuate=False), self.tokenizer, MODEL_TYPE, n) for n in sizes]
        replies = decode_batch(model, model.embed(prompts, audio, counts), Greedy(), sizes)
        return [(text, self.tokenizer.decode(reply.ids)) for (_, text), reply in zip(clips, replies, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True, help="MANIFEST:LANGS[@CORPORA]:WEIGHT[:TEACHER]")
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--dev-corpora", default="librispeech_devclean_mp3,cv_delta_en")
    parser.add_argument("--dev-clips", type=int, default=60)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--language-model", type=Path, required=True)
    parser.add_argument("--init", help="projector and language model of a trained model, by name or folder")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--cooldown", type=int, default=1000)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--batch-seconds", type=float, default=60.0)
    parser.add_argument("--row-frames", type=int, nargs="+", default=(200, 400, 600, 800))
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--evaluate-every", type=int, default=500)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--fp32", action="store_true", help="compute in float32 instead of bfloat16")
    args = parser.parse_args()

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.manual_seed(args.seed)
    ranks = join_ranks(args.device)
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    model = assemble(args.encoder, args.language_model, tokenizer)
    if args.init:
        start_from(model, args.init)
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
    print({name: f"{size:.2f} M" for name, size in sizes.items()}, flush=True)
    task = SpeechTask(model, tokenizer)
    options = LoopOptions(
        schedule=Schedule(args.lr, args.steps, args.warmup, args.cooldown),
        folder=args.out,
        device=ranks.device,
        leads=ranks.leads,
        precision=torch.float32 if args.fp32 else torch.bfloat16,
        evaluate_every=args.evaluate_every,
    )
    trainer = Trainer(task, task.losses, WEIGHTS, options)
    trainer.resume()
    mixture = Mixture(
        [read_source(text) for text in args.data],
        seconds=args.batch_seconds,
        row_frames=args.row_frames,
        augment=HARDER,
        seed=args.seed,
        start=trainer.step,
        rank=ranks.rank,
        world=ranks.world,
    )
    dev = ReplyDevSet(args.dev, args.dev_corpora.split(","), args.dev_clips, tokenizer)
    batches = torch.utils.data.DataLoader(
        mixture, batch_size=None, num_workers=args.workers, prefetch_factor=8 if args.workers else None
    )
    trainer.run(batches, lambda: dev.evaluate_replies(task))

    if not ranks.leads:
        return
    averaged = {n.removeprefix("model."): t for n, t in trainer.averaged_state().items() if n.startswith("model.")}
    final = GraniteSpeech(model.config, bpe_labels=len(tokenizer) + 1)
    final.load_state_dict(averaged)
    checkpoint = Checkpoint(final, tokenizer, model.config, args.out, BEAMS)
    save_checkpoint(checkpoint, args.out / "model", dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
