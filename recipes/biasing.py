"""Contextual biasing: a trained base or plus model learns to heed keyword lists better.

    python recipes/biasing.py --init lithophone-tiny --data ../shared/speech/train.jsonl:en \\
        --dev ../shared/speech/dev.jsonl --out checkpoints/biasing

Most prompts carry a list (`--mix`), of rare words of the text and distractors, a share of the lists with cues: common
words that sound partly like the keyword. Loss = cross-entropy of the reply + 0.1 CTC of a tagger that tells, from audio
embeddings and the language model's states over the list, where words of the list are spoken; it is dropped afterwards.
The encoder is held still, projector and language model learn.

Measured on the dev clips with lists of all their rare words and `--distractors` others: B-WER on the words of the list,
U-WER on all others, without lists, with lists, and with cues. `OUT/model` is the finished folder, `OUT/report.json` has
the errors before and after, `OUT/common-LANG.txt` the common words that cues are taken from.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from finetune import FineTuneTask, read_model, suited
from speech import HARDER, keyword_lists
from torch import Tensor

from lithophone.audio.features import batch_frames, log_mel_frames
from lithophone.checkpoint import Checkpoint, save_checkpoint
from lithophone.data.manifest import read_entries
from lithophone.decode.options import Greedy
from lithophone.decode.scheduler import decode_batch
from lithophone.languages import UNSPACED_LANGUAGES
from lithophone.metrics.keywords import BiasedCounts, biased_counts
from lithophone.model.granite import pad_rows
from lithophone.model.lora import LoraConfig
from lithophone.text.prompts import Transcribe, build_prompt
from lithophone.train.data.augment import seeded
from lithophone.train.data.batches import Batch, Corpus
from lithophone.train.data.keyword_lists import KeywordLists
from lithophone.train.finetune import Parts, open_parts
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
from lithophone.train.targets.losses import Loss
from lithophone.train.targets.prompt_reply import Request, Said, TaskMix, draw_request, loss_of_states, make_pair

WEIGHTS = {"reply": 1.0, "tags": 0.1}
MIX = ("raw=0.15", "punctuated=0.15", "keywords=0.7")
CUE_SHARE = 0.5


class BiasingTask(FineTuneTask):
    """The whole model and the tagger; the encoder is held still."""

    def __init__(
        self, checkpoint: Checkpoint, mix: TaskMix, keywords: Mapping[str, KeywordLists], cues: Mapping[str, Cues]
    ) -> None:
        super().__init__(checkpoint, mix, keywords)
        self.cues = cues
        self.tagger = PositionTagger(self.config.text_config.hidden_size)

    def losses(self, batch: Batch) -> Mapping[str, Loss]:
        rng = seeded(0, "tasks", int(torch.initial_seed()) % 2**31)
        audio, counts = self.hear(batch.frames, batch.lengths, self.languages_told(batch, rng))
        said = [Said(*known) for known in zip(batch.texts, batch.langs, batch.translations, strict=True)]
        drawn = [draw_request(one, self.mix, rng, self.keywords) for one in said]
        asked = [self._cued(request, one.lang, rng) for request, one in zip(drawn, said, strict=True)]
        pairs = [
            make_pair(request, self.tokenizer, self.config.variant, count)
            for request, count in zip(asked, counts.tolist(), strict=True)
        ]
        inputs, _ = pad_rows(self.model.embed([pair.prompt + pair.reply[:-1] for pair in pairs], audio, counts))
        hidden = self.model.language_model(inputs)
        listed = [i for i, request in enumerate(drawn) if request.task.keywords and said[i].lang in self.cues]
        slot = self.tokenizer.audio_id
        behind = [len(pair.prompt) - pair.prompt[::-1].index(slot) for pair in pairs]
        return {
            "reply": loss_of_states(self.model.language_model, hidden, pairs),
            "tags": tagger_loss(
                self.tagger,
                [audio[i, : counts[i]] for i in listed],
                [hidden[i, behind[i] : len(pairs[i].prompt)] for i in listed],
                [tagged(said[i].text, drawn[i].task.keywords) for i in listed],
            ),
        }

    def _cued(self, request: Request, lang: str, rng: np.random.Generator) -> Request:
        task = request.task
        if not task.keywords or lang not in self.cues or rng.random() >= CUE_SHARE:
            return request
        return Request(dataclasses.replace(task, keywords=with_cues(task.keywords, self.cues[lang])), request.reply)


@dataclass(frozen=True)
class ListedClip:
    """A dev clip with its list."""

    frames: Tensor
    text: str
    lang: str
    keywords: tuple[str, ...]


class ListedDevSet:
    """Dev clips that have rare words, each with all of these and the same number of distractors."""

    def __init__(self, manifest: Path, langs: Sequence[str], clips: int, distractors: int, cache: Path) -> None:
        self.clips: list[ListedClip] = []
        for lang in langs:
            corpus = Corpus(read_entries(manifest, lang), cache)
            lists = KeywordLists([clip.text for clip in corpus.clips], lang)
            rare = [clip for clip in corpus.clips if lists.rare(clip.text)]
            for clip in rare[:: max(1, len(rare) // clips)][:clips]:
                own = lists.rare(clip.text)
                others = [word for word in lists.pool if word.lower() not in clip.text.lower()]
                chance = seeded(0, clip.name)
                picked = chance.choice(others, min(distractors, len(others)), replace=False).tolist() if others else []
                words = chance.permutation([*own, *picked]).tolist()
                frames = log_mel_frames(torch.from_numpy(corpus.samples(clip)))
                self.clips.append(ListedClip(frames, clip.text, lang, tuple(words)))
        self.clips.sort(key=lambda clip: len(clip.frames))

    def evaluate(self, task: BiasingTask) -> dict[str, float]:
        """`bwer` and `uwer` without lists, `_list` with them, `_cues` with cues as well."""
        result = {}
        for kind in ("", "_list", "_cues"):
            counts = BiasedCounts()
            for start in range(0, len(self.clips), 8):
                some = self.clips[start : start + 8]
                for clip, reply in zip(some, self._replies(task, some, kind), strict=True):
                    counts += biased_counts(clip.text, reply, clip.keywords, clip.lang)
            result |= {f"bwer{kind}": counts.biased.rate, f"uwer{kind}": counts.unbiased.rate}
        return result

    def _replies(self, task: BiasingTask, clips: Sequence[ListedClip], kind: str) -> list[str]:
        audio, counts = task.hear(*batch_frames([clip.frames for clip in clips]), [clip.lang for clip in clips])
        sizes = counts.tolist()
        words = [() if not kind else clip.keywords for clip in clips]
        if kind == "_cues":
            words = [with_cues(w, task.cues[clip.lang]) for w, clip in zip(words, clips, strict=True)]
        prompts = [
            build_prompt(Transcribe(False, tuple(w)), task.tokenizer, task.config.variant, n)
            for w, n in zip(words, sizes, strict=True)
        ]
        replies = decode_batch(task.model, task.model.embed(prompts, audio, counts), Greedy(), sizes)
        return [task.tokenizer.decode(reply.ids) for reply in replies]


def main(argv: Sequence[str] | None = None) -> None:
    parser = recipe_parser(__doc__)
    parser.add_argument("--init", required=True, help="the model to begin with, by name or folder")
    add_data_arguments(parser, batch_seconds=60.0)
    parser.add_argument("--mix", nargs="*", default=list(MIX), help=TaskMix.SYNTAX)
    parser.add_argument("--largest-list", type=int, default=50, help="keywords in a list of training, at most")
    parser.add_argument("--distractors", type=int, default=20, help="in the lists of dev clips")
    add_run_arguments(parser, steps=1000, lr=3e-4, seed=6)
    parser.add_argument("--warmup", type=int, default=50)
    parser.add_argument("--cooldown", type=int, default=300)
    args = parser.parse_args(argv)

    ranks = begin(args)
    checkpoint = read_model(args.init)
    open_parts(checkpoint.model, Parts.parse(["projector", "language-model"]), LoraConfig())
    data = Data.read(args, ranks)
    lists = keyword_lists(data.parts, args.largest_list)
    cues = {lang: Cues(known.common) for lang, known in lists.items() if lang not in UNSPACED_LANGUAGES}
    task = BiasingTask(checkpoint, suited(TaskMix.parse(args.mix), checkpoint.model.config), lists, cues)
    options = loop_options(args, Schedule(args.lr, args.steps, args.warmup, args.cooldown), ranks)
    trainer = Trainer(task, task.losses, WEIGHTS, options)
    spaced = [lang for lang in args.dev_langs if lang in cues]
    dev = ListedDevSet(args.dev, spaced, args.dev_clips, args.distractors, args.cache)
    if not trainer.resume():
        trainer.record(trainer.with_average(lambda: dev.evaluate(task)), "dev")
    trainer.run(data.batches(HARDER, trainer.batches_seen, ranks), lambda: dev.evaluate(task))
    state = trainer.averaged_state()
    if ranks.leads:
        finish(args.out, args.init, state, cues)


def finish(folder: Path, init: str, state: Mapping[str, Tensor], cues: Mapping[str, Cues]) -> None:
    """Write the model without its tagger, the common words, and what was won."""
    final = read_model(init)
    final.model.load_state_dict({n.removeprefix("model."): t for n, t in state.items() if n.startswith("model.")})
    save_checkpoint(final, folder / "model", dtype=torch.bfloat16)
    for lang, known in cues.items():
        (folder / f"common-{lang}.txt").write_text("".join(f"{word}\n" for word in known.words), encoding="utf-8")
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    looks = [{name: row[name] for name in row if "wer" in name} for row in rows if "bwer" in row]
    report = {"before": looks[0], "after": looks[-1]}
    (folder / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
