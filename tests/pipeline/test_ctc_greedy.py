"""Decoding by the encoder alone, and word times of what the language model says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lithophone.audio.features import batch_frames, log_mel_frames
from lithophone.ctc.characters import labels_text
from lithophone.ctc.forced_alignment import best_path, collapse
from lithophone.decode.ctc_greedy import bpe_posteriors, character_posteriors
from lithophone.pipeline.ctc_greedy import character_texts, ctc_replies
from lithophone.pipeline.transcriber import Transcriber
from tests.detectors import by_loudness
from tests.sounds import noise, tone
from tests.tiny_checkpoint import tiny_checkpoint

RATE_HZ = 16_000
CLIP = np.concatenate([noise(0.3), tone(1.5), noise(0.3), tone(1.1, frequency_hz=620)])


@torch.inference_mode()
def test_bpe_labels_are_tokens_and_one() -> None:
    checkpoint = tiny_checkpoint(bpe=True)
    frames = log_mel_frames(torch.from_numpy(CLIP))[None]
    encoded = checkpoint.model.eval().encode(frames)
    [(text, reply)] = ctc_replies(checkpoint, bpe_posteriors(checkpoint.network, encoded), "bpe")
    head = checkpoint.model.bpe_head
    assert head is not None
    path = collapse(head.logits(encoded)[0][0].argmax(-1).tolist())
    assert path
    assert list(reply.ids) == [label - 1 for label in path]
    assert len(reply.logprobs) == len(reply.ids)
    assert text == checkpoint.tokenizer.decode(reply.ids)


@torch.inference_mode()
def test_without_a_bpe_head_the_characters_spell() -> None:
    checkpoint = tiny_checkpoint()
    encoded = checkpoint.model.eval().encode(log_mel_frames(torch.from_numpy(CLIP))[None])
    [(text, reply)] = ctc_replies(checkpoint, character_posteriors(encoded), "characters")
    assert text == labels_text(collapse(encoded.logits[0].argmax(-1).tolist()))
    assert reply.ids == ()


def test_a_label_is_as_sure_as_the_best_frame_it_holds() -> None:
    probs = torch.tensor([[[0.1, 0.6, 0.3], [0.1, 0.8, 0.1], [0.9, 0.05, 0.05], [0.2, 0.1, 0.7], [0.0, 0.0, 1.0]]])
    path = best_path((probs + 1e-9).log()[0, :4] + 5.0)
    assert [label for label, _ in path] == [1, 2]
    assert [score for _, score in path] == pytest.approx([math.log(0.8), math.log(0.7)], abs=1e-5)


@torch.inference_mode()
def test_texts_of_a_batch_are_those_of_its_rows() -> None:
    model = tiny_checkpoint().model.eval()
    clips = [log_mel_frames(torch.from_numpy(clip)) for clip in (CLIP, CLIP[: len(CLIP) // 2])]
    together = character_texts(character_posteriors(model.encode(*batch_frames(clips))))
    assert together == [character_texts(character_posteriors(model.encode(clip[None])))[0] for clip in clips]
    assert all(together)


def test_the_transcriber_batches_it() -> None:
    transcriber = Transcriber(tiny_checkpoint(bpe=True), detector=by_loudness())
    long = np.concatenate([CLIP, np.zeros(2 * RATE_HZ, np.float32), CLIP[: RATE_HZ * 2]])
    alone = transcriber.transcribe(long, RATE_HZ, decode="ctc", batch_size=1)
    assert alone.text
    assert transcriber.transcribe(long, RATE_HZ, decode="ctc", batch_size=4) == alone


def test_words_lie_in_their_segments_in_order(tiny: Transcriber) -> None:
    plain = tiny.transcribe(CLIP, RATE_HZ, max_new_tokens=4)
    timed = tiny.transcribe(CLIP, RATE_HZ, max_new_tokens=4, word_timestamps=True)
    assert timed.text == plain.text
    for segment in timed.segments:
        edges = [edge for word in segment.words for edge in (word.start_s, word.end_s)]
        assert edges == sorted(edges)
        assert all(segment.start_s <= edge <= segment.end_s + 1e-6 for edge in edges)
        assert " ".join(word.text for word in segment.words) in ("", " ".join(segment.text.split()))
    assert plain.words == ()
