"""Options: what is refused, and with which words."""

from __future__ import annotations

from typing import Any

import pytest

from lithophone.decode.options import BeamSearch, Budget, Greedy, Sampling, Speculative
from lithophone.errors import OptionError


@pytest.mark.parametrize("kind", [Greedy, Speculative, Sampling, BeamSearch])
@pytest.mark.parametrize("values", [{"max_new_tokens": 0}, {"max_new_tokens_per_30s": -1}, {"max_new_tokens": 2.5}])
def test_every_decoder_refuses_an_impossible_budget(kind: type[Budget], values: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match="at least 1"):
        kind(**values)


@pytest.mark.parametrize(
    ("kind", "name", "values", "allowed"),
    [
        (Speculative, "tau_ctc", (-0.1, "0.5", True, float("nan")), "0 nats or more"),
        (Speculative, "tau_slm", (0, 1.5, -1.0, float("nan")), "above 0 and at most 1"),
        (Speculative, "lookahead", (0, 1.5, None), "at least 1"),
        (Sampling, "temperature", (0, -1.0, float("inf"), float("nan"), None), "above 0"),
        (Sampling, "top_p", (0.0, 1.1, None), "above 0 and at most 1"),
        (Sampling, "top_k", (0, 2.0, True), "at least 1"),
        (Sampling, "seed", (-1, 0.5, None), "at least 0"),
        (BeamSearch, "num_beams", (1, 0, 2.0), "at least 2"),
        (BeamSearch, "length_penalty", (11, float("nan"), None), "from -10 to 10"),
        (BeamSearch, "keyword_boost", (-0.1, float("inf"), None), "0 nats or more"),
        (BeamSearch, "future_cost", (-0.1, float("nan"), None), "0 nats or more"),
    ],
)
def test_values_out_of_range_are_refused_by_name(
    kind: type[Budget], name: str, values: tuple[Any, ...], allowed: str
) -> None:
    for value in values:
        with pytest.raises(OptionError, match=f"{name} is .*: it must be .*{allowed}"):
            kind(**{name: value})


def test_the_ends_of_the_ranges_are_allowed() -> None:
    assert Speculative(5, tau_ctc=0, tau_slm=1, lookahead=1).max_new_tokens == 5
    assert Sampling(temperature=1e-6, top_p=1, top_k=1).seed == 0
    assert BeamSearch(num_beams=2, length_penalty=-10).length_penalty == -10
