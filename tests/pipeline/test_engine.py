"""The engine: requests of every kind share batches and give what they give alone; callers do not disturb each other."""

from __future__ import annotations

import math
import random
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from lithophone.checkpoint import Checkpoint
from lithophone.decode.reply import reply_budget
from lithophone.decode.sequences import RunningBatch
from lithophone.errors import PromptError
from lithophone.model.conformer import EncoderBias
from lithophone.model.heads import BPEHead
from lithophone.model.speech import GraniteSpeech
from lithophone.pipeline import engine as engine_module
from lithophone.pipeline.encoding import EncodedBatch, batch_bias
from lithophone.pipeline.engine import ENCODED_S, FIRST_WEIGHT, Engine, Pending
from lithophone.pipeline.options import TranscribeOptions
from lithophone.pipeline.request import Request, resolve_request
from lithophone.pipeline.utterance import Utterance, WindowResult
from tests.sounds import tone
from tests.tiny import GENERATIONS, randomise
from tests.tiny_checkpoint import spelling_checkpoint, tiny_nar_checkpoint

RATE_HZ = 16_000


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return spelling_checkpoint()


@pytest.fixture(scope="module")
def characters_only(checkpoint: Checkpoint) -> Checkpoint:
    return replace(checkpoint, network=randomise(GraniteSpeech(checkpoint.config), 3))


BEAMS = {"decode": "beam", "ctc_weight": 0.3, "future_cost": 0.4}
RAW = {"punctuate": False, "max_new_tokens": 14}
EIGHT: tuple[dict[str, Any], ...] = (
    {"decode": "greedy", "ctc_weight": 0.4, "max_new_tokens": 12},
    {"decode": "speculative", "language": "fr", "word_timestamps": True, **RAW},
    {**BEAMS, "num_beams": 3, "keywords": ("stone", "granite"), "keyword_boost": 2.0, "language": "de", **RAW},
    {"decode": "sample", "seed": 5, "keywords": ("singer",), "max_new_tokens": 9},
    {"decode": "ctc", "language": "ja", "ctc_head": "characters", "word_timestamps": True},
    {**BEAMS, "num_beams": 2, "language": "pt", "word_timestamps": True, "max_new_tokens": 10},
    {"task": "translate", "to": "ja", "language": "en", "max_new_tokens": 11},
    {"decode": "speculative", "tau_slm": 0.01, "language": "es", **RAW},
)
LENGTHS_S = (1.1, 2.3, 0.7, 3.1, 1.9, 0.4, 2.7, 1.5)


def utterance(request: Request, seconds: float, number: int = 0) -> Utterance:
    samples = torch.from_numpy(tone(seconds, frequency_hz=300 + 90 * number))
    return Utterance(samples, start=1000 * number, request=request)


def utterances(checkpoint: Checkpoint, asked: Sequence[dict[str, Any]] = EIGHT, **more: Any) -> list[Utterance]:
    requests = [resolve_request(checkpoint, TranscribeOptions(**options, **more)) for options in asked]
    return [utterance(request, LENGTHS_S[i % len(LENGTHS_S)], i) for i, request in enumerate(requests)]


def decoded(engine: Engine, some: Sequence[Utterance]) -> list[WindowResult]:
    return finished(engine, [engine.submit(one) for one in some])


def finished(engine: Engine, pending: Sequence[Pending]) -> list[WindowResult]:
    while not all(one.done for one in pending):
        engine.step()
    return [one.result for one in pending if one.result is not None]


def assert_same(results: Sequence[WindowResult], expected: Sequence[WindowResult]) -> None:
    for ours, theirs in zip(results, expected, strict=True):
        assert (ours.parsed.text, ours.reply.ids, ours.reply.finished) == (
            theirs.parsed.text, theirs.reply.ids, theirs.reply.finished,
        )  # fmt: skip
        assert (ours.start_s, ours.end_s, ours.ctc_text) == (theirs.start_s, theirs.end_s, theirs.ctc_text)
        assert [(w.text, w.start_s, w.end_s) for w in ours.parsed.words] == [
            (w.text, w.start_s, w.end_s) for w in theirs.parsed.words
        ]
        assert [w.confidence for w in ours.parsed.words] == pytest.approx([w.confidence for w in theirs.parsed.words])


def alone(checkpoint: Checkpoint, some: Sequence[Utterance]) -> list[WindowResult]:
    return [decoded(Engine(checkpoint), [one])[0] for one in some]


@pytest.fixture(params=[1, 64], ids=["callers encode", "a thread encodes"])
def cores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Cores beside which the threads of torch are many, or few."""
    monkeypatch.setattr(engine_module, "usable_cpus", lambda: request.param)
    return int(request.param)


def test_eight_different_requests_in_one_batch_give_what_they_give_alone(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = utterances(checkpoint)
    expected = alone(checkpoint, some)
    batches: list[int] = []
    encode = GraniteSpeech.encode

    def counted(self: GraniteSpeech, frames: torch.Tensor, *rest: Any) -> Any:
        batches.append(len(frames))
        return encode(self, frames, *rest)

    monkeypatch.setattr(GraniteSpeech, "encode", counted)
    monkeypatch.setattr(engine_module, "ENCODED_S", 8 * 4.0)
    assert_same(decoded(Engine(checkpoint), some), expected)
    assert batches == [8]
    assert len({result.parsed.text for result in expected}) == 8
    assert any(result.parsed.words for result in expected)
    # Each is what its own request asks for: with plain options the same windows say other things.
    plain = utterances(checkpoint, [{"decode": "greedy", "max_new_tokens": 12}] * 8)
    same = [a.parsed.text == b.parsed.text for a, b in zip(expected, alone(checkpoint, plain), strict=True)]
    assert sum(same) <= 2


class Recording:
    """A key of a recording."""


def submit_all(engine: Engine, request: Request, seconds: Sequence[float]) -> list[Pending]:
    """Windows of one recording."""
    recording = Recording()
    return [engine.submit(replace(utterance(request, s, n), recording=recording)) for n, s in enumerate(seconds)]


def n_done(pending: Sequence[Pending]) -> int:
    return sum(one.done for one in pending)


def at_most(decode: str, cores: int) -> int:
    """Windows that may end before one that is next, with two places.

    With greedy: the two that run and one beside it. Where a thread encodes: those that it has encoded ahead, which fill
    the places or all but one, when another batch of two begins.
    """
    running, beside, ahead = 2, 1, 3 if cores > 1 else 0
    return ahead if decode == "ctc" else running + beside + ahead


@pytest.mark.parametrize("decode", ["ctc", "greedy"])
def test_a_short_recording_is_next_whatever_waits(checkpoint: Checkpoint, cores: int, decode: str) -> None:
    budget = {} if decode == "ctc" else {"max_new_tokens": 3}
    request = resolve_request(checkpoint, TranscribeOptions(decode=decode, batch_size=2, **budget))
    engine = Engine(checkpoint)
    long = [one for _ in range(3) for one in submit_all(engine, request, [0.5] * 12)]
    for _ in range(7):
        engine.step()
    before = n_done(long)
    finished(engine, submit_all(engine, request, [0.5]))
    assert before > 0
    assert n_done(long) - before <= at_most(decode, cores)
    finished(engine, long)


def test_recordings_that_keep_coming_do_not_stop_a_long_one(checkpoint: Checkpoint) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(decode="ctc", batch_size=1))
    engine, came = Engine(checkpoint), 0
    long = submit_all(engine, request, [0.5] * 4)
    while not all(one.done for one in long):
        submit_all(engine, request, [0.5])
        came += 1
        engine.step()
        assert came <= 4 * (FIRST_WEIGHT + 1)
    assert came > 4


def test_a_first_window_is_encoded_without_others_that_can_wait(
    checkpoint: Checkpoint, batches: list[list[float]]
) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(decode="ctc"))
    engine = Engine(checkpoint)
    finished(engine, [*submit_all(engine, request, [1.0, 1.1, 1.2]), *submit_all(engine, request, [0.9, 0.8])])
    assert batches == [[1.0, 0.9], [1.2, 1.1, 0.8]]


def test_a_batch_is_bounded_in_seconds_on_a_cpu(checkpoint: Checkpoint, batches: list[list[float]]) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(decode="ctc"))
    decoded(Engine(checkpoint), [utterance(request, seconds) for seconds in (ENCODED_S + 1, 7.0, 6.0, 7.5, 5.0)])
    assert batches == [[ENCODED_S + 1], [7.5, 7.0], [6.0, 5.0]]


def test_recordings_of_equal_length_take_turns(checkpoint: Checkpoint) -> None:
    """Whether they came one after the other or at once."""
    request = resolve_request(checkpoint, TranscribeOptions(decode="ctc", batch_size=1))
    engine, keys = Engine(checkpoint), [Recording() for _ in range(3)]
    queued = [[engine.submit(replace(utterance(request, 0.5), recording=key)) for _ in range(4)] for key in keys]
    done = []
    while engine.busy:
        engine.step()
        done.append([sum(pending.done for pending in some) for some in queued])
    assert done[-1] == [4, 4, 4]
    assert max(max(counts) - min(counts) for counts in done) == 1


@pytest.mark.usefixtures("cores")
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_the_batch_size_changes_no_word(checkpoint: Checkpoint, batch_size: int) -> None:
    expected = alone(checkpoint, utterances(checkpoint))
    assert_same(decoded(Engine(checkpoint), utterances(checkpoint, batch_size=batch_size)), expected)


def test_language_and_keywords_change_the_reply_of_the_same_sound(checkpoint: Checkpoint) -> None:
    asked = [{"language": language, "decode": "ctc", "ctc_head": "characters"} for language in ("ja", "fr", "de")]
    asked += [{**BEAMS, "keywords": words, "max_new_tokens": 12} for words in ((), ("stone",))]
    requests = [resolve_request(checkpoint, TranscribeOptions(**options)) for options in asked]
    results = decoded(Engine(checkpoint), [utterance(request, 2.0) for request in requests])
    assert len({result.parsed.text for result in results}) == len(asked)


@pytest.mark.parametrize("generation", GENERATIONS)
def test_editors_share_batches_with_ctc(generation: Any) -> None:
    checkpoint = tiny_nar_checkpoint(generation)
    asked = [{}, {"decode": "ctc"}, {"editing_steps": 3}, {"word_timestamps": True}, {}]
    some = utterances(checkpoint, asked)
    results = decoded(Engine(checkpoint), some)
    assert_same(results, alone(checkpoint, some))
    assert [result.reply.passes for result in results][1] == 0
    assert results[0].reply.passes == 1


def test_later_requests_join_those_under_way(checkpoint: Checkpoint) -> None:
    some = utterances(checkpoint)
    engine = Engine(checkpoint)
    pending = []
    for one in some:
        pending.append(engine.submit(one))
        engine.step()
    assert_same(finished(engine, pending), alone(checkpoint, some))
    assert not engine.busy


def test_no_more_are_decoded_together_than_any_of_them_allows(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[tuple[int, int]] = []
    whole = EncodedBatch.__init__

    def counted(self: EncodedBatch, checkpoint: Checkpoint, some: Sequence[Utterance]) -> None:
        sizes.append((len(some), min(one.request.batch_size for one in some)))
        whole(self, checkpoint, some)

    monkeypatch.setattr(EncodedBatch, "__init__", counted)
    asked = [{"decode": "greedy", "max_new_tokens": 4, "batch_size": size} for size in (4, 4, 1, 4, 2, 4, 4, 2)]
    some = utterances(checkpoint, asked)
    assert_same(decoded(Engine(checkpoint), some), alone(checkpoint, some))
    assert all(size <= allowed for size, allowed in sizes)
    assert max(size for size, _ in sizes) > 2


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """Seconds of the windows in each batch of the encoder, as they come."""
    found: list[list[float]] = []
    whole = EncodedBatch.__init__

    def counted(self: EncodedBatch, checkpoint: Checkpoint, some: Sequence[Utterance]) -> None:
        found.append([one.duration_s for one in some])
        whole(self, checkpoint, some)

    monkeypatch.setattr(EncodedBatch, "__init__", counted)
    return found


def test_windows_of_like_length_are_encoded_together(checkpoint: Checkpoint, batches: list[list[float]]) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(decode="ctc", batch_size=2))
    decoded(Engine(checkpoint), [utterance(request, seconds) for seconds in (1.0, 3.0, 0.5, 2.9, 1.1, 0.6)])
    assert batches == [[1.1, 1.0], [3.0, 2.9], [0.6, 0.5]]


def test_a_batch_has_little_padding(checkpoint: Checkpoint, batches: list[list[float]]) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(decode="ctc"))
    decoded(Engine(checkpoint), [utterance(request, seconds) for seconds in (8.0, 1.0, 7.5, 3.0, 4.5)])
    assert batches == [[8.0, 7.5], [4.5, 3.0, 1.0]]


@pytest.mark.usefixtures("cores")
def test_one_caller_decodes_while_another_encodes(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    request = resolve_request(checkpoint, TranscribeOptions(decode="greedy", max_new_tokens=30))
    expected = alone(checkpoint, [utterance(request, 2.0), utterance(request, 0.8, 1)])
    engine, gate, begun, encode = Engine(checkpoint), threading.Event(), threading.Event(), EncodedBatch.__init__
    first = engine.submit(utterance(request, 2.0))
    engine.step()

    def held(*args: Any) -> None:
        begun.set()
        assert gate.wait(30)
        encode(*args)

    monkeypatch.setattr(EncodedBatch, "__init__", held)
    second = engine.submit(utterance(request, 0.8, 1))
    encoding = threading.Thread(target=engine.step)
    encoding.start()
    assert begun.wait(30)
    assert_same(finished(engine, [first]), expected[:1])
    idle = threading.Thread(target=engine.step)
    idle.start()
    idle.join(0.2)
    assert idle.is_alive(), "it waits for the encoder"
    gate.set()
    idle.join(30)
    encoding.join(30)
    assert_same(finished(engine, [second]), expected[1:])
    assert not engine.busy


def test_a_batch_is_encoded_while_another_is_decoded(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "usable_cpus", lambda: 64)
    some = utterances(checkpoint, [{"decode": "greedy", "max_new_tokens": 12}] * 4, batch_size=2)
    expected = alone(checkpoint, some)
    third, encode, advance = threading.Event(), EncodedBatch.__init__, RunningBatch.advance
    encodings, passes = [], []

    def held(*args: Any) -> None:
        encodings.append(threading.current_thread() is threading.main_thread())
        assert len(encodings) == 1 or third.wait(30), "the language model makes passes meanwhile"
        encode(*args)

    def counted(self: RunningBatch) -> None:
        advance(self)
        passes.append(len(self.groups))
        if len(passes) == 3:
            third.set()

    monkeypatch.setattr(EncodedBatch, "__init__", held)
    monkeypatch.setattr(RunningBatch, "advance", counted)
    assert_same(decoded(Engine(checkpoint), some), expected)
    assert len(encodings) > 1
    assert not any(encodings)


@pytest.mark.parametrize("decode", ["greedy", "beam", "ctc"])
def test_what_is_decoded_together_does_not_depend_on_time(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, decode: str
) -> None:
    monkeypatch.setattr(engine_module, "usable_cpus", lambda: 64)
    options = {"decode": decode} if decode == "ctc" else {"decode": decode, "max_new_tokens": 6}
    some = utterances(checkpoint, [options] * 16, batch_size=3)
    encode, advance, drawn = EncodedBatch.__init__, RunningBatch.advance, random.Random(0)

    def run(longest_s: float) -> tuple[list[Any], list[Any]]:
        batches: list[Any] = []
        passes: list[Any] = []

        def slow(self: EncodedBatch, checkpoint: Checkpoint, utterances: Sequence[Utterance]) -> None:
            time.sleep(drawn.uniform(0, longest_s))
            batches.append([one.start for one in utterances])
            encode(self, checkpoint, utterances)

        def counted(self: RunningBatch) -> None:
            time.sleep(drawn.uniform(0, longest_s) / 4)
            passes.append([len(group.prompt) for group in self.groups])
            advance(self)

        with monkeypatch.context() as patch:
            patch.setattr(EncodedBatch, "__init__", slow)
            patch.setattr(RunningBatch, "advance", counted)
            results = decoded(Engine(checkpoint), some)
        return [batches, passes], [(one.reply, one.ctc_confidence) for one in results]

    first = run(0.0)
    assert [run(0.02), run(0.005)] == [first, first]


@pytest.mark.usefixtures("cores")
def test_a_cancelled_utterance_is_gone_wherever_it_is(checkpoint: Checkpoint) -> None:
    some = utterances(checkpoint, [{"decode": "greedy", "max_new_tokens": 30, "batch_size": 2}] * 6)
    expected = alone(checkpoint, some)
    for n_steps in range(4):
        engine = Engine(checkpoint)
        pending = [engine.submit(one) for one in some]
        for _ in range(n_steps):
            engine.step()
        for one in (pending[0], pending[3], pending[5]):
            engine.cancel(one)
        assert_same(finished(engine, [pending[i] for i in (1, 2, 4)]), [expected[i] for i in (1, 2, 4)])
        assert not engine.busy
        assert not pending[3].done


class BreakError(Exception):
    """Something that no code expects."""


@pytest.mark.usefixtures("cores")
def test_after_an_error_of_the_model_what_was_under_way_starts_over(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = utterances(checkpoint)
    expected = alone(checkpoint, some)
    logits, encode = type(checkpoint.model.language_model).logits, GraniteSpeech.encode
    for method, number in (("logits", 1), ("logits", 9), ("encode", 1), ("encode", 2)):
        calls = iter(range(1, 1000))
        kind = GraniteSpeech if method == "encode" else type(checkpoint.model.language_model)
        whole: Any = encode if method == "encode" else logits

        def failing(self: Any, *rest: Any, calls: Iterator[int] = calls, n: int = number, whole: Any = whole) -> Any:
            if next(calls) == n:
                raise BreakError
            return whole(self, *rest)

        engine = Engine(checkpoint)
        pending = [engine.submit(one) for one in some[:5]]
        with monkeypatch.context() as patch:
            patch.setattr(kind, method, failing)
            with pytest.raises(BreakError):
                finished(engine, pending) and finished(engine, [engine.submit(one) for one in some[5:]])
        assert_same(finished(engine, pending), expected[:5])


@pytest.mark.usefixtures("cores")
def test_threads_share_an_engine(checkpoint: Checkpoint) -> None:
    some = utterances(checkpoint)
    expected = alone(checkpoint, some)
    engine = Engine(checkpoint)
    results: dict[int, list[WindowResult]] = {}

    def run(number: int) -> None:
        order = random.Random(number).sample(range(8), 8)
        found = dict(zip(order, decoded(engine, [some[i] for i in order]), strict=True))
        results[number] = [found[i] for i in range(8)]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == [0, 1, 2, 3]
    for found in results.values():
        assert_same(found, expected)
    assert not engine.busy


def test_a_window_that_leaves_no_room_is_refused(checkpoint: Checkpoint) -> None:
    request = resolve_request(checkpoint, TranscribeOptions())
    engine = Engine(checkpoint)
    with pytest.raises(PromptError, match="lower limit_s"):
        engine.submit(utterance(request, 59.0))
    assert not engine.busy


# --- what follows from the encoder


def test_a_draft_changes_no_word(checkpoint: Checkpoint, characters_only: Checkpoint) -> None:
    for model in (checkpoint, characters_only):
        for more in ({}, {"punctuate": False}, {"keywords": ("stone",)}):
            asked = [{"decode": name, "max_new_tokens": 20, **more} for name in ("speculative", "greedy")]
            some = [
                utterance(resolve_request(model, TranscribeOptions(**options)), seconds)
                for seconds in (2.0, 0.8)
                for options in asked
            ]
            drafted, greedy, drafted_2, greedy_2 = decoded(Engine(model), some)
            assert drafted.reply.ids == greedy.reply.ids
            assert drafted_2.reply.ids == greedy_2.reply.ids
            assert drafted.reply.drafted > 0
            assert greedy.reply.drafted == 0


def test_a_good_draft_saves_passes(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TranscribeOptions(decode="greedy", max_new_tokens=20)
    [greedy] = decoded(Engine(checkpoint), [utterance(resolve_request(checkpoint, options), 2.0)])
    nearly = list(greedy.reply.ids)
    nearly[7] += 1
    monkeypatch.setattr(EncodedBatch, "draft", lambda self, row: nearly)
    request = resolve_request(checkpoint, TranscribeOptions(decode="speculative", max_new_tokens=20))
    [drafted] = decoded(Engine(checkpoint), [utterance(request, 2.0)])
    assert drafted.reply.ids == greedy.reply.ids
    assert drafted.reply.passes < greedy.reply.passes / 3


def test_a_confident_draft_is_the_reply(checkpoint: Checkpoint) -> None:
    raw = {"decode": "speculative", "punctuate": False, "max_new_tokens": 20}
    asked = [{**raw, "tau_ctc": 99.0}, {**raw, "tau_ctc": 0.0}, {"decode": "ctc"}, raw]
    requests = [resolve_request(checkpoint, TranscribeOptions(**options)) for options in asked]
    sure, unsure, ctc, drafted = decoded(Engine(checkpoint), [utterance(request, 2.0) for request in requests])
    assert sure.parsed.text == ctc.parsed.text != drafted.parsed.text
    assert sure.reply.passes == 0
    assert unsure.reply.ids == drafted.reply.ids


def with_silent_head(checkpoint: Checkpoint) -> Checkpoint:
    """The same model; its BPE head has blanks alone."""
    model = randomise(GraniteSpeech(checkpoint.config, checkpoint.config.text_config.vocab_size + 1), 3)
    head = model.bpe_head
    assert isinstance(head, BPEHead)
    head.bias.data[0] = 1e4
    return replace(checkpoint, network=model)


def test_an_empty_draft_is_never_the_reply(checkpoint: Checkpoint) -> None:
    model = with_silent_head(checkpoint)
    options = TranscribeOptions(decode="speculative", punctuate=False, tau_ctc=99.0, max_new_tokens=5)
    [result] = decoded(Engine(model), [utterance(resolve_request(model, options), 1.0)])
    assert len(result.reply.ids) == 5


def test_biases_of_rows_become_that_of_the_batch() -> None:
    one = EncoderBias(torch.ones(1, 1, 4), torch.full((1, 1, 4), 2.0))
    two = EncoderBias(torch.full((1, 1, 4), 3.0))
    assert batch_bias([None, None]) is None
    both = batch_bias([None, one, two])
    assert both is not None
    assert both.language_id is not None
    assert both.penalty[:, 0, 0].tolist() == [0.0, 1.0, 3.0]
    assert both.language_id[:, 0, 0].tolist() == [0.0, 2.0, 0.0]
    plain = batch_bias([two, None])
    assert plain is not None
    assert plain.language_id is None


def test_the_default_budget_grows_with_the_labels_of_the_encoder(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lithophone.ctc.posteriors.Posteriors.labels", [ord("a")] * 400)
    asked = ({}, {"max_new_tokens": 5})
    requests = [resolve_request(checkpoint, TranscribeOptions(decode="greedy", **more)) for more in asked]
    dense, bounded = (
        EncodedBatch(checkpoint, [utterance(request, 1.0)]).decode_requests([0])[0] for request in requests
    )
    assert dense.expected_labels == 400
    assert reply_budget(checkpoint.model, 10, dense.options, 10, dense.expected_labels) > 200
    assert reply_budget(checkpoint.model, 10, bounded.options, 10, bounded.expected_labels) == 5


@pytest.fixture
def six_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder has few labels, so that `max_new_tokens_per_30s` alone is the budget."""
    monkeypatch.setattr("lithophone.ctc.posteriors.Posteriors.labels", [ord("a")] * 4)


def with_budget(checkpoint: Checkpoint, decode: str, **budget: int) -> Utterance:
    request = resolve_request(checkpoint, TranscribeOptions(decode=decode, seed=4 if decode == "sample" else None))
    decoder = replace(request.decoder, **budget)  # type: ignore[arg-type]
    return utterance(replace(request, decoder=decoder, is_budget_given="max_new_tokens" in budget), 1.0)


@pytest.mark.usefixtures("six_tokens")
@pytest.mark.parametrize("decode", ["greedy", "speculative", "sample", "beam"])
def test_a_cut_reply_is_decoded_once_more_with_twice_its_budget(checkpoint: Checkpoint, decode: str) -> None:
    short = with_budget(checkpoint, decode, max_new_tokens_per_30s=6)
    given = with_budget(checkpoint, decode, max_new_tokens=12)
    retried, as_given = decoded(Engine(checkpoint), [short, given])
    assert len(retried.reply.ids) == 12
    assert retried.reply.ids == as_given.reply.ids


@pytest.mark.usefixtures("six_tokens")
def test_a_loop_is_not_decoded_once_more(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lithophone.pipeline.engine.loops", lambda ids: True)
    [result] = decoded(Engine(checkpoint), [with_budget(checkpoint, "greedy", max_new_tokens_per_30s=6)])
    assert len(result.reply.ids) == 6
    assert not result.reply.finished


@pytest.mark.usefixtures("six_tokens")
def test_a_model_without_more_positions_is_not_asked_again(checkpoint: Checkpoint) -> None:
    short = with_budget(checkpoint, "greedy", max_new_tokens_per_30s=6)
    prompt = len(EncodedBatch(checkpoint, [short]).decode_requests([0])[0].prompt)
    text = replace(checkpoint.config.text_config, max_position_embeddings=prompt + 6)
    small = replace(checkpoint, config=replace(checkpoint.config, text_config=text))
    model = randomise(GraniteSpeech(small.config, bpe_labels=text.vocab_size + 1), 3)
    engine = Engine(replace(small, network=model))
    pending = engine.submit(short)
    for _ in range(6):
        engine.step()
    assert pending.result is not None
    assert len(pending.result.reply.ids) == 6


def test_results_have_the_mean_posterior_of_the_best_path(checkpoint: Checkpoint) -> None:
    some = utterances(replace(checkpoint, min_confidence=0.9), EIGHT[:2])
    for one, result in zip(some, decoded(Engine(checkpoint), some), strict=True):
        path = EncodedBatch(checkpoint, [one]).characters[0].path
        assert result.ctc_confidence == pytest.approx(math.exp(sum(lp for _, lp in path) / len(path)), rel=1e-4)
        assert result.min_confidence == 0.9


def test_a_translation_has_no_confidence_of_the_character_head(checkpoint: Checkpoint) -> None:
    [result] = decoded(Engine(checkpoint), utterances(checkpoint, EIGHT[6:7]))
    assert result.ctc_confidence is None
