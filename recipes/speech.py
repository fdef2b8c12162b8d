"""Stage 2b: projector and language model learn together to answer prompts on what the encoder hears, which is frozen.

    python recipes/speech.py --data ... --dev ../shared/speech/dev.jsonl --tokenizer checkpoints/tokenizer \\
        --encoder checkpoints/encoder --language-model checkpoints/language_model --out checkpoints/speech

Prompts are drawn by the shares of `--mix`: raw, punctuated, with keywords, and translation where the manifest has
translations, a part of it transcribing first. Loss = cross-entropy of the reply + 0.3 CTC over the projector's output,
read with the language model's own embedding table and its padding token as the blank. The second term tells every audio
embedding which token it stands for: stage 2a has taught the language model to read just that, so the two halves meet
instead of searching for each other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from encoder import DevClip, DevSet
from safetensors.torch import load_file
from torch import nn

from lithophone.audio.features import batch_frames
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.ctc.language_bias import language_bias
from lithophone.decode.options import BeamSearch, Greedy
from lithophone.decode.scheduler import decode_batch
from lithophone.hub import resolve
from lithophone.metrics.wer import measure_name, score, score_characters
from lithophone.model.config import EncoderConfig, ModelConfig, ProjectorConfig, TextConfig
from lithophone.model.speech import GraniteSpeech
from lithophone.text.prompts import Transcribe, build_prompt
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.augment import Augment, seeded
from lithophone.train.data.batches import Batch
from lithophone.train.data.corpora import Part
from lithophone.train.data.keyword_lists import LARGEST, KeywordLists
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
from lithophone.train.targets.losses import Loss, ctc
from lithophone.train.targets.prompt_reply import Said, TaskMix, draw_request, make_pair, reply_loss

MODEL_TYPE = "granite_speech"
PARTS = ("projector", "language_model")
WEIGHTS = {"reply": 1.0, "ctc": 0.3}

BEAMS = BeamSearch(num_beams=8, ctc_weight=0.3, keyword_boost=0.5, future_cost=0.8)
"""What the model decodes with by default: at this size the encoder spells better than the language model listens."""

HARDER = Augment(
    room_p=0.4, noise_p=0.5, noise_snr_db=(2.0, 25.0), microphone_p=0.7, spec_p=1.0, time_masks_per_s=0.8,
    time_mask_frames=16, mel_mask_bands=16,
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


def start_from(model: GraniteSpeech, name: str, parts: Sequence[str]) -> None:
    """Take these of PARTS from a trained model with the same sizes, the language model also with the same tokenizer."""
    trained = load_checkpoint(resolve(name)).model
    for part in parts:
        model.get_submodule(part).load_state_dict(trained.get_submodule(part).state_dict())


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

    def __init__(
        self, model: GraniteSpeech, tokenizer: Tokenizer, mix: TaskMix, keywords: Mapping[str, KeywordLists]
    ) -> None:
        super().__init__()
        self.model = model
        self.tokenizer = tokenizer
        self.mix = mix
        self.keywords = keywords
        self.temperature = nn.Parameter(torch.tensor([4.0]))
        for part in (model.encoder, model.bpe_head):
            part.requires_grad_(False)

    def train(self, mode: bool = True) -> SpeechTask:
        super().train(mode)
        self.model.encoder.eval()
        return self

    def losses(self, batch: Batch) -> Mapping[str, Loss]:
        weight = self.model.projector.linear.weight
        rng = seeded(0, "tasks", int(torch.initial_seed()) % 2**31)
        language = language_bias(encoder_biass(batch.texts, batch.langs, rng), FOREIGN_PENALTY, with_ids=True)
        with torch.no_grad():
            encoded = self.model.encode(batch.frames.to(weight.dtype), batch.lengths, language)
        audio, counts = self.model.project(encoded)
        said = [Said(*known) for known in zip(batch.texts, batch.langs, batch.translations, strict=True)]
        pairs = [
            make_pair(draw_request(one, self.mix, rng, self.keywords), self.tokenizer, MODEL_TYPE, count)
            for one, count in zip(said, counts.tolist(), strict=True)
        ]
        rows = self.model.embed([p.prompt + p.reply[:-1] for p in pairs], audio, counts)
        language_model = self.model.language_model
        table = language_model.model.embed_tokens.weight
        tokens = [self.tokenizer.encode(heard_text(one.text, one.lang)) for one in said]
        spoken = nn.functional.layer_norm(audio.float(), audio.shape[-1:]).to(table.dtype)
        logits = spoken @ table.T * self.temperature
        return {
            "reply": reply_loss(language_model, rows, pairs),
            "ctc": ctc(logits, counts, tokens, blank=self.tokenizer.pad_id),
        }


class ReplyDevSet(DevSet):
    """The dev clips through the whole path, greedy; the encoder is told their language."""

    def evaluate_replies(self, task: SpeechTask) -> dict[str, float]:
        result = {}
        for name, clips in self.sets.items():
            pairs = [pair for i in range(0, len(clips), 8) for pair in self._replies(task.model, clips[i : i + 8])]
            lang = clips[0].lang
            result[f"cer_{name}"] = score_characters(pairs, lang).rate
            result[f"{measure_name(lang).lower()}_{name}"] = score(pairs, lang).rate
            print(pairs[len(pairs) // 2], flush=True)
        return result

    def _replies(self, model: GraniteSpeech, clips: list[DevClip]) -> list[tuple[str, str]]:
        weight = model.projector.linear.weight
        frames, lengths = batch_frames([clip.frames for clip in clips])
        language = language_bias([clip.lang for clip in clips], FOREIGN_PENALTY, with_ids=True)
        encoded = model.encode(frames.to(weight.device, weight.dtype), lengths.to(weight.device), language)
        audio, counts = model.project(encoded)
        sizes = counts.tolist()
        prompts = [build_prompt(Transcribe(punctuate=False), self.tokenizer, MODEL_TYPE, n) for n in sizes]
        replies = decode_batch(model, model.embed(prompts, audio, counts), Greedy(), sizes)
        texts = [(clip.text, self.tokenizer.decode(reply.ids)) for clip, reply in zip(clips, replies, strict=True)]
        if clips[0].lang == "ja":  # by its sound, as the encoder is measured
            return [(heard_text(said, "ja"), heard_text(reply, "ja")) for said, reply in texts]
        return texts


def keyword_lists(parts: Sequence[Part], largest: int = LARGEST) -> dict[str, KeywordLists]:
    """Lists for every language, of the words in its training texts."""
    texts: dict[str, list[str]] = {}
    for part in parts:
        for clip in part.corpus.clips:
            texts.setdefault(clip.lang, []).append(clip.text)
    return {lang: KeywordLists(known, lang, largest) for lang, known in texts.items()}


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    add_data_arguments(parser, batch_seconds=60.0)
    parser.add_argument("--mix", nargs="*", default=[], help=TaskMix.SYNTAX)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, required=True)
    parser.add_argument("--language-model", type=Path, required=True)
    parser.add_argument("--init", help="take --init-parts from a trained model, by name or folder")
    parser.add_argument("--init-parts", nargs="+", choices=PARTS, default=PARTS)
    add_run_arguments(parser, steps=3000, lr=1e-3, seed=2)
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--cooldown", type=int, default=1000)
    args = parser.parse_args(argv)

    ranks = begin(args)
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    model = assemble(args.encoder, args.language_model, tokenizer)
    if args.init:
        start_from(model, args.init, args.init_parts)
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
    print({name: f"{size:.2f} M" for name, size in sizes.items()}, flush=True)
    data = Data.read(args, ranks)
    task = SpeechTask(model, tokenizer, TaskMix.parse(args.mix), keyword_lists(data.parts))
    options = loop_options(args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks)
    trainer = Trainer(task, task.losses, WEIGHTS, options)
    trainer.resume()
    dev = ReplyDevSet(args.dev, args.dev_langs, args.dev_clips, tokenizer, args.cache)
    trainer.run(data.batches(HARDER, trainer.batches_seen, ranks), lambda: dev.evaluate_replies(task))

    averaged = {n.removeprefix("model."): t for n, t in trainer.averaged_state().items() if n.startswith("model.")}
    if not ranks.leads:
        return
    final = GraniteSpeech(model.config, bpe_labels=len(tokenizer) + 1)
    final.load_state_dict(averaged)
    checkpoint = Checkpoint(final, tokenizer, model.config, args.out, BEAMS, FOREIGN_PENALTY, language_ids=True)
    save_checkpoint(checkpoint, args.out / "model", dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
