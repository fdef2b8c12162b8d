"""Adapters: off, on, merged, folded, named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lithophone.errors import ConfigError, OptionError
from lithophone.model.lora import (
    LoraConfig,
    add_lora,
    fold_lora,
    from_peft_name,
    has_lora,
    is_adapter,
    lora_enabled,
    merge_lora,
    to_peft_name,
    unmerge_lora,
)  # fmt: skip
from tests.tiny import LORA, audio_prompt, load_reference, reference_model, tiny_frames, tiny_model

X = torch.randn(3, 8, generator=torch.Generator().manual_seed(5))


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(8, 6)
        self.o_proj = nn.Linear(6, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.o_proj(self.q_proj(x))


@pytest.fixture
def adapted() -> Two:
    model = Two()
    assert add_lora(model, LORA) == ["q_proj"]
    nn.init.normal_(model.q_proj.lora_B.weight)
    return model.requires_grad_(False)


def test_a_new_adapter_changes_nothing_and_shares_the_weight() -> None:
    model = Two()
    weight, before = model.q_proj.weight, model(X)
    add_lora(model, LORA)
    assert model.q_proj.weight is weight
    torch.testing.assert_close(model(X), before, atol=0, rtol=0)


def test_on_is_the_formula_and_off_is_the_base(adapted: Two) -> None:
    layer = adapted.q_proj
    base = nn.functional.linear(X, layer.weight, layer.bias)
    update = LORA.alpha / LORA.rank * layer.lora_B.weight @ layer.lora_A.weight
    torch.testing.assert_close(layer(X), base + X @ update.T, atol=1e-5, rtol=0)
    with lora_enabled(adapted, False):
        torch.testing.assert_close(layer(X), base, atol=0, rtol=0)
    assert layer.enabled


def test_the_switch_goes_back_after_an_error(adapted: Two) -> None:
    with pytest.raises(RuntimeError, match="inside"), lora_enabled(adapted, False):
        raise RuntimeError("inside")
    assert adapted.q_proj.enabled


def test_merged_equals_unmerged_and_goes_back(adapted: Two) -> None:
    weight, on = adapted.q_proj.weight.clone(), adapted(X)
    merge_lora(adapted)
    merge_lora(adapted)
    torch.testing.assert_close(adapted(X), on, atol=1e-5, rtol=0)
    with pytest.raises(OptionError, match="merged and cannot be switched off"), lora_enabled(adapted, False):
        pass
    unmerge_lora(adapted)
    torch.testing.assert_close(adapted.q_proj.weight, weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(adapted(X), on, atol=1e-5, rtol=0)


def test_folding_leaves_plain_layers(adapted: Two) -> None:
    on = adapted(X)
    fold_lora(adapted)
    assert not has_lora(adapted)
    assert set(adapted.state_dict()) == set(Two().state_dict())
    torch.testing.assert_close(adapted(X), on, atol=1e-5, rtol=0)


def test_speech_model_has_adapters_on_for_audio_and_off_for_text() -> None:
    reference = reference_model("base").requires_grad_(False)
    model = tiny_model("lora").requires_grad_(False)
    plain = load_reference(tiny_model("base"), reference).requires_grad_(False)
    model.load_state_dict(plain.state_dict(), strict=False)
    frames, lengths = tiny_frames(30)
    speech, text = [audio_prompt(6)], [audio_prompt(0)]
    torch.testing.assert_close(model(text)[0], plain(text)[0], atol=0, rtol=0)
    heard = model(speech, frames, lengths)[0]
    assert (heard - plain(speech, frames, lengths)[0]).abs().max() > 1e-3
    merge_lora(model)
    torch.testing.assert_close(model(speech, frames, lengths)[0], heard, atol=1e-5, rtol=0)
    with pytest.raises(OptionError):
        model(text)


def test_names_in_files_go_both_ways() -> None:
    names = [name for name in tiny_model("lora").state_dict() if is_adapter(name)]
    assert len(names) == 3 * 2 * 2
    assert [from_peft_name(to_peft_name(name)) for name in names] == names
    assert to_peft_name(names[0]) == ("base_model.model.language_model.model.layers.0.self_attn.q_proj.lora_A.weight")


def test_newer_names_are_read_too() -> None:
    newer = "base_model.model.model.language_model.layers.2.self_attn.v_proj.lora_B.weight"
    assert from_peft_name(newer) == "language_model.model.layers.2.self_attn.v_proj.lora_B.weight"


@pytest.mark.parametrize("name", ["q_proj.lora_A.weight", "base_model.model.q_proj.weight"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no LoRA tensor"):
        from_peft_name(name)


def test_configuration_goes_both_ways() -> None:
    assert LoraConfig.from_dict(LORA.to_dict()) == LORA
    layers = ["language_model.model.layers.0.self_attn.q_proj"]
    pattern = LoraConfig.from_dict({"r": 2, "lora_alpha": 4, "target_modules": r"(.*)*layers\.\d+\..*q_proj"}, layers)
    assert pattern.targets == tuple(layers), "the layers of the file stand in place of a pattern, which is never run"
    assert pattern.matches(layers[0])
    assert not pattern.matches("encoder.q_proj")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"r": 2, "lora_alpha": 4, "target_modules": ["q"], "use_dora": True}, "use_dora=True"),
        ({"r": 2, "lora_alpha": 4, "target_modules": ["q"], "bias": "all"}, "bias='all'"),
        ({"r": 2}, "lacks lora_alpha, target_modules"),
        ({"r": 0, "lora_alpha": 4, "target_modules": ["q"]}, r"rank \(r\) is 0: it must lie in 1"),
        ({"r": "4", "lora_alpha": 4, "target_modules": ["q"]}, r"rank \(r\) is '4'"),
        ({"r": 4, "lora_alpha": None, "target_modules": ["q"]}, "alpha is None"),
        ({"r": 4, "lora_alpha": 4, "target_modules": 7}, "target_modules is 7: expected a list of names"),
    ],
)
def test_adapters_that_are_not_built_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoraConfig.from_dict(values)


def test_targets_that_match_nothing_are_refused(adapted: Two) -> None:
    with pytest.raises(ConfigError, match="no linear layer"):
        add_lora(adapted, LORA)
