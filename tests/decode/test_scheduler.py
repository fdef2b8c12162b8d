"""Continuous batching: whoever comes and goes, every row is answered as if it were alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lithophone.decode.batched import decode_batch
from lithophone.decode.options import BeamSearch, Greedy, Sampling, Speculative
from lithophone.decode.reply import Reply
from lithophone.decode.scheduler import Engine
from lithophone.decode.sequences import Request, RowOptions
from lithophone.errors import OptionError
from lithophone.model.speech import GraniteSpeech
from tests.decode.lively import assert_same_replies, lively_model, prompts_for

BUDGET = 24


@pytest.fixture(scope="module")
def model() -> GraniteSpeech:
    return lively_model()


@pytest.fixture(params=[False, True], ids=["growing", "fixed"])
def fixed(request: pytest.FixtureRequest) -> bool:
    """Whether steps have fixed shapes, as on a GPU."""
    return bool(request.param)


@pytest.fixture(scope="module")
def requests(model: GraniteSpeech) -> list[Request]:
    """Rows of every kind, of many lengths, and with drafts that are partly right."""
    prompts = prompts_for(model, 12, seed=5)
    greedy = decode_batch(model, prompts, Greedy(BUDGET), [0] * 12)
    kinds: list[RowOptions] = [
        Greedy(BUDGET), Speculative(BUDGET), Sampling(BUDGET, seed=4), Speculative(BUDGET, tau_slm=0.05, lookahead=3),
    ]  # fmt: skip
    return [
        Request(prompt, 0, options, [*reply.ids[:4], 7, *reply.ids[5:]] if isinstance(options, Speculative) else [])
        for prompt, reply, options in zip(prompts, greedy, kinds * 3, strict=True)
    ]


@pytest.fixture(scope="module")
def alone(model: GraniteSpeech, requests: list[Request]) -> list[Reply]:
    return [next(Engine(model, 1).run([(0, request)]))[1] for request in requests]


def finish(engine: Engine) -> None:
    while engine.busy:
        engine.step()


def assert_clean(engine: Engine) -> None:
    assert not engine.busy
    assert len(engine.batch.cache.lengths) == 0


def test_rows_of_all_kinds_in_one_batch_are_answered_as_if_alone(
    model: GraniteSpeech, requests: list[Request], alone: list[Reply], fixed: bool
) -> None:
    replies = dict(Engine(model, 12, fixed=fixed).run(enumerate(requests)))
    assert_same_replies([replies[i] for i in range(12)], alone)
    for i, reply in replies.items():
        assert (reply.drafted, reply.accepted, reply.passes) == (alone[i].drafted, alone[i].accepted, alone[i].passes)


@pytest.mark.parametrize("gap", [1, 3])
def test_rows_that_join_in_mid_flight_are_answered_as_if_alone(
    model: GraniteSpeech, requests: list[Request], alone: list[Reply], gap: int, fixed: bool
) -> None:
    engine = Engine(model, 12, fixed=fixed)
    rows = []
    for request in requests:
        rows.append(engine.submit(request))
        for _ in range(gap):
            engine.step()
    finish(engine)
    assert_same_replies([row.reply() for row in rows], alone)
    assert_clean(engine)


def test_no_more_rows_than_allowed_and_requests_taken_when_there_is_room(
    model: GraniteSpeech, requests: list[Request], alone: list[Reply], fixed: bool
) -> None:
    engine, taken, answered = Engine(model, 3, fixed=fixed), 0, {}

    def coming() -> Iterator[tuple[int, Request]]:
        nonlocal taken
        for key, request in enumerate(requests):
            assert len(engine.batch.rows) + len(engine.waiting) < 3, "there must be room"
            taken += 1
            yield key, request

    for key, reply in engine.run(coming()):
        answered[key] = reply
        assert taken <= len(answered) + 2, "at most two others have been taken and not been answered"
    assert_same_replies([answered[i] for i in range(12)], alone)
    assert list(answered) != list(range(12)), "replies come as they finish"


def test_a_cancelled_row_leaves_and_disturbs_nobody(
    model: GraniteSpeech, requests: list[Request], alone: list[Reply], fixed: bool
) -> None:
    engine = Engine(model, 6, fixed=fixed)
    rows = [engine.submit(request) for request in requests[:8]]
    engine.step()
    assert len(engine.waiting) == 2
    gone = [next(row for row in rows if row in engine.batch.rows), rows[7]]
    for row in gone:
        engine.cancel(row)
    finish(engine)
    kept = [i for i, row in enumerate(rows) if row not in gone]
    assert_same_replies([rows[i].reply() for i in kept], [alone[i] for i in kept])
    assert not any(row.done for row in gone)
    engine.cancel(rows[0])
    assert_clean(engine)


def test_an_abandoned_run_leaves_a_clean_engine(
    model: GraniteSpeech, requests: list[Request], alone: list[Reply], fixed: bool
) -> None:
    engine = Engine(model, 4, fixed=fixed)
    run = engine.run(enumerate(requests))
    next(run)
    assert engine.busy
    run.close()
    assert_clean(engine)
    assert_same_replies([reply for _, reply in engine.run([(0, requests[0])])], alone[:1])


def test_requests_that_raise_leave_a_clean_engine(model: GraniteSpeech, requests: list[Request], fixed: bool) -> None:
    def coming() -> Iterator[tuple[int, Request]]:
        yield from enumerate(requests[:6])
        raise OSError("no more")

    engine = Engine(model, 2, fixed=fixed)
    with pytest.raises(OSError, match="no more"):
        list(engine.run(coming()))
    assert_clean(engine)


def test_two_interleaved_runs_get_their_own_replies(
    model: GraniteSpeech, requests: list[Request], alone: list[Reply], fixed: bool
) -> None:
    engine = Engine(model, 3, fixed=fixed)
    runs = [engine.run(enumerate(requests[:6])), engine.run(enumerate(requests[6:], start=6))]
    seen: list[dict[int, Reply]] = [{}, {}]
    for _ in range(6):
        for run, replies in zip(runs, seen, strict=True):
            key, reply = next(run)
            replies[key] = reply
    assert [list(run) for run in runs] == [[], []]
    assert [set(replies) for replies in seen] == [set(range(6)), set(range(6, 12))]
    assert_same_replies([(seen[0] | seen[1])[i] for i in range(12)], alone)
    assert_clean(engine)


def test_rows_with_and_without_audio_take_turns_where_there_are_adapters() -> None:
    model = lively_model("lora")
    prompts, n_audio = prompts_for(model, 6), [0, 0, 3, 0, 3, 3]
    requests = [Request(p, n, Greedy(BUDGET)) for p, n in zip(prompts, n_audio, strict=True)]
    engine = Engine(model, 6)
    rows = [engine.submit(request) for request in requests]
    kinds = []
    while engine.busy:
        engine.step()
        kinds += [{row.audio for row in engine.batch.rows}]
    assert all(len(kind) <= 1 for kind in kinds)
    alone = [next(Engine(model, 1).run([(0, request)]))[1] for request in requests]
    assert_same_replies([row.reply() for row in rows], alone)
    one_kind = [next(Engine(model, 1).run([(0, Request(p, 0, Greedy(BUDGET)))]))[1] for p in prompts]
    assert any(ours.ids != theirs.ids for ours, theirs in zip(alone, one_kind, strict=True)), "adapters must matter"


def test_a_prompt_without_room_is_answered_at_once(model: GraniteSpeech) -> None:
    limit = model.config.text_config.max_position_embeddings
    engine = Engine(model, 1)
    row = engine.submit(Request(model.embed([[1] * limit])[0], 0, Greedy()))
    assert row.done
    assert not engine.busy
    assert row.reply() == Reply((), False, ())


@pytest.mark.parametrize("max_rows", [0, -1, 2.0])
def test_an_engine_needs_room_for_a_row(model: GraniteSpeech, max_rows: int) -> None:
    with pytest.raises(OptionError, match=r"max_rows is .*at least 1"):
        Engine(model, max_rows)


def test_beams_are_no_rows(model: GraniteSpeech) -> None:
    with pytest.raises(OptionError, match="BeamSearch cannot share passes"):
        Request(model.embed([[1, 2]])[0], 0, BeamSearch())  # type: ignore[arg-type]
