"""Continuous batching: requests join and leave, and every one is answered as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch

from lithophone.ctc.prefix_score import PrefixScorer
from lithophone.decode.beam import beam_decode
from lithophone.decode.ctc_scorer import CTCScorer, Pronunciation
from lithophone.decode.greedy import greedy_decode
from lithophone.decode.options import CTC, BeamSearch, Edit, Greedy, Sampling, Speculative
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import DecodeRequest, Options, Scheduler, decode_batch, row_count
from lithophone.errors import OptionError
from lithophone.model.speech import GraniteSpeech
from tests.decode.lively import assert_same_replies, lively_model, prompts_for

BUDGET = 24
JOINT = BeamSearch(BUDGET, num_beams=3, ctc_weight=0.4, future_cost=0.2)
JOINT_GREEDY = Greedy(BUDGET, ctc_weight=0.4, future_cost=0.2)
KINDS: list[Options] = [
    Greedy(BUDGET), Speculative(BUDGET), BeamSearch(BUDGET, num_beams=3), Sampling(BUDGET, seed=4), JOINT, JOINT_GREEDY,
    Speculative(BUDGET, tau_slm=0.05, lookahead=3),
]  # fmt: skip
COUNT = 2 * len(KINDS)
ROWS = sum(map(row_count, KINDS)) * 2


@pytest.fixture(scope="module")
def model() -> GraniteSpeech:
    return lively_model()


@pytest.fixture(params=[False, True], ids=["growing", "static"])
def fixed(request: pytest.FixtureRequest) -> bool:
    """Whether steps have static shapes, as on a GPU."""
    return bool(request.param)


def pronounce(ids: Sequence[int]) -> Pronunciation:
    """Every token is a label of its own but every seventh, which has none."""
    return Pronunciation([1 + i for i in ids if i % 7], sum(i % 7 == 0 for i in ids))


def propose(labels: Sequence[int], first: bool) -> list[int]:
    return [label - 1 for label in labels[:1]]


def scorer(seed: int) -> CTCScorer:
    logits = 2.0 * torch.randn(20, 100, generator=torch.Generator().manual_seed(seed))
    return CTCScorer(PrefixScorer(logits.log_softmax(-1)), pronounce, propose)


@pytest.fixture(scope="module")
def requests(model: GraniteSpeech) -> list[DecodeRequest]:
    """Requests of every kind, of many lengths, and with drafts that are partly right."""
    prompts = prompts_for(model, COUNT, seed=5)
    greedy = decode_batch(model, prompts, Greedy(BUDGET), [0] * len(prompts))
    return [
        DecodeRequest(
            prompt, 0, options,
            draft=[*reply.ids[:4], 7, *reply.ids[5:]] if isinstance(options, Speculative) else [],
            scorer=scorer(i) if options in (JOINT, JOINT_GREEDY) else None,
        )
        for i, (prompt, reply, options) in enumerate(zip(prompts, greedy, KINDS * 2, strict=True))
    ]  # fmt: skip


def single(model: GraniteSpeech, request: DecodeRequest) -> Reply:
    return next(Scheduler(model, row_count(request.options)).run([(0, request)]))[1]


@pytest.fixture(scope="module")
def alone(model: GraniteSpeech, requests: list[DecodeRequest]) -> list[Reply]:
    return [single(model, request) for request in requests]


def finish(scheduler: Scheduler) -> None:
    while scheduler.busy:
        scheduler.step()


def assert_clean(scheduler: Scheduler) -> None:
    assert not scheduler.busy
    assert scheduler.room == scheduler.max_rows
    assert len(scheduler.batch.cache.lengths) == 0


def test_alone_they_are_answered_as_by_the_slow_decoders(
    model: GraniteSpeech, requests: list[DecodeRequest], alone: list[Reply]
) -> None:
    for request, reply in zip(requests, alone, strict=True):
        if request.scorer or isinstance(request.options, BeamSearch):
            assert isinstance(request.options, Greedy | BeamSearch)
            judged = beam_decode(model, request.prompt, request.options, 0, request.scorer)
            assert reply.passes == judged.passes
        elif isinstance(request.options, Sampling) or request.options == KINDS[-1]:
            continue
        else:
            judged = greedy_decode(model, request.prompt, Greedy(BUDGET), 0)
        assert_same_replies([reply], [judged])
    assert {reply.finished for reply in alone} == {True, False}


def test_requests_of_all_kinds_in_one_batch_are_answered_as_if_alone(
    model: GraniteSpeech, requests: list[DecodeRequest], alone: list[Reply], fixed: bool
) -> None:
    scheduler = Scheduler(model, ROWS, fixed=fixed)
    groups = [scheduler.submit(request) for request in requests]
    scheduler.step()
    assert not scheduler.waiting, "all of them share the first pass"
    finish(scheduler)
    replies = [group.reply() for group in groups]
    assert_same_replies(replies, alone)
    for reply, other in zip(replies, alone, strict=True):
        assert (reply.drafted, reply.accepted, reply.passes) == (other.drafted, other.accepted, other.passes)
    assert_clean(scheduler)


@pytest.mark.parametrize("gap", [1, 3])
def test_requests_that_join_in_mid_flight_are_answered_as_if_alone(
    model: GraniteSpeech, requests: list[DecodeRequest], alone: list[Reply], gap: int, fixed: bool
) -> None:
    scheduler = Scheduler(model, ROWS, fixed=fixed)
    groups = []
    for request in requests:
        groups.append(scheduler.submit(request))
        for _ in range(gap):
            scheduler.step()
    finish(scheduler)
    assert_same_replies([group.reply() for group in groups], alone)
    assert_clean(scheduler)


def test_no_more_rows_than_allowed_and_requests_read_when_there_is_room(
    model: GraniteSpeech, requests: list[DecodeRequest], alone: list[Reply], fixed: bool
) -> None:
    scheduler, taken, answered = Scheduler(model, 4, fixed=fixed), 0, {}

    def coming() -> Iterator[tuple[int, DecodeRequest]]:
        nonlocal taken
        for key, request in enumerate(requests):
            assert scheduler.room > 0
            taken += 1
            yield key, request

    most = 0
    for key, reply in scheduler.run(coming()):
        answered[key] = reply
        most = max(most, len(scheduler.batch.cache.lengths))
        assert sum(group.max_rows for group in scheduler.batch.groups) <= 4
        assert taken <= len(answered) + 4, "at most as many others as there are rows have been read"
    assert most <= 4
    assert_same_replies([answered[i] for i in range(COUNT)], alone)
    assert list(answered) != list(range(COUNT)), "replies come as they finish"


def test_beams_wait_until_all_of_them_fit_and_others_go_on(model: GraniteSpeech) -> None:
    endless, search = Greedy(BUDGET), BeamSearch(BUDGET, num_beams=3)
    prompts = prompts_for(model, 3, seed=5)
    scheduler = Scheduler(model, 4)
    first, second = (scheduler.submit(DecodeRequest(prompt, 0, endless)) for prompt in prompts[:2])
    beams = scheduler.submit(DecodeRequest(prompts[2], 0, search))
    while not (first.done or second.done):
        scheduler.step()
        assert first.done or second.done or beams in scheduler.waiting, "three rows do not fit beside two"
    scheduler.step()
    assert beams not in scheduler.waiting
    finish(scheduler)
    assert_same_replies([beams.reply()], [single(model, DecodeRequest(prompts[2], 0, search))])


def test_more_beams_than_rows_are_refused(model: GraniteSpeech) -> None:
    with pytest.raises(OptionError, match=r"num_beams is 5: a pass has 4 rows \(max_rows\) at most"):
        Scheduler(model, 4).submit(DecodeRequest(model.embed([[1, 2]])[0], 0, BeamSearch(num_beams=5)))


def test_a_cancelled_request_leaves_and_disturbs_nobody(
    model: GraniteSpeech, requests: list[DecodeRequest], alone: list[Reply], fixed: bool
) -> None:
    scheduler = Scheduler(model, 10, fixed=fixed)
    groups = [scheduler.submit(request) for request in requests]
    scheduler.step()
    assert scheduler.waiting
    running = [group for group in groups if group in scheduler.batch.groups]
    gone = [running[0], next(group for group in running if group.max_rows > 1), groups[-1]]
    for group in gone:
        scheduler.cancel(group)
    finish(scheduler)
    kept = [i for i, group in enumerate(groups) if group not in gone]
    assert_same_replies([groups[i].reply() for i in kept], [alone[i] for i in kept])
    for group in gone:
        assert not group.done
        assert not group.reply().finished, "what was decoded of a cancelled request can be asked for"
    scheduler.cancel(groups[kept[0]])
    assert_clean(scheduler)


def test_an_abandoned_run_leaves_a_clean_scheduler(
    model: GraniteSpeech, requests: list[DecodeRequest], alone: list[Reply], fixed: bool
) -> None:
    scheduler = Scheduler(model, 6, fixed=fixed)
    run = scheduler.run(enumerate(requests))
    next(run)
    assert scheduler.busy
    run.close()
    assert_clean(scheduler)
    assert_same_replies([reply for _, reply in scheduler.run([(0, requests[2])])], alone[2:3])


def test_requests_that_raise_leave_a_clean_scheduler(
    model: GraniteSpeech, requests: list[DecodeRequest], fixed: bool
) -> None:
    def coming() -> Iterator[tuple[int, DecodeRequest]]:
        yield from enumerate(requests[:6])
        raise OSError("no more")

    scheduler = Scheduler(model, 3, fixed=fixed)
    with pytest.raises(OSError, match="no more"):
        list(scheduler.run(coming()))
    assert_clean(scheduler)


def test_two_interleaved_runs_get_their_own_replies(
    model: GraniteSpeech, requests: list[DecodeRequest], alone: list[Reply], fixed: bool
) -> None:
    scheduler = Scheduler(model, 5, fixed=fixed)
    half = COUNT // 2
    runs = [scheduler.run(enumerate(requests[:half])), scheduler.run(enumerate(requests[half:], start=half))]
    seen: list[dict[int, Reply]] = [{}, {}]
    for _ in range(half):
        for run, replies in zip(runs, seen, strict=True):
            key, reply = next(run)
            replies[key] = reply
    assert [list(run) for run in runs] == [[], []]
    assert [set(replies) for replies in seen] == [set(range(half)), set(range(half, COUNT))]
    assert_same_replies([(seen[0] | seen[1])[i] for i in range(COUNT)], alone)
    assert_clean(scheduler)


@pytest.mark.parametrize("kind", [Greedy(BUDGET), BeamSearch(BUDGET, num_beams=2)])
def test_requests_with_and_without_audio_take_turns_where_there_are_adapters(kind: Options) -> None:
    model = lively_model("lora")
    prompts, n_audio = prompts_for(model, 6), [0, 0, 3, 0, 3, 3]
    options = [kind, Greedy(BUDGET), kind, kind, Greedy(BUDGET), kind]
    requests = [DecodeRequest(*request) for request in zip(prompts, n_audio, options, strict=True)]
    scheduler = Scheduler(model, 12)
    groups = [scheduler.submit(request) for request in requests]
    kinds = []
    while scheduler.busy:
        scheduler.step()
        kinds += [{group.audio for group in scheduler.batch.groups}]
    assert all(len(kind) <= 1 for kind in kinds)
    alone = [single(model, request) for request in requests]
    assert_same_replies([group.reply() for group in groups], alone)
    without = [single(model, DecodeRequest(p, 0, o)) for p, o in zip(prompts, options, strict=True)]
    assert any(ours.ids != theirs.ids for ours, theirs in zip(alone, without, strict=True)), "adapters must matter"


@pytest.mark.parametrize("options", [Greedy(), BeamSearch()])
def test_a_prompt_without_room_is_answered_at_once(model: GraniteSpeech, options: Options) -> None:
    limit = model.config.text_config.max_position_embeddings
    scheduler = Scheduler(model, 2)
    full = DecodeRequest(model.embed([[1] * limit])[0], 0, options)
    group = scheduler.submit(full)
    assert group.done
    assert not scheduler.busy
    assert group.reply() == Reply((), False, ())
    assert [reply for _, reply in scheduler.run(enumerate([full] * 5))] == [Reply((), False, ())] * 5


@pytest.mark.parametrize("options", [Greedy(), Speculative(), BeamSearch(num_beams=2)])
def test_the_budget_grows_with_the_labels_of_the_encoder(model: GraniteSpeech, options: Options) -> None:
    (prompt,) = prompts_for(model, 1)
    scheduler = Scheduler(model, 2)
    budgets = [scheduler.submit(DecodeRequest(prompt, 300, options, expected_labels=n)).budget for n in (0, 160, 161)]
    assert budgets == [200, 200, 202]


@pytest.mark.parametrize("max_rows", [0, -1, 2.0])
def test_a_scheduler_needs_room_for_a_row(model: GraniteSpeech, max_rows: int) -> None:
    with pytest.raises(OptionError, match=r"max_rows is .*at least 1"):
        Scheduler(model, max_rows)


@pytest.mark.parametrize("options", [CTC(), Edit()])
def test_decoders_without_a_prompt_are_refused(model: GraniteSpeech, options: Any) -> None:
    with pytest.raises(OptionError, match="decodes no prompt"):
        DecodeRequest(model.embed([[1, 2]])[0], 0, options)


def test_joint_scores_need_a_scorer(model: GraniteSpeech) -> None:
    with pytest.raises(AssertionError, match="needs a scorer"):
        Scheduler(model, 3).submit(DecodeRequest(model.embed([[1, 2]])[0], 0, JOINT))
