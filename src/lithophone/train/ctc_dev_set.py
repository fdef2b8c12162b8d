"""Error rates of an encoder's CTC heads on development clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lithophone.audio.features import batch_frames
from lithophone.ctc.characters import hiragana, labels_text
from lithophone.ctc.forced_alignment import collapse
from lithophone.ctc.language_conditioning import language_bias
from lithophone.metrics.wer import measure_name, score
from lithophone.text.tokenizer import Tokenizer
from lithophone.train.dev_clips import DevClip, dev_clips, dev_corpora, error_rates, in_batches
from lithophone.train.encoder_task import EncoderTask
from lithophone.train.targets.ctc_transcripts import FOREIGN_PENALTY, ctc_transcript


class CTCDevSet:
    """Error rates of both heads on dev clips, by greedy CTC decoding."""

    def __init__(self, manifest: Path, langs: Sequence[str], clips: int, tokenizer: Tokenizer, cache: Path) -> None:
        self.tokenizer = tokenizer
        self.sets = {name: dev_clips(corpus) for name, corpus in dev_corpora(manifest, langs, clips, cache).items()}

    def evaluate(self, task: EncoderTask) -> dict[str, float]:
        """`wer_<corpus>_<lang>` and `cer_...` of characters, `wer_bpe_...` of tokens; Japanese has no WER."""
        result: dict[str, float] = {}
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
