"""Drafts: exact verification is greedy decoding in fewer passes, relaxed verification is the plain loop below."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from lithophone.decode import speculative
from lithophone.decode.draft_alignment import resume
from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import Greedy, Speculative
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import decode_batch
from lithophone.decode.speculative import Draft, Prediction, confident, verify
from lithophone.errors import OptionError
from lithophone.model.speech import GraniteSpeech
from tests.decode.lively import assert_same_replies, decided_model, lively_model, prompts_for
from tests.tiny import PAD, VOCABULARY

MANY, N_PROMPTS, FEW = 200, 64, 16
BUDGET = 16


def fold_table() -> list[str]:
    """Every other token is its neighbour with a capital, every tenth has no text, the last twenty join two others."""
    texts = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in (token // 2 for token in range(VOCABULARY))]
    texts[-20:] = [texts[2 * i] + texts[2 * i + 2] for i in range(20)]
    return ["" if token % 10 == 9 else text for token, text in enumerate(texts)]


FOLDS = fold_table()

Ids = list[int]


def random_ids(n: int, rng: random.Random) -> Ids:
    return [rng.randrange(PAD) for _ in range(n)]


def edited(ids: Sequence[int], rng: random.Random, removed: int, added: int) -> Ids:
    """Ids with an edit at one or two random places: so many tokens removed, so many random ones put there."""
    draft = list(ids)
    for _ in range(rng.randint(1, 2)):
        at = rng.randrange(len(draft) + 1)
        draft[at : at + removed] = random_ids(added, rng)
    return draft


def as_ctc(ids: Sequence[int]) -> Ids:
    """The draft of an encoder: no capitals, no punctuation, and what joins two tokens in two."""
    draft: Ids = []
    for text in (FOLDS[token] for token in ids):
        halves = [text] if text in FOLDS[:-20] else [text[:2], text[2:]]
        draft += [FOLDS.index(half) for half in halves if half]
    return draft


DRAFTS: dict[str, Callable[[Ids, random.Random], Ids]] = {
    "right": lambda ids, rng: ids,
    "wrong": lambda ids, rng: random_ids(12, rng),
    "empty": lambda ids, rng: [],
    "too long": lambda ids, rng: ids + random_ids(30, rng),
    "cut short": lambda ids, rng: ids[: len(ids) // 2],
    "substitutions": lambda ids, rng: edited(ids, rng, 1, 1),
    "deletions": lambda ids, rng: edited(ids, rng, 2, 0),
    "insertions": lambda ids, rng: edited(ids, rng, 0, 2),
    "as CTC": lambda ids, rng: as_ctc(ids),
}


class Judged(NamedTuple):
    """A model, prompts, and the replies of the judge."""

    model: GraniteSpeech
    prompts: list[Tensor]
    replies: list[Reply]

    def first(self, n: int) -> Judged:
        return Judged(self.model, self.prompts[:n], self.replies[:n])

    def decode(self, options: Speculative, drafts: list[Ids], batch: int, folds: list[str] | None) -> list[Reply]:
        starts = range(0, len(self.prompts), batch)
        parts = [slice(at, at + batch) for at in starts]
        return [
            reply
            for part in parts
            for reply in decode_batch(
                self.model, self.prompts[part], options, [0] * len(self.prompts[part]), drafts[part], folds
            )
        ]


def judge(model: GraniteSpeech, n: int) -> Judged:
    prompts = prompts_for(model, n)
    return Judged(model, prompts, [greedy_decode(model, prompt, Greedy(BUDGET), 0) for prompt in prompts])


@pytest.fixture(scope="module")
def judged() -> Judged:
    """Replies that end by themselves and replies that are cut."""
    judged = judge(lively_model(), N_PROMPTS)
    assert {reply.finished for reply in judged.replies} == {True, False}
    return judged


@pytest.fixture(scope="module")
def long() -> Judged:
    """Replies that are all cut at the budget."""
    return judge(decided_model(), FEW)


@pytest.mark.parametrize(("batch", "n"), [(1, N_PROMPTS // 4), (8, N_PROMPTS)])
@pytest.mark.parametrize("folds", [None, FOLDS], ids=["ids", "folds"])
@pytest.mark.parametrize("kind", DRAFTS)
def test_an_exact_reply_is_the_greedy_reply(
    judged: Judged, kind: str, folds: list[str] | None, batch: int, n: int
) -> None:
    check_exact(judged.first(n), kind, folds, batch)


@pytest.mark.full
@pytest.mark.parametrize("folds", [None, FOLDS], ids=["ids", "folds"])
def test_exact_replies_to_many_prompts_are_the_greedy_replies(folds: list[str] | None) -> None:
    many = judge(lively_model(), MANY)
    for kind in DRAFTS:
        check_exact(many, kind, folds, 8)


def check_exact(judged: Judged, kind: str, folds: list[str] | None, batch: int) -> None:
    rng = random.Random(kind)
    drafts = [DRAFTS[kind](list(reply.ids), rng) for reply in judged.replies]
    replies = judged.decode(Speculative(BUDGET, lookahead=rng.choice((1, 3, 16))), drafts, batch, folds)
    assert_same_replies(replies, judged.replies)
    for reply, greedy in zip(replies, judged.replies, strict=True):
        # The end of the text may have been drafted as well.
        assert 0 <= reply.accepted <= min(reply.drafted, len(reply.ids) + reply.finished)
        assert reply.passes <= greedy.passes


def test_a_right_draft_takes_one_pass(long: Judged) -> None:
    drafts = [list(reply.ids) for reply in long.replies]
    replies = long.decode(Speculative(BUDGET), drafts, 8, None)
    assert {(reply.passes, reply.drafted, reply.accepted) for reply in replies} == {(1, BUDGET, BUDGET)}


def test_a_draft_that_ends_with_the_reply_takes_one_pass(judged: Judged) -> None:
    drafts = [list(reply.ids) for reply in judged.replies]
    replies = judged.decode(Speculative(BUDGET), drafts, 8, None)
    assert {reply.passes for reply in replies} == {1}


@pytest.mark.parametrize("folds", [None, FOLDS], ids=["ids", "folds"])
@pytest.mark.parametrize(("removed", "added", "passes"), [(1, 1, 2), (0, 1, 2), (1, 0, 3)])
def test_one_wrong_extra_or_missing_token_costs_a_pass_or_two(
    long: Judged, removed: int, added: int, passes: int, folds: list[str] | None
) -> None:
    rng = random.Random(0)
    drafts = [list(reply.ids) for reply in long.replies]
    for draft in drafts:
        at = rng.randrange(2, BUDGET - 4)
        texts = {FOLDS[token] for token in draft}
        foreign = next(token for token in range(PAD) if FOLDS[token] not in texts and FOLDS[token])
        draft[at : at + removed] = [foreign] * added
    replies = long.decode(Speculative(BUDGET, lookahead=BUDGET), drafts, 8, folds)
    counts = sorted(reply.passes for reply in replies)
    assert counts[len(counts) * 3 // 4] <= passes, "three of four, for tokens that repeat may mislead"
    assert counts[-1] <= passes + 2


def test_folds_align_a_draft_with_another_tokenization(long: Judged) -> None:
    drafts = [
        [half for i in reply.ids for half in (as_ctc([i]) if i >= VOCABULARY - 20 else [i])] for reply in long.replies
    ]
    by_text, by_id = (long.decode(Speculative(BUDGET), drafts, 8, folds) for folds in (FOLDS, None))
    assert sum(reply.passes for reply in by_text) < 0.8 * sum(reply.passes for reply in by_id)


def test_lookahead_bounds_what_a_pass_reads_after_the_first(long: Judged) -> None:
    drafts = [[(reply.ids[0] + 1) % PAD, *reply.ids[1:]] for reply in long.replies]
    replies = long.decode(Speculative(BUDGET, lookahead=4), drafts, 8, None)
    assert min(reply.passes for reply in replies) == 1 + math.ceil((BUDGET - 1) / (4 + 1))


def test_the_end_token_in_a_draft_ends_the_reply(judged: Judged) -> None:
    eos = judged.model.config.text_config.eos_token_id
    drafts = [[*reply.ids, eos, 5, 6] for reply in judged.replies]
    assert_same_replies(judged.decode(Speculative(BUDGET), drafts, 8, None), judged.replies)


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_a_draft_beyond_the_budget_is_cut_with_the_reply(long: Judged, budget: int) -> None:
    drafts = [list(reply.ids) for reply in long.replies]
    replies = long.decode(Speculative(budget), drafts, 8, None)
    assert [reply.ids for reply in replies] == [reply.ids[:budget] for reply in long.replies]
    assert {(reply.finished, reply.drafted) for reply in replies} == {(False, budget)}


def test_a_draft_beyond_the_last_position_is_cut_with_the_reply(long: Judged) -> None:
    room = 3
    limit = long.model.config.text_config.max_position_embeddings
    (prompt,) = long.model.embed([[i % PAD for i in range(limit - room)]])
    greedy = greedy_decode(long.model, prompt, Greedy(), 0)
    (reply,) = decode_batch(long.model, [prompt], Speculative(), [0], drafts=[[*greedy.ids, 1, 2, 3]])
    assert_same_replies([reply], [greedy])
    assert (len(reply.ids), reply.passes) == (room, 1)


@torch.inference_mode()
def slow_relaxed(model: GraniteSpeech, prompt: Tensor, draft: Ids, tau_slm: float, folds: list[str] | None) -> Ids:
    """One token at a time: the draft's next one where it is probable enough, else the model's own."""
    fold = chr if folds is None else folds.__getitem__
    ids: Ids = []
    at, taken = 0, list[str]()
    while len(ids) < BUDGET:
        read = torch.cat((prompt, model.language_model.embed(torch.tensor(ids, dtype=torch.int64))))
        logprobs = model.language_model.logits(model.language_model(read[None]))[0, -1].log_softmax(-1)
        own = int(logprobs.argmax())
        start = at + resume(taken, [fold(i) for i in draft[at:]])
        proposed = draft[start] if start < len(draft) else None
        if proposed is not None and (proposed == own or logprobs[proposed] >= math.log(tau_slm)):
            token, at, taken = proposed, start + 1, []
        else:
            token = own
            taken.append(fold(own))
        if token == model.config.text_config.eos_token_id:
            break
        ids.append(token)
    return ids


@pytest.mark.parametrize("folds", [None, FOLDS], ids=["ids", "folds"])
@pytest.mark.parametrize(("tau_slm", "lookahead"), [(0.02, 16), (0.02, 2), (0.2, 1), (1.0, 16)])
def test_a_relaxed_reply_is_that_of_the_slow_loop(
    judged: Judged, tau_slm: float, lookahead: int, folds: list[str] | None
) -> None:
    rng, n = random.Random(1), 8
    few = Judged(judged.model, judged.prompts[:n], judged.replies[:n])
    drafts = [edited(reply.ids, rng, 2, 6) for reply in few.replies]
    replies = few.decode(Speculative(BUDGET, tau_slm=tau_slm, lookahead=lookahead), drafts, n, folds)
    expected = [slow_relaxed(judged.model, p, d, tau_slm, folds) for p, d in zip(few.prompts, drafts, strict=True)]
    assert [list(reply.ids) for reply in replies] == expected
    changed = [reply.ids != greedy.ids for reply, greedy in zip(replies, few.replies, strict=True)]
    assert any(changed) == (tau_slm < 0.1), "a low bar lets some of the draft through, a high one none"


def test_relaxed_probabilities_are_those_of_the_tokens_that_stand(judged: Judged) -> None:
    (prompt, *_), draft = judged.prompts, list(range(10, 22))
    (reply,) = decode_batch(judged.model, [prompt], Speculative(BUDGET, tau_slm=1e-9), [0], [draft])
    assert list(reply.ids[:12]) == draft
    read = torch.cat((prompt, judged.model.language_model.embed(torch.tensor(reply.ids))))[None]
    logits = judged.model.language_model.logits(judged.model.language_model(read))[0, len(prompt) - 1 : -1]
    expected = logits.log_softmax(-1).gather(-1, torch.tensor(reply.ids)[:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-5, rtol=0)


def test_a_draft_for_a_greedy_row_is_refused(judged: Judged) -> None:
    with pytest.raises(OptionError, match="a draft was given to Greedy"):
        decode_batch(judged.model, judged.prompts[:1], Greedy(BUDGET), [0], drafts=[[1]])


def test_a_draft_outside_the_vocabulary_is_our_mistake(judged: Judged) -> None:
    with pytest.raises(AssertionError, match="tokens"):
        decode_batch(judged.model, judged.prompts[:1], Speculative(BUDGET), [0], drafts=[[VOCABULARY]])


def test_logits_held_in_chunks_give_the_same_predictions(judged: Judged, monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = torch.randn(10, 64, generator=torch.Generator().manual_seed(0))
    whole = verify(judged.model.language_model, hidden, range(10))
    monkeypatch.setattr(speculative, "CHUNK", 3)
    chunked = verify(judged.model.language_model, hidden, range(10))
    assert [prediction.token for prediction in chunked] == [prediction.token for prediction in whole]
    torch.testing.assert_close(torch.tensor(chunked), torch.tensor(whole))


def test_a_draft_may_go_unverified_where_no_frame_is_in_doubt() -> None:
    logits = 3.0 * torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([6, 1, 3, 4])
    worst = [
        max(-sum(p * math.log(p) for p in frame.softmax(-1).tolist()) for frame in row[:n])
        for row, n in zip(logits, lengths.tolist(), strict=True)
    ]
    for tau_ctc in (0.0, *(value + shift for value in worst for shift in (-1e-3, 1e-3)), 2.0):
        assert confident(logits, lengths, tau_ctc) == [value <= tau_ctc for value in worst]


def test_a_certain_frame_has_no_entropy_at_all() -> None:
    logits = torch.full((1, 2, 4), -math.inf)
    logits[..., 1] = 0.0
    assert confident(logits, torch.tensor([2]), 0.0) == [True]


def test_a_draft_that_never_holds_is_read_less_and_less() -> None:
    draft = Draft(range(100, 200), Speculative(lookahead=16), chr)
    never = Prediction(token=7, logprob=-1.0, proposed_logprob=-9.0)
    sizes = []
    for _ in range(8):
        proposal = draft.propose(draft.lookahead + 1)
        assert draft.accept(proposal, [never] * len(proposal)) == 0
        sizes.append(len(proposal))
    assert sizes == [17, 17, 9, 5, 3, 2, 1, 1]
    proposal = draft.propose(1)
    assert draft.accept(proposal, [Prediction(proposal[0], -0.1, -0.1)]) == 1
    assert draft.lookahead == 16
