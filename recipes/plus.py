"""Stage 3: a plus model with word times and speaker turns, trained from a base model.

    lithophone train plus --init lithophone-tiny --data speech/train.jsonl:en+fr+de --dev speech/dev.jsonl \\
        --dev-langs en fr de --out runs/plus

Prompts are drawn by `--mix`: raw, word times, speaker turns, keywords. Loss = cross-entropy of the reply +
`--similarity` times the distance of the time tokens' similarities to a Gaussian (`train/targets/time_tokens.py`); a
share of times in a reply's history is perturbed. Word times come from the manifest (`words`) or forced alignment, turns
from simulated conversations of clips with `speaker`, some with voice clusters in their tags
(`train/data/conversations.py`).

The encoder is frozen. The projector reads an early layer beside the last one; its new weights start at zero, so that
training starts from the base model's audio embeddings.

`OUT/model` is the model, `OUT/data.json` lists used clips, `OUT/words.json` holds the alignments.
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from lithophone.audio.features import RATE_HZ, batch_frames, log_mel_frames
from lithophone.checkpoint import Checkpoint, save_checkpoint
from lithophone.ctc.characters import raw_text
from lithophone.ctc.word_alignment import timed_words
from lithophone.data.manifest import read_entries
from lithophone.decode.options import Greedy
from lithophone.errors import OptionError
from lithophone.languages import PLUS_SOURCE_LANGUAGES
from lithophone.metrics.speakers import SpeakerCounts, wder
from lithophone.metrics.times import TimeErrors, time_errors
from lithophone.metrics.wer import score
from lithophone.model.speech import GraniteSpeech
from lithophone.text.prompts import SpeakerTurns, Transcribe, WordTimes
from lithophone.text.replies import Turn, parse_turns, parse_word_times
from lithophone.train.base_model import starting_checkpoint
from lithophone.train.data.augment import STRONG, Samples, seeded
from lithophone.train.data.clips import DecodedCorpus, TrainingClip
from lithophone.train.data.conversations import ConversationOptions, TimedSource, overlap_add, simulate_conversation
from lithophone.train.data.corpora import DATA_SYNTAX, CorpusPart, corpus_shares
from lithophone.train.data.keyword_lists import keyword_lists
from lithophone.train.data.plus_batches import TASKS, PlusBatch, PlusMix, PlusMixture
from lithophone.train.dev_clips import dev_corpora, greedy_replies, in_batches
from lithophone.train.run.arguments import (
    Data,
    add_data_arguments,
    add_init_arguments,
    add_run_arguments,
    begin,
    check_init_arguments,
    loader,
    loop_options,
    recipe_parser,
)
from lithophone.train.run.loop import Trainer
from lithophone.train.run.optim import Schedule
from lithophone.train.speaker_clusters import CLUSTERS, speaker_clusters
from lithophone.train.targets.ctc_transcripts import training_language
from lithophone.train.targets.losses import Loss
from lithophone.train.targets.plus_tags import MODEL_TYPE, plus_example, raw_words, speaker_reply, word_time_reply
from lithophone.train.targets.prompt_reply import TaskTarget, reply_loss
from lithophone.train.targets.time_tokens import Perturbation, TimeTokens, perturb_history, similarity_loss
from lithophone.transcript import Word

EARLY_SHARE = 3 / 16
"""Position of the early encoder layer: granite-speech-4.1-2b-plus concatenates layer 3 of 16 to the last one."""

LONGEST_WORD_S = 5.0
"""Longest plausible word: a clip with a longer one is used without word times."""

CONVERSATION_S = 15.0
"""Length of the conversations of dev clips."""

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}"
)

Words = tuple[Word, ...]
Known = dict[str, Words]
"""Clip name -> words."""


def plus_from(base: Checkpoint) -> Checkpoint:
    """Untrained plus model with the audio embeddings of `base`; a plus model is returned unchanged.

    Raises OptionError for a `base` with unmerged adapters.
    """
    model = base.model
    if model.config.model_type == MODEL_TYPE:
        return base
    if model.config.has_lora_adapter:
        raise OptionError(f"{base.folder} has LoRA adapters: merge them into the weights first")
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
    """A weight (D, C) padded with zeros in front to (D, width); other tensors unchanged."""
    more = sum(width) - sum(weight.shape[-1:])
    return nn.functional.pad(weight, (more, 0)) if more else weight


class PlusTask(nn.Module):
    """The model; encoder and BPE head are frozen, in evaluation mode."""

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

    def audio_embeddings(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (B, T, 160), lengths (B,) -> embeddings (B, N, H), counts (B,); gradients in the projector only."""
        weight = self.model.projector.linear.weight
        with torch.no_grad():
            encoded = self.model.encode(frames.to(weight.device, weight.dtype), lengths.to(weight.device))
        return self.model.project(encoded)

    def losses(self, batch: PlusBatch, step: int) -> Mapping[str, Loss]:
        """The perturbation of a history depends on step and reply alone, not on the batch.

        Rows beyond the model's positions are left out; `too_long`, their share, is logged only.
        """
        limit = self.model.config.text_config.max_position_embeddings
        audio, counts = self.audio_embeddings(batch.frames, batch.lengths)
        examples = [plus_example(t, self.tokenizer, n) for t, n in zip(batch.targets, counts.tolist(), strict=True)]
        fits = [len(example.prompt) + len(example.reply) <= limit for example in examples]
        kept = [i for i, fit in enumerate(fits) if fit] or list(range(len(examples)))
        examples = [examples[i] for i in kept]
        inputs = []
        for example, i in zip(examples, kept, strict=True):
            rng = seeded(step, "history", batch.targets[i].reply)
            inputs.append(example.prompt + perturb_history(example.reply, self.times, self.perturbation, rng)[:-1])
        language_model = self.model.language_model
        table = language_model.model.embed_tokens.weight
        dropped = torch.tensor(float(len(fits) - len(kept)), device=table.device)
        return {
            "reply": reply_loss(language_model, self.model.embed(inputs, audio[kept], counts[kept]), examples),
            "similarity": similarity_loss(table, self.times.scales),
            "too_long": Loss(dropped, float(len(fits))),
        }


def written_words(manifest: Path) -> dict[str, Known]:
    """Corpus and language -> clip -> timed raw words of the manifest."""
    found: dict[str, Known] = {}
    for entry in read_entries(manifest):
        if entry.words:
            found.setdefault(f"{entry.corpus or manifest.stem}:{training_language(entry.lang)}", {})[entry.name] = (
                raw_words(entry.words)
            )
    return found


@torch.inference_mode()
def find_words(model: GraniteSpeech, corpus: DecodedCorpus, known: Known) -> Known:
    """Timed words of every clip: the known ones, or a forced alignment.

    Empty where the text cannot be aligned, or a word is longer than LONGEST_WORD_S.
    """
    found = {}
    for clip in corpus.clips:
        words = known[clip.name] if clip.name in known else align_clip(model, clip, corpus.samples(clip))
        found[clip.name] = words if all(w.end_s - w.start_s <= LONGEST_WORD_S for w in words) else ()
    return found


def align_clip(model: GraniteSpeech, clip: TrainingClip, samples: Samples) -> Words:
    weight = model.projector.linear.weight
    frames = log_mel_frames(torch.from_numpy(samples))[None].to(weight.device, weight.dtype)
    log_probs = model.encode(frames).logits[0].float().log_softmax(-1).cpu().numpy()
    return timed_words(raw_text(clip.text), log_probs, len(samples) / RATE_HZ, clip.lang)


def read_words(path: Path) -> dict[str, Known]:
    """Corpus -> clip -> words from the file of `write_words`; empty without a file."""
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


def timed_sources(
    parts: Sequence[CorpusPart], words: Mapping[str, Known], alpha: float, clusters: int
) -> list[TimedSource]:
    """Corpora as sources of rows; voices are clustered over all of them."""
    shares = corpus_shares(parts, alpha)
    voices = speaker_clusters([part.corpus for part in parts], clusters)
    return [
        TimedSource(part.corpus, share, [words[part.name][clip.name] for clip in part.corpus.clips], numbers)
        for part, share, numbers in zip(parts, shares, voices, strict=True)
    ]


class PlusDevSet:
    """Dev clips, alone and in simulated conversations.

    By corpus and language: `wer` of raw transcripts; `wer_times`, `aas_ms` of replies with word times; `wer_turns`,
    `wder` of replies with speaker turns.
    """

    def __init__(
        self,
        model: GraniteSpeech,
        manifest: Path,
        langs: Sequence[str],
        clips: int,
        options: ConversationOptions,
        cache: Path,
    ) -> None:
        known = {name: words for part in written_words(manifest).values() for name, words in part.items()}
        self.sets: dict[str, TimedSource] = {}
        for name, corpus in dev_corpora(manifest, langs, clips, cache).items():
            words = find_words(model, corpus, known)
            self.sets[name] = TimedSource(corpus, 1.0, [words[clip.name] for clip in corpus.clips])
        self.options = options

    def evaluate(self, task: PlusTask) -> dict[str, float]:
        result: dict[str, float] = {}
        for name, source in self.sets.items():
            lang, clips = source.lang, source.corpus.clips
            sounds = [source.corpus.samples(clip) for clip in clips]
            texts = [raw_text(clip.text) for clip in clips]
            plain = [TaskTarget(Transcribe(punctuate=False), text) for text in texts]
            result[f"wer_{name}"] = score(list(zip(texts, self._replies(task, sounds, plain), strict=True)), lang).rate
            result |= {f"{measure}_{name}": value for measure, value in self._times(task, source, sounds).items()}
            result |= {f"{measure}_{name}": value for measure, value in self._turns(task, source).items()}
        return result

    def _times(self, task: PlusTask, source: TimedSource, sounds: Sequence[Samples]) -> dict[str, float]:
        if not source.timed:
            return {}
        targets = [TaskTarget(WordTimes(), word_time_reply(source.words[i])) for i in source.timed]
        replies = [parse_word_times(reply) for reply in self._replies(task, [sounds[i] for i in source.timed], targets)]
        errors = TimeErrors()
        for i, reply in zip(source.timed, replies, strict=True):
            errors += time_errors(source.words[i], reply.words, malformed=reply.malformed > 0)
        pairs = [
            (" ".join(w.text for w in source.words[i]), r.text) for i, r in zip(source.timed, replies, strict=True)
        ]
        return {"wer_times": score(pairs, source.lang).rate, "aas_ms": errors.aas_ms}

    def _turns(self, task: PlusTask, source: TimedSource) -> dict[str, float]:
        """As many conversations as clips, the same at every evaluation."""
        if len(source.by_speaker) < 2:
            return {}
        sounds, targets, references = [], [], []
        for number in range(len(source.corpus.clips)):
            clips, pauses_s = simulate_conversation(
                source, round(CONVERSATION_S * RATE_HZ), self.options, seeded(0, "dev", number)
            )
            sounds.append(overlap_add(clips, pauses_s)[0])
            turns = [Turn(one.speaker, raw_text(one.text)) for one in clips]
            targets.append(TaskTarget(SpeakerTurns(), speaker_reply(turns)))
            references.append(turns)
        replies = [parse_turns(reply) for reply in self._replies(task, sounds, targets)]
        pairs = [(" ".join(t.text for t in turns), r.text) for turns, r in zip(references, replies, strict=True)]
        counts = SpeakerCounts()
        for turns, reply in zip(references, replies, strict=True):
            counts += wder(list(by_speaker(turns)), list(by_speaker(reply.turns)))
        return {"wer_turns": score(pairs, source.lang).rate, "wder": counts.rate}

    def _replies(self, task: PlusTask, sounds: Sequence[Samples], targets: Sequence[TaskTarget]) -> list[str]:
        """Greedy replies of at most twice the tokens of the longest reference."""
        replies = []
        for some in in_batches(list(zip(sounds, targets, strict=True))):
            frames, lengths = batch_frames([log_mel_frames(torch.from_numpy(samples)) for samples, _ in some])
            audio, counts = task.audio_embeddings(frames, lengths)
            examples = [plus_example(t, task.tokenizer, n) for (_, t), n in zip(some, counts.tolist(), strict=True)]
            greedy = Greedy(max_new_tokens=2 * max(len(example.reply) for example in examples))
            prompts = [example.prompt for example in examples]
            replies += greedy_replies(task.model, task.tokenizer, prompts, audio, counts, greedy)
        print((targets[len(targets) // 2].reply, replies[len(replies) // 2]), flush=True)
        return replies


def by_speaker(turns: Iterable[Turn]) -> Iterable[tuple[str, str]]:
    """(word, speaker); words before the first tag have speaker `""`."""
    return ((word, turn.speaker or "") for turn in turns for word in turn.text.split())


def save_model(state: Mapping[str, Tensor], checkpoint: Checkpoint, folder: Path) -> None:
    final = GraniteSpeech(checkpoint.model.config, bpe_labels(checkpoint.model))
    final.load_state_dict({name.removeprefix("model."): tensor for name, tensor in state.items()})
    save_checkpoint(replace(checkpoint, network=final), folder, dtype=torch.bfloat16)


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = recipe_parser(__doc__)
    add_data_arguments(parser, batch_seconds=60.0, row_frames=(400, 600, 800, 1200))
    parser.add_argument("--mix", nargs="*", default=[], help=f"shares: {' '.join(TASKS)} clustered alone, as times=0.5")
    parser.add_argument("--clusters", type=int, default=CLUSTERS, help="voice clusters, named by tags in training only")
    parser.add_argument("--bend", type=float, default=Perturbation().share, help="share of perturbed times")
    parser.add_argument("--similarity", type=float, default=0.1, help="weight of the similarity loss of time tokens")
    parser.add_argument("--joins", type=int, default=4, help="most neighbouring clips in a row")
    add_init_arguments(parser)
    add_run_arguments(parser, steps=3000, lr=5e-4, seed=3)
    parser.add_argument("--warmup", type=int, default=150, help="steps over which the learning rate rises")
    parser.add_argument("--cooldown", type=int, default=1000, help="last steps, over which the learning rate falls")
    args = parser.parse_args(argv)
    check_init_arguments(parser, args)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = read_arguments(argv)
    mix = PlusMix.parse(args.mix)
    ranks = begin(args)
    checkpoint = plus_from(starting_checkpoint(args))
    model = checkpoint.model.to(ranks.device)
    sizes = {name: sum(p.numel() for p in part.parameters()) / 1e6 for name, part in model.named_children()}
    print({name: f"{size:.2f} M" for name, size in sizes.items()}, flush=True)
    data = Data.read(args, ranks)
    foreign = sorted({part.corpus.clips[0].lang for part in data.parts} - set(PLUS_SOURCE_LANGUAGES))
    if foreign:
        known = ", ".join(PLUS_SOURCE_LANGUAGES)
        raise OptionError(f"plus models have {known}, not {', '.join(foreign)}: select languages by {DATA_SYNTAX}")
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

    conversation = ConversationOptions()
    dev = PlusDevSet(model, args.dev, args.dev_langs, args.dev_clips, conversation, args.cache)
    task = PlusTask(checkpoint, Perturbation(share=args.bend))
    options = loop_options(args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks)
    trainer = Trainer(task, task.losses, {"reply": 1.0, "similarity": args.similarity, "too_long": 0.0}, options)
    trainer.resume()
    mixture = PlusMixture(
        sources,
        data.mixture_options(STRONG, trainer.batches_seen, ranks),
        mix,
        keywords=keyword_lists(data.parts),
        conversation=conversation,
        joins=args.joins,
    )
    trainer.run(loader(mixture, args.workers), lambda: dev.evaluate(task))
    state = trainer.averaged_state()
    if ranks.leads:
        save_model(state, checkpoint, args.out / "model")


if __name__ == "__main__":
    main()
