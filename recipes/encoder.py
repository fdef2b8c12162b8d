"""Stage 1: the conformer encoder with both CTC heads, with an optional regression to a teacher's states.

    lithophone train encoder --data speech/train.jsonl:en:1:teacher/train-en --data speech/train.jsonl:fr+de \\
        --dev speech/dev.jsonl --dev-langs en fr de --tokenizer runs/tokenizer --out runs/encoder

Loss = 0.8 CTC(characters, last layer) + 0.2 CTC(characters, middle layer) + 0.3 CTC(BPE, pooled) + 5 distance to the
teacher's states. The first two weights are the paper's. Targets of both heads are the raw text, Japanese as kana
(`train/targets/ctc_transcripts.py`). A share of the training rows and all dev clips are conditioned on their language.
A row's corpus is drawn by weight * hours ** alpha. `OUT/data.json` lists what is trained on and what is dropped. A run
resumes from its last checkpoint; `--steps` may have grown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lithophone.audio.features import batch_frames
from lithophone.ctc.characters import character_labels, hiragana, labels_text
from lithophone.ctc.forced_alignment import collapse
from lithophone.ctc.language_conditioning import language_bias
from lithophone.metrics.wer import measure_name, score
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.data.augment import Augment, seeded
from lithophone.train.data.batches import SpeechBatch
from lithophone.train.dev_clips import DevClip, dev_clips, dev_corpora, error_rates, in_batches
from lithophone.train.encoder_task import TINY, EncoderTask, save_weights, start_from
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
from lithophone.train.targets.ctc_transcripts import FOREIGN_PENALTY, conditioning_languages, ctc_transcript
from lithophone.train.targets.losses import Loss, ctc, regression

WEIGHTS = {"ctc": 0.8, "ctc_mid": 0.2, "ctc_bpe": 0.3, "teacher": 5.0}


def encoder_losses(task: EncoderTask, tokenizer: Tokenizer) -> Callable[[SpeechBatch, int], Mapping[str, Loss]]:
    def losses(batch: SpeechBatch, step: int) -> Mapping[str, Loss]:
        langs = conditioning_languages(batch.texts, batch.langs, seeded(0, "told", step))
        language = language_bias(langs, FOREIGN_PENALTY, with_ids=True)
        output = task.encoder(batch.frames.to(task.to_teacher.weight.dtype), batch.lengths, language)
        transcripts = [ctc_transcript(source.text, source.lang) for source in batch.sources]
        characters = [character_labels(text) for text in transcripts]
        tokens = [[i + 1 for i in tokenizer.encode(text)] for text in transcripts]
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
    """Error rates of both heads on dev clips, by greedy CTC decoding."""

    def __init__(self, manifest: Path, langs: Sequence[str], clips: int, tokenizer: Tokenizer, cache: Path) -> None:
        self.tokenizer = tokenizer
        self.sets = {name: dev_clips(corpus) for name, corpus in dev_corpora(manifest, langs, clips, cache).items()}

    def evaluate(self, task: EncoderTask) -> dict[str, float]:
        """`wer_<corpus>_<lang>` and `cer_...` of the characters, `wer_bpe_...` of the tokens; Japanese has no WER."""
        result = {}
        for name, clips in self.sets.items():
            rows = [row for some in in_batches(clips) for row in self._decode(task, some)]
            lang = clips[0].lang
            result |= error_rates([(text, characters) for text, characters, _ in rows], lang, name)
            tokens = score([(text, bpe) for text, _, bpe in rows], lang)
            result[f"{measure_name(lang).lower()}_bpe_{name}"] = tokens.rate
            print(rows[len(rows) // 2], flush=True)
        return result

    def _decode(self, task: EncoderTask, clips: Sequence[DevClip]) -> list[tuple[str, str, str]]:
        """Reference, characters and tokens of every clip."""
        frames, lengths = batch_frames([clip.frames for clip in clips])
        weight = task.to_teacher.weight
        language = language_bias([clip.lang for clip in clips], FOREIGN_PENALTY, with_ids=True)
        output = task.encoder(frames.to(weight.device, weight.dtype), lengths.to(weight.device), language)
        bpe, bpe_lengths = task.bpe_head.logits(output)
        decoded = []
        for i, clip in enumerate(clips):
            characters = labels_text(collapse(output.logits[i, : lengths[i]].argmax(-1).tolist()))
            tokens = self.tokenizer.decode([t - 1 for t in collapse(bpe[i, : bpe_lengths[i]].argmax(-1).tolist())])
            spelled = hiragana(characters) if clip.lang == "ja" else characters
            decoded.append((ctc_transcript(clip.text, clip.lang), spelled, tokens))
        return decoded


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
