"""The language model: its cache, its masks, its multipliers, its gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lithophone.model.config import TextConfig
from lithophone.model.granite import GraniteForCausalLM, pad_rows
from lithophone.model.rotary import rotary_tables, rotate
from tests.tiny import VOCABULARY, randomise, tiny_config


def text_config(kind: str = "base") -> TextConfig:
    return tiny_config(kind).text_config


@pytest.fixture(scope="module", params=["base", "plus", "wide"])
def lm(request: pytest.FixtureRequest) -> GraniteForCausalLM:
    return randomise(GraniteForCausalLM(text_config(request.param))).requires_grad_(False)


def random_rows(lm: GraniteForCausalLM, *lengths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [lm.embed(torch.randint(VOCABULARY, (n,), generator=generator)) for n in lengths]


def test_probabilities_equal_those_of_the_granite_reference(lm: GraniteForCausalLM) -> None:
    from transformers import GraniteConfig
    from transformers import GraniteForCausalLM as Reference

    reference = Reference(GraniteConfig(**lm.config.to_dict())).eval()
    state = lm.state_dict()
    reference.load_state_dict({"lm_head.weight": state["model.embed_tokens.weight"]} | state)
    ids = torch.randint(VOCABULARY, (1, 50), generator=torch.Generator().manual_seed(3))
    ours = lm.logits(lm(lm.embed(ids)))
    torch.testing.assert_close(ours, reference(input_ids=ids).logits, atol=1e-5, rtol=0)


def test_a_cache_changes_nothing(lm: GraniteForCausalLM) -> None:
    (row,) = random_rows(lm, 20)
    whole = lm(row[None])
    cache = lm.new_cache(1, 20)
    pieces = [lm(row[None, start:end], cache) for start, end in ((0, 7), (7, 8), (8, 9), (9, 15), (15, 20))]
    torch.testing.assert_close(torch.cat(pieces, dim=1), whole, atol=1e-5, rtol=0)


def test_ragged_rows_equal_each_alone_through_prefill_steps_and_selection(lm: GraniteForCausalLM) -> None:
    rows, steps = random_rows(lm, 5, 9, 1, 7), random_rows(lm, 3, 3, 3, 3)
    padded, lengths = pad_rows(rows)
    cache = lm.new_cache(4, 12)
    hidden = lm(padded, cache, lengths=lengths)
    last = hidden[torch.arange(4), lengths - 1]
    first = lm(torch.stack(steps)[:, :1], cache)[:, 0]
    cache.select([3, 0])
    then = lm(torch.stack(steps)[[3, 0], 1:], cache)
    alone = [lm(torch.cat((row, step))[None])[0] for row, step in zip(rows, steps, strict=True)]
    assert cache.lengths.tolist() == [10, 8]
    for i, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(last[i], alone[i][n - 1], atol=1e-5, rtol=0)
        torch.testing.assert_close(first[i], alone[i][n], atol=1e-5, rtol=0)
    for kept, i in enumerate((3, 0)):
        torch.testing.assert_close(then[kept], alone[i][-2:], atol=1e-5, rtol=0)


def test_a_rewound_cache_forgets(lm: GraniteForCausalLM) -> None:
    draft, truth = random_rows(lm, 8, 8)
    cache = lm.new_cache(1, 16)
    lm(truth[None, :4], cache)
    lm(draft[None, 4:], cache)
    cache.rewind(torch.tensor([4]))
    torch.testing.assert_close(lm(truth[None, 4:], cache), lm(truth[None])[:, 4:], atol=1e-5, rtol=0)


def test_padding_of_a_single_row_is_not_kept(lm: GraniteForCausalLM) -> None:
    (row,) = random_rows(lm, 7)
    cache = lm.new_cache(1, 8)
    lm(torch.cat((row[:5], row[:1]))[None], cache, lengths=torch.tensor([5]))
    pieces = [lm(row[None, i : i + 1], cache) for i in (5, 6)]
    torch.testing.assert_close(torch.cat(pieces, dim=1), lm(row[None])[:, 5:], atol=1e-5, rtol=0)


def test_a_full_cache_is_our_mistake(lm: GraniteForCausalLM) -> None:
    (row,) = random_rows(lm, 5)
    with pytest.raises(AssertionError, match="holds 4 positions, 5 are needed"):
        lm(row[None], lm.new_cache(1, 4))


def test_padding_is_never_seen_with_or_without_a_causal_mask(lm: GraniteForCausalLM) -> None:
    rows = random_rows(lm, 6, 3)
    padded, lengths = pad_rows(rows)
    padded[1, 3:] = 7.0
    for causal in (True, False):
        batch = lm(padded, lengths=lengths, causal=causal)
        torch.testing.assert_close(batch[1, :3], lm(rows[1][None], causal=causal)[0], atol=1e-5, rtol=0)


def test_causal_sees_the_past_only_and_the_other_way_all(lm: GraniteForCausalLM) -> None:
    (row,) = random_rows(lm, 6)
    changed = row.clone()
    changed[-1] += 1.0
    difference = [(lm(row[None], causal=c) - lm(changed[None], causal=c))[0, :-1].abs().max() for c in (True, False)]
    assert difference[0] == 0.0
    assert difference[1] > 1e-3


def test_positions_turn_the_keys_by_their_distance_alone() -> None:
    narrow = replace(text_config(), hidden_size=32, num_attention_heads=4, rope_theta=500.0)
    x = torch.randn(2, 1, 1, 8, generator=torch.Generator().manual_seed(4))
    near = [rotate(x[i : i + 1], *rotary_tables(torch.tensor([[p]]), narrow)) for i, p in ((0, 3), (1, 5))]
    far = [rotate(x[i : i + 1], *rotary_tables(torch.tensor([[p]]), narrow)) for i, p in ((0, 103), (1, 105))]
    torch.testing.assert_close((near[0] * near[1]).sum(), (far[0] * far[1]).sum(), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "name", ["embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling", "rope_theta"]
)
def test_every_number_of_the_configuration_counts(name: str) -> None:
    config = text_config()
    changed = replace(config, **{name: 2.0 * getattr(config, name)})
    lm, other = (randomise(GraniteForCausalLM(c)).requires_grad_(False) for c in (config, changed))
    ids = torch.arange(10)[None]
    assert not torch.allclose(lm.logits(lm(lm.embed(ids))), other.logits(other(other.embed(ids))), atol=1e-3)


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_every_parameter_learns_from_a_padded_batch(kind: str) -> None:
    lm = randomise(GraniteForCausalLM(text_config(kind))).train()
    embeddings, lengths = pad_rows(random_rows(lm, 6, 4))
    lm.logits(lm(embeddings, lengths=lengths)).logsumexp(-1).sum().backward()
    assert [name for name, p in lm.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_tied_head_is_no_parameter_of_its_own() -> None:
    tied, untied = (set(GraniteForCausalLM(text_config(kind)).state_dict()) for kind in ("plus", "base"))
    assert untied - tied == {"lm_head.weight"}


def test_bfloat16_runs_and_stays_near() -> None:
    lm = randomise(GraniteForCausalLM(text_config())).requires_grad_(False)
    ids = torch.arange(20)[None]
    exact = lm(lm.embed(ids))
    lm.to(torch.bfloat16)
    hidden = lm(lm.embed(ids), lm.new_cache(1, 20))
    assert hidden.dtype == torch.bfloat16
    assert (hidden.float() - exact).abs().mean() < 0.1
