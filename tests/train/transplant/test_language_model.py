"""Whisper's decoder becomes a Granite language model that computes the same."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lithophone.errors import OptionError
from lithophone.model.granite import GraniteForCausalLM
from lithophone.model.qformer import WindowQFormer
from lithophone.train.targets.prompt_reply import Example, reply_logits
from lithophone.train.transplant import constant_audio, language_model, marks
from lithophone.train.transplant.decoder_statistics import (
    DecoderBatch,
    DecoderStatistics,
    Roots,
    low_rank,
    measure_decoder,
)
from lithophone.train.transplant.language_model import (
    MappedLayer,
    audio_embeddings,
    exact_plan,
    init_embeddings,
    init_projector,
    parse_plan,
    position_frequencies,
    projector_config,
    text_config,
    transplant_decoder,
)
from lithophone.train.transplant.marks import SPARE
from lithophone.train.transplant.positions import PositionHeads, fit_positions
from lithophone.train.transplant.statistics import centred
from lithophone.train.transplant.weights import GELU_RATE
from lithophone.train.transplant.whisper_decoder import WhisperDecoder

SIZE, HEADS, UNITS, DEPTH, N_TOKENS = 32, 2, 48, 2, 40
START, SECOND = N_TOKENS, N_TOKENS + 1
"""Ids of the tokens that Whisper lacks."""


@pytest.fixture
def decoder(monkeypatch: pytest.MonkeyPatch) -> WhisperDecoder:
    """Without what is only nearly mapped: positions, the last bias, means of embeddings, GELU; very large marks."""
    monkeypatch.setattr(marks, "AUDIO_MARK", 30.0)
    monkeypatch.setattr(marks, "TEXT_ENERGY", 1e-4)
    for name, value in {
        "CLOSED": 300.0,
        "SHUT": 600.0,
        "UNIT_OFF": 1e3,
        "NEW_DEVIATION": 1e-4,
    }.items():
        monkeypatch.setattr(language_model, name, value)
    monkeypatch.setattr(F, "gelu", lambda x: F.silu(GELU_RATE * x) / GELU_RATE)
    torch.manual_seed(3)
    decoder = WhisperDecoder(N_TOKENS, 60, SIZE, UNITS, HEADS, DEPTH).requires_grad_(False).eval()
    for name, parameter in decoder.named_parameters():
        if name.endswith("norm.weight"):
            parameter.uniform_(0.5, 1.5)
        else:
            parameter.normal_(std=0.2)
    decoder.embeddings.copy_(centred(decoder.embeddings))
    decoder.positions.zero_()
    decoder.norm.bias.zero_()
    return decoder


def batch_of(seed: int, rows: int = 3, tokens: int = 9, frames: int = 14, positions: float = 0.0) -> DecoderBatch:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(N_TOKENS, (rows, tokens), generator=generator)
    states = torch.randn(rows, frames, SIZE, generator=generator) + torch.linspace(-1.0, 1.0, SIZE)
    everything = torch.ones(rows, tokens, dtype=torch.bool), torch.ones(rows, frames, dtype=torch.bool)
    offset = positions * torch.linspace(0.0, 1.0, frames)[:, None] * torch.linspace(0.0, 1.0, SIZE)
    return DecoderBatch(ids, everything[0], states + offset, everything[1], offset)


@pytest.fixture
def statistics(decoder: WhisperDecoder) -> DecoderStatistics:
    return measure_decoder(decoder, [batch_of(1), batch_of(2, frames=20)])


def mapped(decoder: WhisperDecoder, statistics: DecoderStatistics, plan: tuple[MappedLayer, ...]) -> GraniteForCausalLM:
    config = text_config(decoder, plan, N_TOKENS + 2, UNITS + 1, head_dim=32)
    model = GraniteForCausalLM(config).eval()
    transplant_decoder(decoder, model, plan, statistics)
    init_embeddings(decoder, model, [*decoder.embeddings, *decoder.embeddings[:2]], (START, SECOND), statistics)
    return model


def read(model: GraniteForCausalLM, batch: DecoderBatch, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the tokens (B, N, N_TOKENS), and hidden states of all positions: first tokens, audio, tokens."""
    start = model.embed(torch.tensor([START, SECOND])).expand(len(batch.ids), -1, -1)
    hidden = model(torch.cat([start, audio, model.embed(batch.ids)], 1))
    return model.logits(hidden[:, -batch.ids.shape[1] :])[..., :N_TOKENS], hidden


def assert_close(found: Tensor, expected: Tensor) -> None:
    """Log probabilities; the marks hide the content of audio embeddings from their norm only nearly."""
    difference = (found.log_softmax(-1) - expected.log_softmax(-1)).abs()
    assert float(difference.max()) < 0.15
    assert float(difference.mean()) < 0.02


@torch.no_grad()
def test_the_exact_plan_computes_the_same(decoder: WhisperDecoder, statistics: DecoderStatistics) -> None:
    model, batch = mapped(decoder, statistics, exact_plan(DEPTH)), batch_of(7)
    expected = decoder.logits(decoder(batch.ids, batch.states, batch.valid))
    found, _ = read(model, batch, audio_embeddings(batch.states, statistics))
    assert_close(found, expected)
    other, _ = read(model, batch, audio_embeddings(batch.states.flip(1).roll(1, 0), statistics))
    assert float((other - found).abs().max()) > 0.5, "the reading must depend on the audio"


@torch.no_grad()
def test_the_last_bias_is_kept(decoder: WhisperDecoder) -> None:
    decoder.norm.bias.normal_(generator=torch.Generator().manual_seed(5))
    batch = batch_of(7)
    statistics = measure_decoder(decoder, [batch])
    expected = decoder.logits(decoder(batch.ids, batch.states, batch.valid)).log_softmax(-1)
    audio = audio_embeddings(batch.states, statistics)
    found, _ = read(mapped(decoder, statistics, exact_plan(DEPTH)), batch, audio)
    decoder.norm.bias.zero_()
    without, _ = read(mapped(decoder, statistics, exact_plan(DEPTH)), batch, audio)
    error, before = (float((some.log_softmax(-1) - expected).abs().mean()) for some in (found, without))
    assert error < 0.3 * before


@torch.no_grad()
def test_one_layer_adds_both_attentions_of_the_same_input(
    decoder: WhisperDecoder, statistics: DecoderStatistics
) -> None:
    model, batch = mapped(decoder, statistics, parse_plan("s1c1m1,s2c2m2", DEPTH)), batch_of(7)
    x = decoder.embeddings[batch.ids]
    for layer in decoder.layers:
        x = layer.self_attention(x) + layer.cross_attention(x, batch.states, batch.valid) - x
        x = x + layer.mlp(x)
    expected = decoder.logits(decoder.norm(x))
    found, _ = read(model, batch, audio_embeddings(batch.states, statistics))
    assert_close(found, expected)


@torch.no_grad()
def test_audio_embeddings_stay_the_same_but_for_a_constant(
    decoder: WhisperDecoder, statistics: DecoderStatistics
) -> None:
    model, batch = mapped(decoder, statistics, exact_plan(DEPTH)), batch_of(7)
    audio = audio_embeddings(batch.states, statistics)
    seen: list[Tensor] = []
    model.model.layers[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    read(model, batch, audio)
    change = (seen[0][:, 2 : audio.shape[1] + 2] - audio)[..., :SIZE].flatten(0, 1)
    torch.testing.assert_close(change, change[:1].expand_as(change), rtol=0.0, atol=1e-2)


def test_a_pass_without_audio_embeddings_gives_the_same_logits_and_gradients(
    decoder: WhisperDecoder, statistics: DecoderStatistics
) -> None:
    model, token = mapped(decoder, statistics, parse_plan("s1,c1m1,s2c2m2", DEPTH)), 99
    audio = audio_embeddings(batch_of(7, rows=3).states, statistics)
    counts, replies = (14, 12, 5), ([1, 2, 3], [4, 5, 6, 7, 8], [9, 10])
    rows = list(zip(audio, counts, replies, strict=True))
    examples = [Example([START, SECOND, *[token] * count, 21, 22], reply) for _, count, reply in rows]

    def embedded(ids: list[int]) -> Tensor:
        return model.embed(torch.tensor(ids))

    def read_replies(whole: bool) -> tuple[list[list[int]], Tensor, Tensor]:
        """Groups, logits, and a gradient."""
        model.zero_grad()
        embeddings = [
            torch.cat([embedded([START, SECOND]), row[:count], embedded([21, 22, *reply[:-1]])])
            for row, count, reply in rows
        ]  # fmt: skip
        found = list(
            reply_logits(model, embeddings, examples)
            if whole
            else constant_audio.reply_logits(model, embeddings, examples, token)
        )
        logits = torch.cat([some for _, some in found])
        logits.log_softmax(-1)[:, 3].sum().backward()
        gradient = model.model.layers[1].get_parameter("self_attn.v_proj.weight").grad
        assert gradient is not None
        return [group for group, _ in found], logits.detach(), gradient.clone()

    (groups, logits, gradient), (fast_groups, fast_logits, fast_gradient) = read_replies(True), read_replies(False)
    assert fast_groups == groups
    assert len(groups) > 1
    torch.testing.assert_close(fast_logits, logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(fast_gradient, gradient, rtol=1e-2, atol=1e-3)


@torch.no_grad()
def test_marks_of_text_are_large_behind_the_norm_of_attention(
    decoder: WhisperDecoder, statistics: DecoderStatistics, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Activations of 8 bits keep them, and the model computes the same with smaller ones."""
    batch = batch_of(7)
    audio = audio_embeddings(batch.states, statistics)
    model = mapped(decoder, statistics, exact_plan(DEPTH))
    channels = marks.Marks.of(statistics).text_channels
    seen: list[Tensor] = []
    for layer in model.model.layers:
        layer.get_submodule("self_attn.k_proj").register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    found, _ = read(model, batch, audio)
    texts = [x[:, -batch.ids.shape[1] :] for x in seen]
    for x in texts:
        assert float(x[..., channels].abs().mean()) > 0.5 * language_model.TEXT_MARK
        assert float(x[..., channels].std()) < 0.5 * language_model.TEXT_MARK
    monkeypatch.setattr(language_model, "TEXT_MARK", 0.0)
    assert_close(read(mapped(decoder, statistics, exact_plan(DEPTH)), batch, audio)[0], found)


def test_the_first_layer_adds_positions(decoder: WhisperDecoder) -> None:
    """States without positions give what those with positions give in a model that adds none."""
    batch = batch_of(7, frames=40, positions=4.0)
    statistics, plan = measure_decoder(decoder, [batch]), parse_plan("s1,c1m1,s2,c2m2", DEPTH)
    config = text_config(decoder, plan, N_TOKENS + 2, UNITS + 1, head_dim=32)
    rates = position_frequencies(config)
    positions = fit_positions(batch.offset - statistics.offset_mean, rates, HEADS, first=2, steps=300)

    @torch.no_grad()
    def logits(states: Tensor, added: PositionHeads | None) -> Tensor:
        model = GraniteForCausalLM(config).eval()
        transplant_decoder(decoder, model, plan, statistics, added)
        init_embeddings(decoder, model, [*decoder.embeddings, *decoder.embeddings[:2]], (START, SECOND), statistics)
        return read(model, batch, audio_embeddings(states, statistics, added))[0].log_softmax(-1)

    without_positions = batch.states - batch.offset
    expected = logits(batch.states - statistics.offset_mean, None)
    lost = float((logits(without_positions, None) - expected).abs().mean())
    assert float((logits(without_positions, positions) - expected).abs().mean()) < 0.2 * lost
    assert lost > 0.2, "positions must matter here"


def test_positions_need_a_free_layer(decoder: WhisperDecoder, statistics: DecoderStatistics) -> None:
    plan = exact_plan(DEPTH)
    config = text_config(decoder, plan, N_TOKENS + 2, UNITS + 1, head_dim=32)
    positions = fit_positions(torch.zeros(8, SIZE), position_frequencies(config), HEADS, steps=1)
    with pytest.raises(OptionError, match="positions of audio need one without attention to audio, such as s1"):
        transplant_decoder(decoder, GraniteForCausalLM(config), plan[1:] + plan[:1], statistics, positions)


@torch.no_grad()
def test_layers_without_parts_change_nothing(decoder: WhisperDecoder, statistics: DecoderStatistics) -> None:
    batch = batch_of(7)
    audio = audio_embeddings(batch.states, statistics)
    short, _ = read(mapped(decoder, statistics, parse_plan("s1,c1m1", DEPTH)), batch, audio)
    long, _ = read(mapped(decoder, statistics, (*parse_plan("s1,c1m1", DEPTH), MappedLayer())), batch, audio)
    torch.testing.assert_close(long, short, rtol=0.0, atol=0.01)


@torch.no_grad()
def test_fewer_units_keep_those_that_matter(decoder: WhisperDecoder, statistics: DecoderStatistics) -> None:
    batch, plan = batch_of(7), exact_plan(DEPTH)
    expected = decoder.logits(decoder(batch.ids, batch.states, batch.valid)).log_softmax(-1)

    def error(units: int, best: bool) -> float:
        deviation = statistics.unit_deviation if best else 1.0 / statistics.unit_deviation.clamp_min(1e-3)
        ordered = DecoderStatistics(**(vars(statistics) | {"unit_deviation": deviation}))
        model = GraniteForCausalLM(text_config(decoder, plan, N_TOKENS + 2, units, 32)).eval()
        transplant_decoder(decoder, model, plan, ordered)
        init_embeddings(decoder, model, [*decoder.embeddings, *decoder.embeddings[:2]], (START, SECOND), statistics)
        found, _ = read(model, batch, audio_embeddings(batch.states, statistics))
        return float((found.log_softmax(-1) - expected).abs().mean())

    assert error(UNITS + 1, True) < error(40, True) < error(40, False)


@torch.no_grad()
def test_a_projector_gives_the_mean_of_a_window(decoder: WhisperDecoder, statistics: DecoderStatistics) -> None:
    """Small and large states keep their size."""
    projector = WindowQFormer(projector_config(SIZE, SIZE + 4, HEADS), SIZE + SPARE, 2, 2).eval()
    init_projector(projector, statistics)
    states = centred(batch_of(7).states) * torch.linspace(0.3, 1.5, 14).repeat_interleave(2)[::2, None]
    wide = torch.cat([states, torch.randn(*states.shape[:2], 4)], -1)
    found, counts = projector(wide, torch.full((len(states),), states.shape[1]))
    assert counts.tolist() == [7, 7, 7]
    means = centred(audio_embeddings(states.unflatten(1, (7, 2)).mean(2), statistics)[..., :SIZE])
    error = (centred(found[..., :SIZE]) - means).square().mean() / means.square().mean()
    assert float(error) < 0.01
    assert torch.equal(found[..., SIZE:], audio_embeddings(states[:, :7], statistics)[..., SIZE:])


@torch.no_grad()
def test_low_rank_maps_keep_what_their_inputs_use() -> None:
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(4, 6, generator=generator), torch.randn(4, 5, generator=generator)
    inputs = torch.randn(200, 6, generator=generator) * torch.tensor([3.0, 3.0, 1e-3, 1e-3, 1e-3, 1e-3])
    others = torch.randn(200, 5, generator=generator)
    short_a, short_b = low_rank(a, b, Roots.of(inputs.T @ inputs / 200), Roots.of(others.T @ others / 200), 2)
    exact, found = inputs @ a.T @ b @ others.T, inputs @ short_a.T @ short_b @ others.T
    assert float((found - exact).norm() / exact.norm()) < 0.01


@pytest.mark.parametrize("text", ["", "s1,", "c1s1", "s3", "s0", "s1 c1", "x1"])
def test_another_plan_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="expected such as s1c1m1, with Whisper's layers 1 to 2"):
        parse_plan(text, DEPTH)


def test_a_plan_names_layers() -> None:
    assert parse_plan("s1, c1m1,s2c2m2", 2) == (MappedLayer(1), MappedLayer(None, 1, 1), MappedLayer(2, 2, 2))


def test_statistics_are_read_back(statistics: DecoderStatistics, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("statistics") / "decoder.safetensors"
    statistics.save(path)
    for name, value in vars(DecoderStatistics.read(path)).items():
        torch.testing.assert_close(value, getattr(statistics, name))


def test_statistics_need_a_batch(decoder: WhisperDecoder) -> None:
    with pytest.raises(OptionError, match="at least one batch"):
        measure_decoder(decoder, [])
