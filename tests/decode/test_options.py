"""Options: what is refused, and with which words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lithophone.audio.features import FRAME_S, audio_embedding_count
from lithophone.decode.options import (
    CTC,
    EMBEDDINGS_PER_30_S,
    MAX_BEAMS,
    MAX_EDITING_STEPS,
    MAX_NATS,
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    BeamSearch,
    Budget,
    Edit,
    Greedy,
    Sampling,
    Speculative,
    check_number,
    check_whole,
    shown,
    token_budget,
)
from lithophone.errors import OptionError

NAN, INF, HUGE = math.nan, math.inf, 10**400
WITH_CTC = {"ctc_weight": 0.3}
WHOLE = [
    (Greedy, "max_new_tokens", 1), (Greedy, "max_new_tokens_per_30s", 1), (Speculative, "lookahead", 1),
    (Sampling, "top_k", 1), (Sampling, "seed", 0), (BeamSearch, "num_beams", 2), (Edit, "editing_steps", 1),
]  # fmt: skip
NUMBERS = [
    (Speculative, "tau_ctc", "from 0 to 100 nats, or None"), (Speculative, "tau_slm", "above 0 and at most 1, or None"),
    (Sampling, "temperature", "from 1e-06 to 1e"), (Sampling, "top_p", "above 0 and at most 1"),
    (BeamSearch, "length_penalty", "from -10 to 10"), (BeamSearch, "ctc_weight", "from 0 to below 1"),
    (BeamSearch, "keyword_boost", "from 0 to 100 nats"), (BeamSearch, "future_cost", "from 0 to 100 nats"),
]  # fmt: skip


@pytest.mark.parametrize("kind", [Greedy, Speculative, Sampling, BeamSearch])
@pytest.mark.parametrize("values", [{"max_new_tokens": 0}, {"max_new_tokens_per_30s": -1}, {"max_new_tokens": 2.5}])
def test_every_decoder_refuses_an_impossible_budget(kind: type[Budget], values: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="at least 1"):
        kind(**values)


@pytest.mark.parametrize(("kind", "name", "least"), WHOLE)
@pytest.mark.parametrize("value", ["2", True, 2.0, NAN, INF, -1, [2], HUGE, np.float64(2.0), b"2"])
def test_what_is_no_whole_number_in_range_is_refused_by_name(
    kind: type[Any], name: str, least: int, value: object
) -> None:
    with pytest.raises(OptionError, match=f"{name} is .*: it must be a whole number, at least {least} and at most "):
        kind(**{name: value})


@pytest.mark.parametrize(("kind", "name", "allowed"), NUMBERS)
@pytest.mark.parametrize("value", ["0.5", True, NAN, INF, -INF, -11.0, [0.5], HUGE, 1 + 1j, 1e300])
def test_what_is_no_finite_number_in_range_is_refused_by_name(
    kind: type[Any], name: str, allowed: str, value: object
) -> None:
    with pytest.raises(OptionError, match=f"{name} is .*: it must be {allowed}"):
        kind(**{name: value})


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (Speculative, "tau_ctc", (-1e-9, 100.1)),
        (Speculative, "tau_slm", (0, 1.0001)),
        (Speculative, "lookahead", (0, None)),
        (Sampling, "temperature", (0, 1e-300, 9.9e-7, 1.1e6, None)),
        (Sampling, "top_p", (0.0, 1.1, None)),
        (Sampling, "top_k", (0,)),
        (Sampling, "seed", (-1, 2**64, None)),
        (BeamSearch, "num_beams", (1, 0, MAX_BEAMS + 1, 10**9, None)),
        (BeamSearch, "length_penalty", (10.1, -10.1, None)),
        (BeamSearch, "ctc_weight", (1, -0.1, None)),
        (BeamSearch, "keyword_boost", (-0.1, 100.1, None)),
        (BeamSearch, "future_cost", (-0.1, 100.1, None)),
        (Edit, "editing_steps", (0, MAX_EDITING_STEPS + 1, None)),
    ],
)
def test_values_just_out_of_range_are_refused(kind: type[Any], name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        with pytest.raises(OptionError, match=f"{name} is .*: it must be "):
            kind(**{name: value})


def test_the_ends_of_the_ranges_are_allowed() -> None:
    assert Speculative(5, tau_ctc=0, tau_slm=1, lookahead=1).max_new_tokens == 5
    assert Speculative(tau_ctc=MAX_NATS, tau_slm=1e-300).max_new_tokens is None
    assert Sampling(temperature=MIN_TEMPERATURE, top_p=1, top_k=1).seed == 0
    assert Sampling(temperature=MAX_TEMPERATURE, seed=2**64 - 1, max_new_tokens_per_30s=1).top_p == 1
    assert BeamSearch(num_beams=2, length_penalty=-10).length_penalty == -10
    assert BeamSearch(num_beams=MAX_BEAMS, length_penalty=10, ctc_weight=0).future_cost == 0
    assert BeamSearch(ctc_weight=0.999, keyword_boost=MAX_NATS, future_cost=MAX_NATS).num_beams == 2
    assert Edit(MAX_EDITING_STEPS).editing_steps == 100


def test_a_temperature_of_zero_is_greedy_decoding_and_the_message_says_so() -> None:
    with pytest.raises(OptionError, match=r"temperature is 0: .*greedy decoding, decode='greedy'"):
        Sampling(temperature=0)


@pytest.mark.parametrize("kind", [Greedy, BeamSearch])
@pytest.mark.parametrize("name", ["keyword_boost", "future_cost"])
def test_what_needs_ctc_scores_needs_a_weight_for_them(name: str, kind: type[Any]) -> None:
    assert getattr(kind(**WITH_CTC, **{name: 0.5}), name) == 0.5
    with pytest.raises(OptionError, match=rf"{name} is 0.5 and ctc_weight 0: .*ctc_weight has to be above 0"):
        kind(**{name: 0.5})


@pytest.mark.parametrize("head", ["words", 1, "", ["bpe"], True])
def test_a_head_that_does_not_exist_is_refused(head: Any) -> None:
    with pytest.raises(OptionError, match=r"ctc_head is .*: it must be 'bpe', 'characters' or None"):
        CTC(head)


@pytest.mark.parametrize("value", [10**5000, "x" * 500, [1] * 500], ids=["digits", "text", "list"])
def test_messages_stay_short_whatever_the_value(value: object) -> None:
    assert len(shown(value)) <= 80
    for check in (
        lambda: check_whole("n", value, most=3),
        lambda: check_number("n", value, lambda _: True, "less"),
    ):
        with pytest.raises(OptionError, match=r"n is .*: it must be") as caught:
            check()
        assert len(str(caught.value)) < 200


def test_short_values_are_shown_whole() -> None:
    assert shown("x" * 78) == repr("x" * 78)
    assert shown("x" * 79) == repr("x" * 79)[:77] + "..."


@pytest.mark.parametrize(
    ("options", "n_audio", "labels", "budget"),
    [
        (Greedy(), 0, 0, 200), (Greedy(), 300, 0, 200), (Greedy(), 301, 0, 201), (Greedy(), 600, 0, 400),
        (Greedy(), 300, 160, 200), (Greedy(), 300, 161, 202), (Greedy(), 300, 480, 600), (Greedy(), 600, 480, 600),
        (Greedy(7), 600, 480, 7), (Greedy(max_new_tokens_per_30s=31), 450, 0, 47),
        (Sampling(max_new_tokens_per_30s=1), 0, 4, 5),
    ],
)  # fmt: skip
def test_the_budget_grows_with_the_audio_and_with_the_labels(
    options: Budget, n_audio: int, labels: int, budget: int
) -> None:
    assert token_budget(options, n_audio, labels) == budget


def test_thirty_seconds_have_as_many_embeddings_as_the_front_end_gives() -> None:
    """Written as a number: options are read by the command line, which must not import torch."""
    assert audio_embedding_count(round(30 / FRAME_S)) == EMBEDDINGS_PER_30_S
