"""Stage 3: a plus model, which says when every word ends and who speaks, made of a trained base model.

    python recipes/plus.py --init lithophone-tiny --data ../shared/speech/train.jsonl:en+fr+de \\
        --dev ../shared/speech/dev.jsonl --dev-langs en fr de --out checkpoints/plus

Prompts are drawn by the shares of `--mix`: raw, word times, turns of speakers, keywords. Loss = cross-entropy of the
reply + `--similarity` times the distance of the time tokens' similarities to a Gaussian
(`train/targets/time_tokens.py`); a share of the times in a reply's own history is bent. Word times are those of the
manifest (`words`), or an alignment of the text to the characters that the encoder hears; turns come from conversations
of clips of one corpus, which needs `speaker` in the manifest, and a share of them also names the cluster of each voice
(`train/data/conversations.py`).

The encoder is held still. The projector reads an early layer beside the last one; what it knows of the last one is
kept, and the early one begins at zero, so that the first step of a run hears exactly what its base model hears.

`OUT/model` is the finished folder, `OUT/data.json` says what was trained on, `OUT/words.json` holds the alignments.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from speech import HARDER, assemble, keyword_lists
from torch import Tensor, nn

from lithophone.audio.features import RATE_HZ, batch_frames, log_mel_frames
from lithophone.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lithophone.ctc.characters import raw_text
from lithophone.ctc.word_alignment import timed_words
from lithophone.data.manifest import Entry, read_entries
from lithophone.decode.options import Greedy
from lithophone.decode.scheduler import decode_batch
from lithophone.errors import OptionError
from lithophone.hub import resolve
from lithophone.languages import PLUS_SOURCE_LANGUAGES
from lithophone.metrics.speakers import SpeakerCounts, wder
from lithophone.metrics.times import TimeErrors, time_errors
from lithophone.metrics.wer import score
from lithophone.model.speech import GraniteSpeech
from lithophone.text.prompts import SpeakerTurns, Transcribe, WordTimes
from lithophone.text.replies import Turn, parse_turns, parse_word_times
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.augment import Augment, Samples, seeded
from lithophone.train.data.batches import Clip, Corpus
from lithophone.train.data.conversations import (
    TASKS,
    PlusMix,
    TaggedBatch,
    TaggedMixture,
    Talk,
    TimedSource,
    converse,
    lay,
)
from lithophone.train.data.corpora import DATA_SYNTAX, Part, corpus_shares
from lithophone.train.run.arguments import (
    Data,
    add_data_arguments,
    add_run_arguments,
    begin,
    loader,
    loop_options,
    recipe_parser,
)
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.speaker_clusters import CLUSTERS, speaker_clusters
from lithophone.train.targets.losses import Loss
from lithophone.train.targets.plus_tags import (
    MODEL_TYPE,
    TaggedRequest,
    raw_words,
    speaker_reply,
    tagged_pair,
    word_time_reply,
)
from lithophone.train.targets.prompt_reply import Request, reply_loss
from lithophone.train.targets.time_tokens import Perturbation, TimeTokens, perturb_history, similarity_loss
from lithophone.transcript import Word

EARLY_SHARE = 3 / 16
"""Of the encoder's layers: granite-speech-4.1-2b-plus joins the third of 16 to the last one."""

LONGEST_WORD_S = 5.0
"""A clip with a longer word is badly aligned, and asked for its text alone."""

CONVERSATION_S = 15.0
"""Of those that dev clips are joined to."""

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)

Words = tuple[Word, ...]
Known = dict[str, Words]
"""Name of a clip -> its words."""


def plus_from(base: Checkpoint) -> Checkpoint:
    """A plus model that hears what `base` hears, to be trained; one that is a plus model already is given back.

    Raises OptionError where `base` has adapters that are not merged.
    """
    model = base.model
    if model.config.model_type == MODEL_TYPE:
        return base
    if model.config.has_lora_adapter:
        raise OptionError(f"{base.folder} has LoRA adapters of its own: merge them into the weights first")
    layers = model.config.encoder_config.num_layers
    encoder = replace(model.config.encoder_config, cat_hidden_layers=(max(1, round(EARLY_SHARE * layers)),))
    projector = replace(model.config.projector_config, encoder_hidden_size=encoder.output_size)
    config = replace(model.config, model_type=MODEL_TYPE, encoder_config=encoder, projector_config=projector)
    plus = GraniteSpeech(config, bpe_labels(model))
    wanted = plus.state_dict()
    known = model.state_dict()
    plus.load_state_dict({name: _widened(tensor, wanted[name].shape[-1:]) for name, tensor in known.items()})
    tokenizer = copy.copy(base.tokenizer)
    tokenizer.chat_template = CHAT_TEMPLATE
    return Checkpoint(plus.eval(), tokenizer, config, base.folder)


def bpe_labels(model: GraniteSpeech) -> int | None:
    return None if model.bpe_head is None else model.bpe_head.out_features


def _widened(weight: Tensor, width: Sequence[int]) -> Tensor:
    """A weight (D, C) as one (D, C') that reads zeros of the channels in front; any other tensor as it is."""
    more = sum(width) - sum(weight.shape[-1:])
    return nn.functional.pad(weight, (more, 0)) if more else weight


class PlusTask(nn.Module):
    """The whole model; the encoder and its head are held still, in evaluation mode."""

    def __init__(self, checkpoint: Checkpoint, perturbation: Perturbation) -> None:
        super().__init__()
        self.model = checkpoint.model
        self.tokenizer = checkpoint.tokenizer
        self.times = TimeTokens.of(self.tokenizer)
        self.perturbation = perturbation
        for part in (self.model.encoder, self.model.bpe_head):
            if part is not None:
                part.requires_grad_(False)

    def train(self, mode: bool = True) -> PlusTask:
        super().train(mode)
        self.model.encoder.eval()
        return self

    def hear(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, 160), lengths (B,) -> audio embeddings and their counts; only the projector has gradients."""
        weight = self.model.projector.linear.weight
        with torch.no_grad():
            encoded = self.model.encode(frames.to(weight.device, weight.dtype), lengths.to(weight.device))
        return self.model.project(encoded)

    def losses(self, batch: TaggedBatch) -> Mapping[str, Loss]:
        """How a history is bent depends on the step and on the reply alone, not on who else is in the batch.

        Rows beyond the model's positions teach nothing; `too_long` is their share, no loss but a figure for the log.
        """
        step, limit = int(torch.initial_seed()) % 2**31, self.model.config.text_config.max_position_embeddings
        audio, counts = self.hear(batch.frames, batch.lengths)
        pairs = [tagged_pair(a, self.tokenizer, n) for a, n in zip(batch.asked, counts.tolist(), strict=True)]
        fits = [len(pair.prompt) + len(pair.reply) <= limit for pair in pairs]
        kept = [i for i, fit in enumerate(fits) if fit] or list(range(len(pairs)))
        pairs = [pairs[i] for i in kept]
        inputs = []
        for pair, i in zip(pairs, kept, strict=True):
            rng = seeded(step, "history", batch.asked[i].request.reply)
            inputs.append(pair.prompt + perturb_history(pair.reply, self.times, self.perturbation, rng)[:-1])
        language_model = self.model.language_model
        table = language_model.model.embed_tokens.weight
        dropped = torch.tensor(float(len(fits) - len(kept)), device=table.device)
        return {
            "reply": reply_loss(language_model, self.model.embed(inputs, audio[kept], counts[kept]), pairs),
            "similarity": similarity_loss(table, self.times.scales),
            "too_long": Loss(dropped, float(len(fits))),
        }


def written_words(manifest: Path) -> dict[str, Known]:
    """Corpus, named as its part is -> clip -> the words that the manifest has times of, in the raw form."""
    found: dict[str, Known] = {}
    for entry in read_entries(manifest):
        if entry.words:
            found.setdefault(f"{entry.corpus or manifest.stem}:{entry.lang}", {})[entry.name] = raw_words(entry.words)
    return found


@torch.inference_mode()
def find_words(model: GraniteSpeech, corpus: Corpus, known: Known) -> Known:
    """Words of every clip with their times: those that are known, and else an alignment of the clip's text.

    A clip has no words here where its text cannot be aligned, or where one word would be longer than any is.
    """
    found = {}
    for clip in corpus.clips:
        words = known[clip.name] if clip.name in known else align_clip(model, clip, corpus.samples(clip))
        found[clip.name] = words if all(w.end_s - w.start_s <= LONGEST_WORD_S for w in words) else ()
    return found


def align_clip(model: GraniteSpeech, clip: Clip, samples: Samples) -> Words:
    weight = model.projector.linear.weight
    frames = log_mel_frames(torch.from_numpy(samples))[None].to(weight.device, weight.dtype)
    log_probs = model.encode(frames).logits[0].float().log_softmax(-1).cpu().numpy()
    return timed_words(raw_text(clip.text), log_probs, len(samples) / RATE_HZ, clip.lang)


def read_words(path: Path) -> dict[str, Known]:
    """Corpus -> clip -> words, as `write_words` has written them; nothing where there is no file."""
    stored = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {
        corpus: {name: tuple(Word(*word) for word in words) for name, words in clips.items()}
        for corpus, clips in stored.items()
    }


def write_words(path: Path, found: Mapping[str, Known]) -> None:
    stored = {
        corpus: {
            name: [[w.text, round(w.start_s, 3), round(w.end_s, 3)] for w in words] for name, words in clips.items()
        }
        for corpus, clips in found.items()
    }
    path.write_text(json.dumps(stored, ensure_ascii=False), encoding="utf-8")


def timed_sources(parts: Sequence[Part], words: Mapping[str, Known], alpha: float, clusters: int) -> list[TimedSource]:
    """The parts as sources of rows; voices are clustered over all of them."""
    shares = corpus_shares(parts, alpha)
    voices = speaker_clusters([part.corpus for part in parts], clusters)
    return [
        TimedSource(part.corpus, share, [words[part.name][clip.name] for clip in part.corpus.clips], numbers)
        for part, share, numbers in zip(parts, shares, voices, strict=True)
    ]


class PlusDevSet:
    """Clips that are never trained on, alone and as conversations: how text, times and speakers come back.

    By corpus and language: `wer` of a raw transcript, `wer_times` of the text between time tags and `aas_ms` of these
    tags against the reference's words, `wer_turns` of the text between speaker tags and `wder` of those.
    """

    def __init__(
        self, model: GraniteSpeech, manifest: Path, langs: Sequence[str], clips: int, talk: Talk, cache: Path
    ) -> None:
        known = {name: words for part in written_words(manifest).values() for name, words in part.items()}
        groups: dict[str, list[Entry]] = {}
        for entry in read_entries(manifest):
            if entry.lang in langs:
                groups.setdefault(f"{entry.corpus}_{entry.lang}", []).append(entry)
        self.sets: dict[str, TimedSource] = {}
        for name, entries in groups.items():
            corpus = Corpus(entries[:: max(1, len(entries) // clips)][:clips], cache)
            words = find_words(model, corpus, known)
            self.sets[name] = TimedSource(corpus, 1.0, [words[clip.name] for clip in corpus.clips])
        self.talk = talk

    def evaluate(self, task: PlusTask) -> dict[str, float]:
        result: dict[str, float] = {}
        for name, source in self.sets.items():
            lang, clips = source.lang, source.corpus.clips
            sounds = [source.corpus.samples(clip) for clip in clips]
            texts = [raw_text(clip.text) for clip in clips]
            plain = [TaggedRequest(Request(Transcribe(punctuate=False), text)) for text in texts]
            result[f"wer_{name}"] = score(list(zip(texts, self._ask(task, sounds, plain), strict=True)), lang).rate
            result |= {f"{measure}_{name}": value for measure, value in self._times(task, source, sounds).items()}
            result |= {f"{measure}_{name}": value for measure, value in self._turns(task, source).items()}
        return result

    def _times(self, task: PlusTask, source: TimedSource, sounds: Sequence[Samples]) -> dict[str, float]:
        if not source.timed:
            return {}
        asked = [TaggedRequest(Request(WordTimes(), word_time_reply(source.words[i]))) for i in source.timed]
        replies = [parse_word_times(reply) for reply in self._ask(task, [sounds[i] for i in source.timed], asked)]
        errors = TimeErrors()
        for i, reply in zip(source.timed, replies, strict=True):
            errors += time_errors(source.words[i], reply.words, malformed=reply.malformed > 0)
        pairs = [
            (" ".join(w.text for w in source.words[i]), r.text) for i, r in zip(source.timed, replies, strict=True)
        ]
        return {"wer_times": score(pairs, source.lang).rate, "aas_ms": errors.aas_ms}

    def _turns(self, task: PlusTask, source: TimedSource) -> dict[str, float]:
        """As many conversations as there are clips, always the same ones."""
        if len(source.by_speaker) < 2:
            return {}
        sounds, asked, references = [], [], []
        for number in range(len(source.corpus.clips)):
            said, pauses_s = converse(source, round(CONVERSATION_S * RATE_HZ), self.talk, seeded(0, "dev", number))
            sounds.append(lay(said, pauses_s)[0])
            turns = [Turn(one.speaker, raw_text(one.text)) for one in said]
            asked.append(TaggedRequest(Request(SpeakerTurns(), speaker_reply(turns))))
            references.append(turns)
        replies = [parse_turns(reply) for reply in self._ask(task, sounds, asked)]
        pairs = [(" ".join(t.text for t in turns), r.text) for turns, r in zip(references, replies, strict=True)]
        counts = SpeakerCounts()
        for turns, reply in zip(references, replies, strict=True):
            counts += wder(list(by_speaker(turns)), list(by_speaker(reply.turns)))
        return {"wer_turns": score(pairs, source.lang).rate, "wder": counts.rate}

    def _ask(self, task: PlusTask, sounds: Sequence[Samples], asked: Sequence[TaggedRequest]) -> list[str]:
        """What the model replies, in at most twice the tokens of the longest reference."""
        replies = []
        for at in range(0, len(sounds), 8):
            frames, lengths = batch_frames([log_mel_frames(torch.from_numpy(s)) for s in sounds[at : at + 8]])
            audio, counts = task.hear(frames, lengths)
            sizes = counts.tolist()
            pairs = [tagged_pair(a, task.tokenizer, n) for a, n in zip(asked[at : at + 8], sizes, strict=True)]
            greedy = Greedy(max_new_tokens=2 * max(len(pair.reply) for pair in pairs))
            rows = task.model.embed([pair.prompt for pair in pairs], audio, counts)
            replies += [task.tokenizer.decode(r.ids) for r in decode_batch(task.model, rows, greedy, sizes)]
        print((asked[len(asked) // 2].request.reply, replies[len(replies) // 2]), flush=True)
        return replies


def by_speaker(turns: Iterable[Turn]) -> Iterable[tuple[str, str]]:
    """Every word with its speaker; words before the first tag have a speaker of their own."""
    return ((word, turn.speaker or "") for turn in turns for word in turn.text.split())


def start(args: argparse.Namespace) -> Checkpoint:
    """The model before its first step, from a trained one or from parts."""
    if args.init:
        return plus_from(load_checkpoint(resolve(args.init)))
    tokenizer = Tokenizer.from_folder(args.tokenizer)
    model = assemble(args.encoder, args.language_model, tokenizer)
    return plus_from(Checkpoint(model.eval(), tokenizer, model.config, args.encoder))


def save_model(state: Mapping[str, Tensor], checkpoint: Checkpoint, folder: Path) -> None:
    """The averaged weights as a folder that `lithophone.load` and transformers read."""
    final = GraniteSpeech(checkpoint.model.config, bpe_labels(checkpoint.model))
    final.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()})
    save_checkpoint(replace(checkpoint, network=final), folder, dtype=torch.bfloat16)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    add_data_arguments(parser, batch_seconds=60.0, row_frames=(400, 600, 800, 1200))
    parser.add_argument("--mix", nargs="*", default=[], help=f"shares: {' '.join(TASKS)} clustered alone, as times=0.5")
    parser.add_argument("--clusters", type=int, default=CLUSTERS, help="of voices, in the tags of training alone")
    parser.add_argument("--bend", type=float, default=Perturbation().share, help="share of a history's times that is")
    parser.add_argument("--similarity", type=float, default=0.1, help="weight of the time tokens' similarities")
    parser.add_argument("--joins", type=int, default=4, help="at most so many neighbours in a row")
    parser.add_argument("--init", help="start from a trained model, by name or folder: lithophone-tiny")
    parser.add_argument("--encoder", type=Path, help="or from parts: the folder of stage 1,")
    parser.add_argument("--language-model", type=Path, help="the folder of stage 2a,")
    parser.add_argument("--tokenizer", type=Path, help="and the tokenizer of both")
    add_run_arguments(parser, steps=3000, lr=5e-4, seed=3)
    parser.add_argument("--warmup", type=int, default=150)
    parser.add_argument("--cooldown", type=int, default=1000)
    args = parser.parse_args(argv)
    parts = [args.encoder, args.language_model, args.tokenizer]
    if any(parts) if args.init else not all(parts):
        parser.error("give either --init, or all of --encoder, --language-model and --tokenizer")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = read_arguments(argv)
    mix = PlusMix.parse(args.mix)
    ranks = begin(args)
    checkpoint = start(args)
    model = checkpoint.model.to(ranks.device)
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
    print({name: f"{size:.2f} M" for name, size in sizes.items()}, flush=True)
    data = Data.read(args, ranks)
    foreign = sorted({part.corpus.clips[0].lang for part in data.parts} - set(PLUS_SOURCE_LANGUAGES))
    if foreign:
        known = ", ".join(PLUS_SOURCE_LANGUAGES)
        raise OptionError(f"a plus model knows no {', '.join(foreign)}, only {known}: name some in {DATA_SYNTAX}")
    words = read_words(args.out / "words.json")
    written = {name: known for text in args.data for name, known in written_words(Path(text.partition(":")[0])).items()}
    for part in data.parts:
        stored = words.get(part.name, {})
        words[part.name] = stored | find_words(model, part.corpus, stored | written.get(part.name, {}))
    if ranks.leads:
        write_words(args.out / "words.json", words)
    sources = timed_sources(data.parts, words, args.alpha, args.clusters)
    for part, source in zip(data.parts, sources, strict=True):
        print(f"{part.name}: {len(source.timed)} clips with word times, {len(source.by_speaker)} speakers", flush=True)

    talk = Talk()
    dev = PlusDevSet(model, args.dev, args.dev_langs, args.dev_clips, talk, args.cache)
    task = PlusTask(checkpoint, Perturbation(share=args.bend))
    options = loop_options(args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks)
    trainer = Trainer(task, task.losses, {"reply": 1.0, "similarity": args.similarity, "too_long": 0.0}, options)
    trainer.resume()
    mixture = TaggedMixture(
        sources,
        mix,
        seconds=args.batch_seconds,
        row_frames=args.row_frames,
        augment=Augment.none() if args.plain else HARDER,
        seed=args.seed,
        keywords=keyword_lists(data.parts),
        talk=talk,
        joins=args.joins,
        start=trainer.batches_seen,
        rank=ranks.rank,
        world=ranks.world,
    )
    trainer.run(loader(mixture, args.workers), lambda: dev.evaluate(task))
    state = trainer.averaged_state()
    if ranks.leads:
        save_model(state, checkpoint, args.out / "model")


if __name__ == "__main__":
    main()
