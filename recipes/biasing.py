"""Contextual biasing: train a base or plus model to use keyword lists in its prompt.

    lithophone train biasing --init lithophone-tiny --data speech/train.jsonl:en --dev speech/dev.jsonl \\
        --out runs/biasing

Most prompts (`--mix`) have a list of rare words of the text and distractors, some with cues: common words that sound
partly like the keyword. Loss = cross-entropy of the reply + 0.1 CTC of a tagger of keyword positions, over audio
embeddings and the language model's states of the list, dropped after training. The encoder is frozen.

Dev clips have lists of all their rare words and `--distractors` others: B-WER on listed words and U-WER on all others,
without lists, with lists, with cues. `OUT/model` is the model, `OUT/report.json` has the error rates before and after,
`OUT/common-LANG.txt` the common words for cues.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lithophone.audio.features import log_mel_frames
from lithophone.checkpoint import Checkpoint, save_checkpoint
from lithophone.data.manifest import read_entries
from lithophone.languages import UNSPACED_LANGUAGES
from lithophone.metrics.keywords import BiasedCounts, biased_counts
from lithophone.model.granite import pad_rows
from lithophone.model.lora import LoraConfig
from lithophone.text.prompts import Transcribe
from lithophone.train.data.augment import STRONG, seeded
from lithophone.train.data.batches import SpeechBatch
from lithophone.train.data.clips import DecodedCorpus
from lithophone.train.data.keyword_lists import KeywordLists, keyword_lists
from lithophone.train.dev_clips import DevClip, in_batches
from lithophone.train.finetune import TrainableParts, make_trainable
from lithophone.train.finetune_task import FineTuneTask, read_model, suited
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
from lithophone.train.targets.biasing import Cues, PositionTagger, tagged, tagger_loss, with_cues
from lithophone.train.targets.ctc_transcripts import training_language
from lithophone.train.targets.losses import Loss
from lithophone.train.targets.prompt_reply import TaskMix, TaskTarget, draw_target, loss_of_states, make_example

WEIGHTS = {"reply": 1.0, "tags": 0.1}
MIX = ("raw=0.15", "punctuated=0.15", "keywords=0.7")
CUE_SHARE = 0.5


class BiasingTask(FineTuneTask):
    """The model and the tagger; the encoder is frozen."""

    def __init__(
        self, checkpoint: Checkpoint, mix: TaskMix, keywords: Mapping[str, KeywordLists], cues: Mapping[str, Cues]
    ) -> None:
        super().__init__(checkpoint, mix, keywords)
        self.cues = cues
        self.tagger = PositionTagger(self.config.text_config.hidden_size)

    def losses(self, batch: SpeechBatch, step: int) -> Mapping[str, Loss]:
        rng = seeded(0, "tasks", step)
        audio, counts = self.audio_embeddings(batch.frames, batch.lengths, self.conditioning(batch, rng))
        sources = batch.sources
        drawn = [draw_target(source, self.mix, rng, self.keywords) for source in sources]
        cued = [self._cued(target, source.lang, rng) for target, source in zip(drawn, sources, strict=True)]
        examples = [
            make_example(target, self.tokenizer, self.config.variant, count)
            for target, count in zip(cued, counts.tolist(), strict=True)
        ]
        inputs, _ = pad_rows(self.model.embed([e.prompt + e.reply[:-1] for e in examples], audio, counts))
        hidden = self.model.language_model(inputs)
        listed = [i for i, target in enumerate(drawn) if target.task.keywords and sources[i].lang in self.cues]
        slot = self.tokenizer.audio_id
        behind = [len(example.prompt) - example.prompt[::-1].index(slot) for example in examples]
        return {
            "reply": loss_of_states(self.model.language_model, hidden, examples),
            "tags": tagger_loss(
                self.tagger,
                [audio[i, : counts[i]] for i in listed],
                [hidden[i, behind[i] : len(examples[i].prompt)] for i in listed],
                [tagged(sources[i].text, drawn[i].task.keywords) for i in listed],
            ),
        }

    def _cued(self, target: TaskTarget, lang: str, rng: np.random.Generator) -> TaskTarget:
        task = target.task
        if not task.keywords or lang not in self.cues or rng.random() >= CUE_SHARE:
            return target
        return TaskTarget(replace(task, keywords=with_cues(task.keywords, self.cues[lang])), target.reply)


class KeywordDevSet:
    """Dev clips with rare words, each with a list of these and distractors."""

    def __init__(self, manifest: Path, langs: Sequence[str], clips: int, distractors: int, cache: Path) -> None:
        entries = read_entries(manifest)
        found: list[DevClip] = []
        for lang in langs:
            corpus = DecodedCorpus([e for e in entries if training_language(e.lang) == lang], cache)
            lists = KeywordLists([clip.text for clip in corpus.clips], lang)
            rare = [clip for clip in corpus.clips if lists.rare(clip.text)]
            for clip in rare[:: max(1, len(rare) // clips)][:clips]:
                frames = log_mel_frames(torch.from_numpy(corpus.samples(clip)))
                words = listed_words(clip.text, clip.name, lists, distractors)
                found.append(DevClip(frames, clip.text, clip.lang, words))
        self.clips = sorted(found, key=lambda clip: len(clip.frames))

    def evaluate(self, task: BiasingTask) -> dict[str, float]:
        """`bwer` and `uwer` without lists, `_list` with them, `_cues` with cues too."""
        result = {}
        for kind in ("", "_list", "_cues"):
            counts = BiasedCounts()
            for clips in in_batches(self.clips):
                tasks = [Transcribe(False, self._keywords(task, clip, kind)) for clip in clips]
                for clip, reply in zip(clips, task.replies(clips, tasks), strict=True):
                    counts += biased_counts(clip.text, reply, clip.keywords, clip.lang)
            result |= {f"bwer{kind}": counts.biased.rate, f"uwer{kind}": counts.unbiased.rate}
        return result

    def _keywords(self, task: BiasingTask, clip: DevClip, kind: str) -> tuple[str, ...]:
        if kind == "_cues":
            return with_cues(clip.keywords, task.cues[clip.lang])
        return clip.keywords if kind else ()


def listed_words(text: str, name: str, lists: KeywordLists, distractors: int) -> tuple[str, ...]:
    """Rare words of a text and `distractors` others, in an order seeded by the clip's name."""
    own, rng = lists.rare(text), seeded(0, name)
    others = [word for word in lists.pool if word.lower() not in text.lower()]
    picked = rng.choice(others, min(distractors, len(others)), replace=False).tolist() if others else []
    return tuple(rng.permutation([*own, *picked]).tolist())


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--init", required=True, help="model to start from, by name or folder")
    add_data_arguments(parser, batch_seconds=60.0)
    parser.add_argument("--mix", nargs="*", default=list(MIX), help=TaskMix.SYNTAX)
    parser.add_argument("--largest-list", type=int, default=50, help="most keywords in a training list")
    parser.add_argument("--distractors", type=int, default=20, help="distractors in the lists of dev clips")
    add_run_arguments(parser, steps=1000, lr=3e-4, seed=6)
    parser.add_argument("--warmup", type=int, default=50, help="steps over which the learning rate rises")
    parser.add_argument("--cooldown", type=int, default=300, help="last steps, over which the learning rate falls")
    args = parser.parse_args(argv)

    ranks = begin(args)
    checkpoint = read_model(args.init)
    make_trainable(checkpoint.model, TrainableParts.parse(["projector", "language-model"]), LoraConfig())
    data = Data.read(args, ranks)
    lists = keyword_lists(data.parts, args.largest_list)
    cues = {lang: Cues(known.common) for lang, known in lists.items() if lang not in UNSPACED_LANGUAGES}
    task = BiasingTask(checkpoint, suited(TaskMix.parse(args.mix), checkpoint.model.config), lists, cues)
    options = loop_options(args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks)
    trainer = Trainer(task, task.losses, WEIGHTS, options)
    spaced = [lang for lang in map(training_language, args.dev_langs) if lang in cues]
    dev = KeywordDevSet(args.dev, spaced, args.dev_clips, args.distractors, args.cache)
    if not trainer.resume():
        trainer.record(trainer.with_average(lambda: dev.evaluate(task)), "dev")
    trainer.run(data.batches(STRONG, trainer.batches_seen, ranks), lambda: dev.evaluate(task))
    state = trainer.averaged_state()
    if ranks.leads:
        finish(args.out, args.init, state, cues)


def finish(folder: Path, init: str, state: Mapping[str, Tensor], cues: Mapping[str, Cues]) -> None:
    """Write the model without tagger, the common words, and the report."""
    final = read_model(init)
    final.model.load_state_dict({n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")})
    save_checkpoint(final, folder / "model", dtype=torch.bfloat16)
    for lang, known in cues.items():
        (folder / f"common-{lang}.txt").write_text("".join(f"{word}\n" for word in known.words), encoding="utf-8")
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    evaluations = [{name: row[name] for name in row if "wer" in name} for row in rows if "bwer" in row]
    report = {"before": evaluations[0], "after": evaluations[-1]}
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
