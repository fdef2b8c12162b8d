"""CTC prefix scores: sums over all paths, by brute force and by PyTorch's CTC loss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from lithophone.ctc.forced_alignment import WILDCARD, collapse
from lithophone.ctc.prefix_score import SPAN, Extension, PrefixScorer, extend_together
from lithophone.decode.beam import Scoring, Search
from lithophone.decode.ctc_scorer import CTCScorer, Pronunciation
from lithophone.decode.options import BeamSearch, Greedy
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import decode_batch
from lithophone.model.speech import GraniteSpeech
from tests.decode.lively import lively_model, with_end
from tests.tiny import AUDIO

LABELS = 4
T = TypeVar("T")


def alone(steps: Scoring[T]) -> T:
    """What the steps of one search return."""
    try:
        asked = next(steps)
        while True:
            asked = steps.send(extend_together(asked))
    except StopIteration as end:
        found: T = end.value
        return found


def posteriors(frames: int, labels: int = LABELS, seed: int = 0) -> torch.Tensor:
    logits = torch.randn(frames, labels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (2 * logits).log_softmax(-1)


def every_path(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Probability of every text, summed over all its paths."""
    found: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        text = tuple(collapse(path))
        found[text] = found.get(text, 0.0) + math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    return found


def test_prefixes_of_utterances_of_any_length_are_extended_as_alone() -> None:
    scorers = [PrefixScorer(posteriors(frames, 9, seed)) for seed, frames in enumerate((40, 7, 1, 163, 40))]
    wanted = [[3, 3, 8, WILDCARD], [1], [2], [5, 5, 4, 1, 2, 3, 7], []]
    pasts = [scorer.extend([scorer.empty], [labels[:1]])[0] for scorer, labels in zip(scorers, wanted, strict=True)]
    together = extend_together([Extension(*one) for one in zip(scorers, pasts, wanted, strict=True)])
    for scorer, past, labels, found in zip(scorers, pasts, wanted, together, strict=True):
        (single,) = scorer.extend([past], [labels])
        assert (found.labels, found.score) == (single.labels, pytest.approx(single.score, rel=1e-12))
        assert found.log_scale == pytest.approx(single.log_scale, rel=1e-12)
        np.testing.assert_allclose(found.paths, single.paths, rtol=1e-12)


def slow_scores(log_probs: torch.Tensor, labels: Sequence[int]) -> tuple[float, float]:
    """Score of a prefix, and of exactly these labels: frame by frame, in the log domain."""
    emitted = torch.cat((log_probs, log_probs.amax(1, keepdim=True)), 1).T.tolist()
    by_label, by_blank, last = [-math.inf] * len(log_probs), list(itertools.accumulate(emitted[0])), None
    score = 0.0
    for label in labels:
        free = [b if label == last else np.logaddexp(a, b) for a, b in zip(by_label, by_blank, strict=True)]
        entered = [0.0 if last is None else -math.inf, *free[:-1]]
        score = float(np.logaddexp.reduce(np.add(entered, emitted[label])))
        held = blank = -math.inf
        for t, enters in enumerate(entered):
            blank = np.logaddexp(blank, held) + emitted[0][t]
            held = np.logaddexp(held, enters) + emitted[label][t]
            by_label[t], by_blank[t] = held, blank
        last = label
    return score, float(np.logaddexp(by_label[-1], by_blank[-1]))


@pytest.mark.parametrize("peak", [1.0, 4.0, 12.0])
@pytest.mark.parametrize("frames", [1, 2, SPAN - 1, SPAN, SPAN + 1, 2 * SPAN, 5 * SPAN + 3, 400])
def test_scores_are_those_of_the_recursion_frame_by_frame(frames: int, peak: float) -> None:
    """Also of labels that nothing speaks for, hundreds of nats below the best path."""
    numbers = torch.Generator().manual_seed(frames)
    logits = torch.randn(frames, 12, generator=numbers, dtype=torch.float64)
    log_probs = (logits + peak * F.one_hot(logits.argmax(1), 12)).log_softmax(-1)
    best = collapse(log_probs.argmax(1).tolist())
    scorer = PrefixScorer(log_probs)
    for wanted in (best, best[::-1], best[: len(best) // 2], [WILDCARD, *best[::2]], [7] * min(frames // 2, 40)):
        (prefix,) = scorer.extend([scorer.empty], [wanted])
        score, complete = slow_scores(log_probs, wanted)
        assert prefix.score == pytest.approx(score, rel=1e-11)
        if complete > prefix.score - 600:
            assert scorer.complete(prefix) == pytest.approx(complete, rel=1e-11)
        else:  # nothing that a search would return
            assert 1.2 * complete < scorer.complete(prefix) < 0.999999 * complete


def test_an_impossible_label_and_a_silence_of_minutes() -> None:
    log_probs = torch.full((9000, 4), -math.inf, dtype=torch.float64)
    log_probs[:, 0] = 0.0
    scorer = PrefixScorer(log_probs)
    assert scorer.complete(scorer.empty) == 0.0
    (never,) = scorer.extend([scorer.empty], [[1, 2]])
    assert never.score < -60
    log_probs[4000] = log_probs[8000] = torch.tensor([-math.inf, 0.0, -math.inf, -math.inf])
    scorer = PrefixScorer(log_probs)
    (twice,) = scorer.extend([scorer.empty], [[1, 1]])
    assert (twice.score, scorer.complete(twice)) == pytest.approx((0.0, 0.0), abs=1e-9)


@pytest.mark.parametrize("wanted", [[1], [2, 2], [1, 2, 1], [3, 3, 3], [1, 2, 3, 1, 2]])
def test_scores_are_sums_over_all_paths(wanted: list[int]) -> None:
    log_probs = posteriors(6)
    texts = every_path(log_probs)
    scorer = PrefixScorer(log_probs)
    (prefix,) = scorer.extend([scorer.empty], [wanted])
    beginning = sum(p for text, p in texts.items() if list(text[: len(wanted)]) == wanted)
    assert math.exp(prefix.score) == pytest.approx(beginning, rel=1e-9)
    assert math.exp(scorer.complete(prefix)) == pytest.approx(texts.get(tuple(wanted), 0.0), rel=1e-9)


def test_the_whole_text_has_the_probability_of_the_ctc_loss() -> None:
    log_probs, text = posteriors(90, 30, seed=1), [3, 3, 7, 1, 1, 1, 29, 5] * 4
    scorer = PrefixScorer(log_probs)
    (prefix,) = scorer.extend([scorer.empty], [text])
    loss = F.ctc_loss(
        log_probs[:, None], torch.tensor([text]), torch.tensor([90]), torch.tensor([len(text)]), reduction="sum"
    )
    assert scorer.complete(prefix) == pytest.approx(-float(loss), rel=1e-9)


def test_a_prefix_is_as_probable_as_all_that_may_follow() -> None:
    scorer = PrefixScorer(posteriors(120, seed=2))
    (prefix,) = scorer.extend([scorer.empty], [[1, 2, 2, 3]])
    longer = scorer.extend([prefix] * 3, [[1, 2, 2, 3, label] for label in (1, 2, 3)])
    parts = torch.tensor([scorer.complete(prefix), *(p.score for p in longer)], dtype=torch.float64)
    assert prefix.score == pytest.approx(float(parts.logsumexp(0)), rel=1e-9)
    assert scorer.empty.score == 0.0


def test_many_prefixes_at_once_and_step_by_step() -> None:
    scorer = PrefixScorer(posteriors(50, seed=3))
    wanted = [[1], [1, 2, 3], [], [2, 2], [1, 2, 1]]
    together = scorer.extend([scorer.empty] * len(wanted), wanted)
    for labels, prefix in zip(wanted, together, strict=True):
        alone = scorer.empty
        for n in range(len(labels) + 1):
            (alone,) = scorer.extend([alone], [labels[:n]])
        assert prefix.labels == alone.labels == tuple(labels)
        assert (prefix.score, scorer.complete(prefix)) == pytest.approx((alone.score, scorer.complete(alone)))


def test_another_beginning_is_scored_from_the_start() -> None:
    scorer = PrefixScorer(posteriors(50, seed=4))
    (one,) = scorer.extend([scorer.empty], [[1, 2, 3]])
    (other,) = scorer.extend([one], [[1, 3]])
    (fresh,) = scorer.extend([scorer.empty], [[1, 3]])
    assert (other.score, scorer.complete(other)) == (fresh.score, scorer.complete(fresh))


def test_a_wildcard_is_at_least_as_probable_as_any_label() -> None:
    scorer = PrefixScorer(posteriors(30, seed=5))
    prefixes = scorer.extend([scorer.empty] * 4, [[1, label, 2] for label in (WILDCARD, 1, 2, 3)])
    assert scorer.complete(prefixes[0]) > max(scorer.complete(prefix) for prefix in prefixes[1:])


def test_more_labels_than_frames_are_impossible() -> None:
    scorer = PrefixScorer(posteriors(3))
    (prefix,) = scorer.extend([scorer.empty], [[1, 2, 3, 1]])
    assert (prefix.score, scorer.complete(prefix)) == (-math.inf, -math.inf)


# --- in the beam search ----------------------------------------------------------------------------------------------


def spelled(ids: Sequence[int]) -> Pronunciation:
    """Every token is a label of its own."""
    return Pronunciation([1 + i for i in ids])


def confident(ids: Sequence[int], vocabulary: int) -> torch.Tensor:
    """Posteriors of an encoder that is sure of these tokens, at three frames each, with a blank between them."""
    frames = [label for i in ids for label in (1 + i, 1 + i, 0)]
    return (12.0 * F.one_hot(torch.tensor(frames), vocabulary + 1)).log_softmax(-1)


def decode(model: GraniteSpeech, heard: torch.Tensor, weight: float) -> Reply:
    (prompt,) = model.embed([[5, 6, 7]])
    options = BeamSearch(12, num_beams=model.config.text_config.vocab_size, ctc_weight=weight)
    (reply,) = decode_batch(model, [prompt], options, [0], scorers=[CTCScorer(PrefixScorer(heard), spelled)])
    return reply


@pytest.mark.parametrize("eos", [AUDIO - 1, pytest.param(AUDIO - 2, marks=pytest.mark.full)])
def test_confident_posteriors_are_decoded_and_then_the_reply_ends(eos: int) -> None:
    model = with_end(lively_model(), eos)
    heard = confident([3, 1, 4, 1, 5], model.config.text_config.vocab_size)
    assert decode(model, heard, 0.95) == Reply((3, 1, 4, 1, 5), True, decode(model, heard, 0.95).logprobs, passes=7)
    assert decode(model, heard, 0.0).ids != (3, 1, 4, 1, 5)


def test_the_log_probabilities_are_the_language_models() -> None:
    model = lively_model()
    heard = confident([3, 1, 4], model.config.text_config.vocab_size)
    reply = decode(model, heard, 0.9)
    (prompt,) = model.embed([[5, 6, 7, *reply.ids]])
    with torch.inference_mode():
        logprobs = model.language_model.logits(model.language_model(prompt[None]))[0, 2:-1].log_softmax(-1)
    expected = logprobs[torch.arange(len(reply.ids)), torch.tensor(reply.ids)]
    torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("weight", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("future_cost", [0.0, 0.4])
@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("seed", range(4))
def test_candidates_that_are_not_scored_could_not_have_won(
    seed: int, num_beams: int, future_cost: float, weight: float
) -> None:
    """In every step the beams are those of a slow search that scores every hypothesis from its beginning."""
    generator, eos = torch.Generator().manual_seed(seed), 11
    scorer = PrefixScorer(posteriors(30, seed=seed))

    def spell(ids: Sequence[int]) -> Pronunciation:
        return Pronunciation([1 + i % (LABELS - 1) for i in ids for _ in range(i % 3)], sum(i % 3 == 0 for i in ids))

    settings = {"ctc_weight": weight, "future_cost": future_cost}
    options = Greedy(**settings) if num_beams == 1 else BeamSearch(num_beams=num_beams, **settings)
    search = Search(options, 10, eos, CTCScorer(scorer, spell))
    for _ in range(6):
        logprobs = (2 * torch.randn(len(search.beams), 12, generator=generator)).log_softmax(-1)
        slow = []
        for beam, row in zip(search.beams, logprobs, strict=True):
            for token in dict.fromkeys([*row.topk(num_beams + 1).indices.tolist(), eos]):
                ids = (*beam.ids, token)
                spelling = spell([i for i in ids if i != eos])
                (heard,) = scorer.extend([scorer.empty], [spelling.labels])
                ctc = (scorer.complete(heard) if token == eos else heard.score) + scorer.unscored * spelling.unscored
                score = (1 - weight) * math.fsum((*beam.logprobs, float(row[token]))) + weight * ctc
                past = beam.prefix or scorer.empty
                unsaid = len(scorer.continuation(past)) - len(spelling.labels) + len(past.labels)
                slow.append((score - future_cost * max(0, unsaid) * (token != eos), score, ids))
        slow = sorted(slow, key=lambda one: -one[0])[: 2 * num_beams]
        found = alone(search._extend(logprobs, 2 * num_beams))
        assert [beam.ids for beam in found] == [ids for _, _, ids in slow]
        assert [beam.score for beam in found] == pytest.approx([score for _, score, _ in slow], abs=1e-6)
        search.step(logprobs)


def test_greedy_decoding_ends_with_the_first_end_of_the_reply() -> None:
    """A beam search goes on while a running hypothesis is better by length, as it would be here."""
    word, eos = 3, 11
    liked = torch.full((12,), 0.005)
    liked[[eos, word]] = torch.tensor([0.5, 0.45])
    unsure = CTCScorer(PrefixScorer(torch.full((2, 12), 1 / 12).log()), lambda ids: Pronunciation(list(ids)))
    search = Search(Greedy(ctc_weight=0.01), 4, eos, unsure)
    search.step(liked.log()[None])
    assert search.beams[0].ids == (word,)
    assert search.done
    assert (search.reply().ids, search.reply().finished) == ((), True)


def test_letters_without_a_label_cost_what_any_label_would() -> None:
    heard = confident([3, 1, 4, 1], 11)
    assert PrefixScorer(heard).unscored == pytest.approx(-math.log(heard.shape[1]))


def test_digits_do_not_outlive_words() -> None:
    """They say nothing at no cost to the ear: while beams that say words pay for each, a cheap digit would stay."""
    digit, eos = 0, 11
    liked = torch.full((12,), -4.0)
    liked[digit] = -0.3

    def spell(ids: Sequence[int]) -> Pronunciation:
        digits = ids.count(digit)
        return Pronunciation([WILDCARD] * (digits > 0) + [i for i in ids if i != digit], digits)

    heard = (9.0 * F.one_hot(torch.tensor([4, 0, 2, 0, 5, 0, 3, 0] * 3), 400)).log_softmax(-1)
    search = Search(BeamSearch(num_beams=12, ctc_weight=0.5), 40, eos, CTCScorer(PrefixScorer(heard), spell))
    while not search.done:
        search.step(liked.expand(len(search.beams), 12))
    assert search.reply().ids == (4, 2, 5, 3) * 3


@pytest.mark.parametrize("future_cost", [0.0, 2.5])
def test_future_cost_compares_beams_of_unequal_progress(future_cost: float) -> None:
    """Marks cost little, words much: with few beams none that says a word is left, unless the others have them to come.

    Each token is a label of its own but the mark, which has none.
    """
    mark, eos = 0, 11
    words = (4, 2, 5, 3)
    liked = torch.full((12,), -3.0)
    liked[mark] = -0.2

    def spell(ids: Sequence[int]) -> Pronunciation:
        return Pronunciation([i for i in ids if i != mark])

    def propose(labels: Sequence[int], first: bool) -> Sequence[int]:
        return labels[:1]

    heard = (5.0 * F.one_hot(torch.tensor([label for word in words for label in (word, 0)]), 12)).log_softmax(-1)
    options = BeamSearch(num_beams=2, ctc_weight=0.3, future_cost=future_cost)
    search = Search(options, 12, eos, CTCScorer(PrefixScorer(heard), spell, propose))
    while not search.done:
        search.step(liked.expand(len(search.beams), 12))
    said = tuple(token for token in search.reply().ids if token != mark)
    assert (said == words) == (future_cost > 0)


def test_what_has_no_label_is_not_repeated_for_ever() -> None:
    """A language model that likes all tokens alike: a number without end must not be what costs least."""
    junk, eos = 5, 11
    logprobs = torch.full((12,), -2.5)

    def spell(ids: Sequence[int]) -> Pronunciation:
        """Numbers are one wildcard, however long."""
        numbers = sum(i == junk for i in ids)
        return Pronunciation([1 + i for i in ids if i != junk] + [WILDCARD] * (numbers > 0), numbers)

    noisy = (3.0 * F.one_hot(torch.tensor([4, 4, 0, 2, 2, 0, 5, 5, 0]), 13)).log_softmax(-1)
    search = Search(BeamSearch(num_beams=12, ctc_weight=0.5), 30, eos, CTCScorer(PrefixScorer(noisy), spell))
    while not search.done:
        search.step(logprobs.expand(len(search.beams), -1))
    assert search.reply().ids == (3, 1, 4)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_reply_ends_where_no_more_can_have_been_said(num_beams: int) -> None:
    """However improbable the language model finds the end, which is not among its favourites."""
    eos = 11
    liked = torch.full((12,), -8.0).index_fill_(0, torch.tensor(eos), -40.0)
    settings = {"ctc_weight": 0.5}
    options = Greedy(**settings) if num_beams == 1 else BeamSearch(num_beams=num_beams, **settings)
    search = Search(options, 30, eos, CTCScorer(PrefixScorer(confident([3, 1], 11)), spelled))
    while not search.done:
        favourite = [3, 1][min(search.passes, 1)]
        row = liked.index_fill(0, torch.tensor(favourite), -0.01)
        search.step(row.expand(len(search.beams), -1))
    assert search.reply().finished
    assert search.reply().ids[:2] == (3, 1)
    assert len(search.reply().ids) <= 6  # frames


def test_a_reply_that_is_cut_is_scored_as_complete() -> None:
    """At the budget a beam is not let off what it has not said yet."""
    scorer = PrefixScorer(confident([3, 1, 4], 11))
    search = Search(BeamSearch(num_beams=12, ctc_weight=0.5), 2, 11, CTCScorer(scorer, spelled))
    for _ in range(2):
        search.step(torch.full((len(search.beams), 12), -2.5))
    (said,) = scorer.extend([scorer.empty], [[4, 2]])
    cut = next(beam for beam in search.ended if beam.ids == (3, 1))
    assert cut.score == pytest.approx(0.5 * -5.0 + 0.5 * scorer.complete(said))
    assert scorer.complete(said) < said.score - 5.0


def test_the_best_path_goes_on_behind_a_beginning() -> None:
    heard = (6.0 * F.one_hot(torch.tensor([0, 3, 3, 0, 4, 5, 5, 0, 5]), 6)).log_softmax(-1)
    scorer = PrefixScorer(heard)
    beginnings = [[3], [3, 4], [3, 4, 5], [3, 4, 5, 5]]
    prefixes = scorer.extend([scorer.empty] * len(beginnings), beginnings)
    assert scorer.continuation(scorer.empty) == [3, 4, 5, 5]
    assert [scorer.continuation(prefix) for prefix in prefixes] == [[4, 5, 5], [5, 5], [5], []]


def test_improbable_tokens_are_candidates_where_they_spell_the_best_path() -> None:
    """Its favourites behind every beam are few; the encoder's are among them if it may propose."""
    heard = PrefixScorer((9.0 * F.one_hot(torch.tensor([7, 0, 8, 0]), 12)).log_softmax(-1))

    def spell(ids: Sequence[int]) -> Pronunciation:
        return Pronunciation([max(token, 1) for token in ids])

    def propose(labels: Sequence[int], first: bool) -> Sequence[int]:
        assert first == (len(labels) == 2)
        return labels[:1]

    def reply(scorer: CTCScorer) -> tuple[int, ...]:
        search = Search(BeamSearch(num_beams=2, ctc_weight=0.5), 6, 11, scorer)
        liked = torch.linspace(0.0, -8.0, 12).log_softmax(-1)
        while not search.done:
            # The end of the text is as probable as the favourite.
            search.step(torch.cat((liked[:11], liked[:1])).expand(len(search.beams), 12))
        return search.reply().ids

    assert reply(CTCScorer(heard, spell, propose)) == (7, 8)
    assert reply(CTCScorer(heard, spell)) != (7, 8)
