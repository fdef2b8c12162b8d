"""Stage 2b: projector and language model are trained on prompts, behind the frozen encoder.

    lithophone train speech --data speech/train.jsonl --dev speech/dev.jsonl --tokenizer runs/tokenizer \\
        --encoder runs/encoder --language-model runs/language_model --out runs/speech

Prompts are drawn by `--mix`: raw, punctuated, with keywords, and the manifest's translations, some with the transcript
first. Loss = cross-entropy of the reply + `--projector-ctc` * CTC over the projector's output, with the language
model's embeddings as output layer and its padding token as blank: it aligns a new projector with the token sequences of
stage 2a. A projector of the recipe `transplant_decoder` is aligned; 0 leaves the loss out.

With `--whisper`, the decoder of the Whisper model that the encoder came from reads the same states, and what it expects
behind each prefix of a transcript is taught as well. Such a language model leaves audio embeddings as they are: with
`--constant-audio` they are not computed layer by layer, which makes a step about twice as fast. `--keep-zeros` keeps
what it has of Whisper's structure: heads see what Whisper's see, and int8 files leave out rows of zeros.
`--keep-embeddings` leaves its embeddings as they are. AdamW moves every row at every step, those of words that are
never said as far as the others: they lose what Whisper knew of them (`docs/experiments.md`).

The encoder takes most of the time. With `--repeated N` the states of the first N batches of a rank are kept in memory
(54 kB a second of audio at 544 channels), and used again in another order, with other prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn

from lithophone.audio.features import FRAME_S, batch_frames
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.ctc.language_conditioning import language_bias
from lithophone.decode.options import BeamSearch
from lithophone.hub import resolve
from lithophone.model.speech import GraniteSpeech
from lithophone.text.prompts import Transcribe, build_prompt
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.base_model import PROJECTOR_SIZE, assemble
from lithophone.train.data.augment import STRONG, seeded
from lithophone.train.data.batches import SpeechBatch, SpeechMixture
from lithophone.train.data.corpora import as_sources
from lithophone.train.data.keyword_lists import KeywordLists, keyword_lists
from lithophone.train.dev_clips import DevClip, dev_clips, dev_corpora, error_rates, greedy_replies, in_batches
from lithophone.train.run.arguments import (
    Data,
    add_data_arguments,
    add_run_arguments,
    begin,
    loop_options,
    recipe_parser,
)
from lithophone.train.run.distributed import Ranks
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.targets.ctc_transcripts import FOREIGN_PENALTY, conditioning_languages, ctc_transcript
from lithophone.train.targets.losses import Loss, ctc
from lithophone.train.targets.prompt_reply import (
    Example,
    SourceText,
    TaskMix,
    draw_target,
    loss_of_logits,
    make_example,
    reply_logits,
)
from lithophone.train.transplant import constant_audio
from lithophone.train.transplant.reading import Reading, ReadingTeacher, SoftTargets
from lithophone.train.transplant.whisper_decoder import DecoderInput, TextTeacher

MODEL_TYPE = "granite_speech"
PARTS = ("projector", "language_model")
PROJECTOR_CTC = 0.3
"""Weight of CTC over the projector's output."""

BEAMS = BeamSearch(num_beams=4, ctc_weight=0.5, keyword_boost=0.5, future_cost=0.8)
"""Default decoding of the model: at this size CTC scores improve on the language model's own."""


def start_from(model: GraniteSpeech, name: str, parts: Sequence[str]) -> None:
    """Copy these of PARTS from a model of the same sizes and tokenizer."""
    trained = load_checkpoint(resolve(name)).model
    for part in parts:
        model.get_submodule(part).load_state_dict(trained.get_submodule(part).state_dict())


def keep_zero_weights(module: nn.Module) -> None:
    """Weights of matrices that are zero get no gradient."""
    for parameter in module.parameters():
        zero = parameter.detach() == 0.0
        if parameter.requires_grad and parameter.ndim > 1 and zero.any():
            parameter.register_hook(lambda gradient, zero=zero: gradient.masked_fill(zero.to(gradient.device), 0.0))


@dataclass(frozen=True)
class EncodedBatch:
    """B rows behind the encoder: states (B, T, D), lengths (B,) of valid frames."""

    states: Tensor
    lengths: Tensor
    sources: list[SourceText]
    readings: list[Reading | None]
    """Of Whisper's decoder, None without."""

    @property
    def seconds(self) -> float:
        return float(self.lengths.sum()) * FRAME_S

    def to(self, device: torch.device | str) -> EncodedBatch:
        return replace(self, states=self.states.to(device), lengths=self.lengths.to(device))


class RepeatedBatches:
    """Batches by number, from `start` on, of which only the first `distinct` are made; they are kept.

    Each time around their order is another one.
    """

    def __init__(self, make: Callable[[int], EncodedBatch], distinct: int, start: int, seed: int) -> None:
        self.make, self.distinct, self.start, self.seed = make, distinct, start, seed
        self.kept: dict[int, EncodedBatch] = {}

    def __iter__(self) -> Iterator[EncodedBatch]:
        for step in count(self.start):
            number = self.number(step)
            if number not in self.kept:
                self.kept[number] = self.make(number)
            yield self.kept[number]

    def number(self, step: int) -> int:
        """The batch of a step."""
        turn, place = divmod(step, self.distinct)
        order = seeded(self.seed, "repeats", turn).permutation(self.distinct)
        return int(order[place]) if turn else place


class SpeechTask(nn.Module):
    """The model; encoder and BPE head are frozen, in evaluation mode."""

    def __init__(
        self,
        model: GraniteSpeech,
        tokenizer: Tokenizer,
        mix: TaskMix,
        keywords: Mapping[str, KeywordLists],
        projector_ctc: float = PROJECTOR_CTC,
        teacher: ReadingTeacher | None = None,
        *,
        constant_audio: bool = False,
        keep_zeros: bool = False,
        keep_embeddings: bool = False,
    ) -> None:
        super().__init__()
        self.teacher, self.constant_audio = teacher, constant_audio
        extra = {"ctc": projector_ctc, "teacher_reply": float(teacher is not None)}
        self.weights = {"reply": 1.0} | {name: weight for name, weight in extra.items() if weight}
        self.model = model
        self.tokenizer = tokenizer
        self.mix = mix
        self.keywords = keywords
        self.temperature = nn.Parameter(torch.tensor([4.0]))
        for part in (model.encoder, model.bpe_head):
            part.requires_grad_(False)
        if keep_embeddings:
            model.language_model.model.embed_tokens.requires_grad_(False)
        if keep_zeros:
            keep_zero_weights(model.language_model)

    def train(self, mode: bool = True) -> SpeechTask:
        super().train(mode)
        self.model.encoder.eval()
        return self

    @torch.no_grad()
    def encoded(self, batch: SpeechBatch, number: int) -> EncodedBatch:
        """Behind the encoder; the number of the batch decides which rows are conditioned on their language."""
        weight = self.model.projector.linear.weight
        batch = batch.to(weight.device)
        langs = conditioning_languages(batch.texts, batch.langs, seeded(0, "told", number))
        language = language_bias(langs, FOREIGN_PENALTY, with_ids=True)
        output = self.model.encode(batch.frames.to(weight.dtype), batch.lengths, language)
        readings: list[Reading | None] = [None] * len(batch.sources)
        if self.teacher is not None:
            valid = torch.arange(output.last.shape[1], device=weight.device) < batch.lengths[:, None]
            readings = self.teacher.to(weight.device).read(output.last, valid, batch.texts, batch.langs)
        return EncodedBatch(output.states, batch.lengths, batch.sources, readings)

    def losses(self, batch: EncodedBatch, step: int) -> Mapping[str, Loss]:
        rng = seeded(0, "tasks", step)
        audio, counts = self.model.projector(batch.states, batch.lengths)
        targets = [draw_target(source, self.mix, rng, self.keywords) for source in batch.sources]
        examples = [
            make_example(target, self.tokenizer, MODEL_TYPE, count)
            for target, count in zip(targets, counts.tolist(), strict=True)
        ]
        rows = self.model.embed([e.prompt + e.reply[:-1] for e in examples], audio, counts)
        soft = [
            self.teacher.taught(reading, target.reply, example.reply) if self.teacher else None
            for reading, target, example in zip(batch.readings, targets, examples, strict=True)
        ]
        found = taught_losses(self._reply_logits(rows, examples), examples, soft)
        if "ctc" in self.weights:
            found["ctc"] = self._projector_ctc(audio, counts, batch.sources)
        return found

    def _reply_logits(self, rows: list[Tensor], examples: list[Example]) -> Iterable[tuple[list[int], Tensor]]:
        if self.constant_audio:
            return constant_audio.reply_logits(
                self.model.language_model, rows, examples, self.model.config.audio_token_index
            )
        return reply_logits(self.model.language_model, rows, examples)

    def _projector_ctc(self, audio: Tensor, counts: Tensor, sources: Sequence[SourceText]) -> Loss:
        table = self.model.language_model.model.embed_tokens.weight
        tokens = [self.tokenizer.encode(ctc_transcript(source.text, source.lang)) for source in sources]
        normed = nn.functional.layer_norm(audio.float(), audio.shape[-1:]).to(table.dtype)
        return ctc(normed @ table.T * self.temperature, counts, tokens, blank=self.tokenizer.pad_id)


def taught_losses(
    groups: Iterable[tuple[list[int], Tensor]], examples: Sequence[Example], soft: Sequence[SoftTargets | None]
) -> dict[str, Loss]:
    """`reply`: cross-entropy of the replies; `teacher_reply`: divergence from the soft targets, if there are any.

    `groups`: of examples, with the logits (n, V) of their replies.
    """
    losses: dict[str, list[Loss]] = {"reply": [], "teacher_reply": []}
    for group, logits in groups:
        chosen = [examples[i] for i in group]
        losses["reply"].append(loss_of_logits(logits, chosen))
        replies = logits.split([len(example.reply) for example in chosen])
        taught = [(soft[i], reply) for i, reply in zip(group, replies, strict=True)]
        losses["teacher_reply"] += [targets.divergence(reply) for targets, reply in taught if targets is not None]
    return {
        name: Loss(torch.stack([loss.total for loss in some]).sum(), sum(loss.count for loss in some))
        for name, some in losses.items()
        if some
    }


class ReplyDevSet:
    """Error rates of greedy replies on dev clips, with the encoder conditioned on their language."""

    def __init__(self, manifest: Path, langs: Sequence[str], clips: int, cache: Path) -> None:
        self.sets = {name: dev_clips(corpus) for name, corpus in dev_corpora(manifest, langs, clips, cache).items()}

    def evaluate(self, task: SpeechTask) -> dict[str, float]:
        """`wer_<corpus>_<lang>` and `cer_...`; Japanese by its kana, as the encoder is measured."""
        result = {}
        for name, clips in self.sets.items():
            pairs = [pair for some in in_batches(clips) for pair in self._replies(task, some)]
            result |= error_rates(pairs, clips[0].lang, name)
            print(pairs[len(pairs) // 2], flush=True)
        return result

    def _replies(self, task: SpeechTask, clips: Sequence[DevClip]) -> list[tuple[str, str]]:
        model = task.model
        weight = model.projector.linear.weight
        frames, lengths = batch_frames([clip.frames for clip in clips])
        language = language_bias([clip.lang for clip in clips], FOREIGN_PENALTY, with_ids=True)
        encoded = model.encode(frames.to(weight.device, weight.dtype), lengths.to(weight.device), language)
        audio, counts = model.project(encoded)
        prompts = [build_prompt(Transcribe(punctuate=False), task.tokenizer, MODEL_TYPE, n) for n in counts.tolist()]
        replies = greedy_replies(model, task.tokenizer, prompts, audio, counts)
        if clips[0].lang == "ja":
            return [
                (ctc_transcript(c.text, "ja"), ctc_transcript(r, "ja")) for c, r in zip(clips, replies, strict=True)
            ]
        return [(clip.text, reply) for clip, reply in zip(clips, replies, strict=True)]


def encoded_batches(task: SpeechTask, data: Data, start: int, ranks: Ranks, repeated: int) -> Iterable[EncodedBatch]:
    """Batches from number `start` on; with `repeated`, the first so many in turn."""

    def encoded(batch: SpeechBatch, number: int) -> EncodedBatch:
        return task.encoded(batch, number * ranks.world + ranks.rank)

    if not repeated:
        return (encoded(batch, start + n) for n, batch in enumerate(data.batches(STRONG, start, ranks)))
    mixture = SpeechMixture(as_sources(data.parts, data.alpha), data.mixture_options(STRONG, 0, ranks))
    return RepeatedBatches(lambda number: encoded(mixture.batch(number), number), repeated, start, data.seed)


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    add_data_arguments(parser, batch_seconds=60.0)
    parser.add_argument("--mix", nargs="*", default=[], help=TaskMix.SYNTAX)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder of the tokenizer")
    parser.add_argument("--encoder", type=Path, required=True, help="folder of the encoder of stage 1")
    parser.add_argument("--language-model", type=Path, required=True, help="folder of the language model of stage 2a")
    parser.add_argument("--init", help="take --init-parts from a trained model, by name or folder")
    parser.add_argument("--init-parts", nargs="+", choices=PARTS, default=PARTS, help="parts taken from --init")
    add_run_arguments(parser, steps=3000, lr=1e-3, seed=2)
    parser.add_argument("--warmup", type=int, default=150, help="steps over which the learning rate rises")
    parser.add_argument("--cooldown", type=int, default=1000, help="last steps, over which the learning rate falls")
    parser.add_argument("--projector-size", type=int, default=PROJECTOR_SIZE, help="channels of a new projector")
    parser.add_argument("--whisper", type=Path, help="folder of the Whisper model that --encoder came from; it teaches")
    parser.add_argument(
        "--projector-ctc", type=float, default=PROJECTOR_CTC, help="weight of CTC over the projector's output"
    )
    parser.add_argument(
        "--constant-audio", action="store_true", help="for language models of transplant_decoder: faster steps"
    )
    parser.add_argument(
        "--keep-zeros", action="store_true", help="weights of the language model that are zero stay zero"
    )
    parser.add_argument(
        "--keep-embeddings", action="store_true", help="embeddings of the language model are not trained"
    )
    parser.add_argument(
        "--mlp-factor", type=float, default=1.0, help="of the learning rate, for MLPs of the language model"
    )
    parser.add_argument("--repeated", type=int, default=0, help="batches that are encoded once (0: each batch is new)")
    args = parser.parse_args(argv)

    ranks = begin(args)
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    model = assemble(args.encoder, args.language_model, tokenizer, args.projector_size)
    if args.init:
        start_from(model, args.init, args.init_parts)
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
    print({name: f"{size:.2f} M" for name, size in sizes.items()}, flush=True)
    data = Data.read(args, ranks)
    teacher = None
    if args.whisper is not None:
        to_decoder = DecoderInput.from_folders(args.whisper, args.encoder)
        teacher = ReadingTeacher(TextTeacher.from_folder(args.whisper), to_decoder, tokenizer)
    mix, keywords = TaskMix.parse(args.mix), keyword_lists(data.parts)
    task = SpeechTask(
        model,
        tokenizer,
        mix,
        keywords,
        args.projector_ctc,
        teacher,
        constant_audio=args.constant_audio,
        keep_zeros=args.keep_zeros,
        keep_embeddings=args.keep_embeddings,
    )
    layers = range(model.config.text_config.num_hidden_layers)
    factors = {f"model.language_model.model.layers.{n}.mlp.": args.mlp_factor for n in layers}
    schedule = Schedule(args.lr, args.steps, args.warmup, args.cooldown)
    options = replace(loop_options(args, schedule, ranks), factors=factors)
    trainer = Trainer(task, task.losses, task.weights, options)
    trainer.resume()
    dev = ReplyDevSet(args.dev, args.dev_langs, args.dev_clips, args.cache)
    batches = encoded_batches(task, data, trainer.batches_seen, ranks, args.repeated)
    trainer.run(batches, lambda: dev.evaluate(task))

    averaged = {n.removeprefix("model."): t for n, t in trainer.averaged_state().items() if n.startswith("model.")}
    if not ranks.leads:
        return
    final = GraniteSpeech(model.config, bpe_labels=len(tokenizer) + 1)
    final.load_state_dict(averaged)
    checkpoint = Checkpoint(final, tokenizer, model.config, args.out, BEAMS, FOREIGN_PENALTY, language_ids=True)
    save_checkpoint(checkpoint, args.out / "model", dtype=torch.bfloat16)


if __name__ == "__main__":
    main()
