"""Editing against a plain loop, one recording at a time, written from `model.md`, section 6."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lithophone.ctc.forced_alignment import best_path
from lithophone.decode.edit import ctc_hypotheses, edit_batch, edit_slots
from lithophone.decode.options import Edit
from lithophone.errors import OptionError
from lithophone.model.nar import GraniteSpeechNar
from tests.plain_nar import plain_audio, plain_encoding, plain_hypothesis_logits, plain_logits
from tests.tiny import EOS, GENERATIONS, tiny_frames, tiny_nar_model

LENGTHS = (203, 3, 60, 16, 120)


@pytest.fixture(scope="module", params=GENERATIONS)
def model(request: pytest.FixtureRequest) -> GraniteSpeechNar:
    """Its BPE head hears something else in every window, and now and then nothing: a random one repeats itself."""
    model = tiny_nar_model(request.param).requires_grad_(False)
    head = model.encoder.out_bpe
    pooled, _ = head.pool(model.encode(*tiny_frames(203)))
    head.bias.copy_(-head.weight @ pooled[0].mean(0))
    head.bias[model.config.blank_label] += 1.5 * head(pooled).std()
    return model


def collapse(path: list[int], blank: int) -> list[int]:
    kept = [label for i, label in enumerate(path) if i == 0 or label != path[i - 1]]
    return [label for label in kept if label != blank]


def plain_hypothesis(model: GraniteSpeechNar, frames: Tensor) -> list[int]:
    """One utterance (T, 160) -> token ids."""
    _, last, posteriors = plain_encoding(model, frames)
    labels = plain_hypothesis_logits(model, last, posteriors).argmax(-1).tolist()
    if model.config.generation == "G1":
        return [label - 1 for label in collapse(labels, 0)]
    return collapse(labels, EOS)


def plain_slots(hypothesis: list[int]) -> list[int]:
    slots = [EOS] * max(2 * len(hypothesis) + 1, 8)
    for i, token in enumerate(hypothesis):
        slots[2 * i + 1] = token
    return slots


def plain_edit(model: GraniteSpeechNar, frames: Tensor, hypothesis: list[int], steps: int) -> list[int]:
    audio = plain_audio(model, plain_encoding(model, frames)[0])
    for _ in range(steps):
        hypothesis = collapse(plain_logits(model, audio, plain_slots(hypothesis)).argmax(-1).tolist(), EOS)
    return hypothesis


def utterances() -> list[Tensor]:
    frames, lengths = tiny_frames(*LENGTHS)
    return [row[:n] for row, n in zip(frames, lengths.tolist(), strict=True)]


def edited(model: GraniteSpeechNar, options: Edit, *rows: int) -> list[tuple[int, ...]]:
    """The ids of a batch of these utterances, or of all."""
    frames, lengths = (t[list(rows)] if rows else t for t in tiny_frames(*LENGTHS))
    encoded = model.encode(frames, lengths)
    replies = edit_batch(model, *model.project(encoded), ctc_hypotheses(model, encoded), options)
    return [reply.ids for reply in replies]


def test_hypotheses_are_those_of_the_plain_loop(model: GraniteSpeechNar) -> None:
    heard = ctc_hypotheses(model, model.encode(*tiny_frames(*LENGTHS)))
    assert heard == [plain_hypothesis(model, frames) for frames in utterances()]
    assert 10 < len(heard[0]) < 51, "blanks and repeats have to be there to be dropped"


@pytest.mark.parametrize("steps", [1, 3])
def test_a_ragged_batch_gives_the_tokens_of_the_plain_loop(model: GraniteSpeechNar, steps: int) -> None:
    expected = [plain_edit(model, frames, plain_hypothesis(model, frames), steps) for frames in utterances()]
    assert edited(model, Edit(steps)) == [tuple(ids) for ids in expected]
    assert len({token for ids in expected for token in ids}) > 10, "a degenerate model proves nothing"


def test_company_does_not_matter(model: GraniteSpeechNar) -> None:
    together = edited(model, Edit(2))
    assert edited(model, Edit(2), 3, 0) == [together[3], together[0]]
    assert edited(model, Edit(2), 1) == [together[1]]


def test_steps_go_on_from_each_other(model: GraniteSpeechNar) -> None:
    audio, counts = model.project(model.encode(*tiny_frames(*LENGTHS)))
    hypotheses = [[5, 6, 7]] * len(LENGTHS)
    once = edit_batch(model, audio, counts, hypotheses, Edit())
    twice = edit_batch(model, audio, counts, [reply.ids for reply in once], Edit())
    at_once = edit_batch(model, audio, counts, hypotheses, Edit(2))
    assert [reply.ids for reply in at_once] == [reply.ids for reply in twice]
    assert [reply.ids for reply in once] != [reply.ids for reply in twice]
    assert {reply.passes for reply in at_once} == {2}


def test_a_row_that_stays_as_it_is_is_not_read_again(model: GraniteSpeechNar) -> None:
    """Where attention and feed-forward give nothing, every slot says what it holds."""
    model = tiny_nar_model(model.config.generation).requires_grad_(False)
    for layer in model.language_model.model.layers:
        layer.self_attn.o_proj.weight.zero_()
        layer.mlp.down_proj.weight.zero_()
    sizes: list[int] = []
    model.language_model.model.norm.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    audio, counts = model.project(model.encode(*tiny_frames(30, 40)))
    first, second = edit_batch(model, audio, counts, [[5, 5, 9], [EOS, 8]], Edit(10))
    assert (first.ids, first.passes) == ((5, 5, 9), 1)
    assert (second.ids, second.passes) == ((8,), 2), "an end of text in a hypothesis is an empty slot"
    assert sizes == [2, 1]


def test_an_empty_hypothesis_can_be_edited_into_text(model: GraniteSpeechNar) -> None:
    frames = utterances()[0]
    audio, counts = model.project(model.encode(frames[None], torch.tensor([len(frames)])))
    (reply,) = edit_batch(model, audio, counts, [[]], Edit())
    assert list(reply.ids) == plain_edit(model, frames, [], 1)
    assert reply.finished
    assert edit_batch(model, audio[:0], counts[:0], [], Edit()) == []


def test_silence_is_an_empty_hypothesis(model: GraniteSpeechNar) -> None:
    model = tiny_nar_model(model.config.generation).requires_grad_(False)
    model.encoder.out_bpe.bias[model.config.blank_label] += 1000.0
    assert ctc_hypotheses(model, model.encode(*tiny_frames(60, 3))) == [[], []]


@pytest.mark.parametrize("hypothesis", [[], [4], [4, 4, 5], [4, 5, 6, 7], list(range(9))])
def test_slots_stand_around_every_token(hypothesis: list[int]) -> None:
    slots = edit_slots(hypothesis, 97)
    assert slots == plain_slots(hypothesis)
    assert collapse(slots, 97) == hypothesis


def test_a_path_keeps_the_best_score_of_a_run() -> None:
    probabilities = torch.tensor([[0.1, 0.2, 0.7], [0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7], [0.7, 0.2, 0.1]])
    path = best_path(probabilities.log(), blank=2)
    assert [label for label, _ in path] == [0, 0]
    assert torch.tensor([score for _, score in path]).exp().tolist() == pytest.approx([0.8, 0.7])


def test_scores_are_probabilities_of_the_language_model(model: GraniteSpeechNar) -> None:
    frames = utterances()[2]
    audio, counts = model.project(model.encode(frames[None], torch.tensor([len(frames)])))
    (reply,) = edit_batch(model, audio, counts, [[5, 6, 7]], Edit())
    plain = plain_logits(model, plain_audio(model, plain_encoding(model, frames)[0]), plain_slots([5, 6, 7]))
    best = plain.log_softmax(-1).max(-1)
    runs: list[tuple[int, float]] = []
    for label, score in zip(best.indices.tolist(), best.values.tolist(), strict=True):
        if runs and runs[-1][0] == label:
            score = max(score, runs.pop()[1])
        runs.append((label, score))
    expected = [(label, score) for label, score in runs if label != EOS]
    assert reply.ids == tuple(label for label, _ in expected)
    assert reply.logprobs == pytest.approx([score for _, score in expected], abs=1e-4)


@pytest.mark.parametrize("steps", [0, -1, 1.5, True, None])
def test_steps_are_a_whole_number_from_one_on(steps: object) -> None:
    with pytest.raises(OptionError, match=r"editing_steps is .*: it must be a whole number, at least 1"):
        Edit(steps)  # type: ignore[arg-type]


def test_one_step_is_the_default() -> None:
    assert Edit().editing_steps == 1
