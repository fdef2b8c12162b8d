"""The encoder by itself: its relative bias, its padding, its training mode. The reference test compares the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lithophone.model.config import EncoderConfig
from lithophone.model.conformer import BlockAttention, Conformer, ConvModule, EncoderBias, attend, block_size

TINY = EncoderConfig(
    hidden_dim=24, num_layers=2, num_heads=2, dim_head=8, feedforward_mult=2, context_size=10, max_pos_emb=16
)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_attention_equals_its_definition(size: int, training: bool) -> None:
    torch.manual_seed(0)
    attention = BlockAttention(TINY)
    q, k, v = torch.randn(3, 2, 2, size, 8)
    masked = torch.arange(size).expand(2, 1, 1, -1) > torch.tensor([size, size // 2]).view(2, 1, 1, 1)
    with torch.set_grad_enabled(training):
        form = attention._with_gradients if training else attention._without_gradients
        attended = form(q, k, v, masked)
    distances = torch.arange(size)[:, None] - torch.arange(size)
    vectors = attention.rel_pos_emb.weight[distances + TINY.max_pos_emb]
    scores = torch.einsum("nhcd,nhrd->nhcr", q, k) + torch.einsum("nhcd,crd->nhcr", q, vectors)
    weights = (scores * 8**-0.5).masked_fill(masked, -torch.inf).softmax(-1)
    torch.testing.assert_close(attended, weights @ v, atol=1e-6, rtol=1e-5)


def test_explicit_and_fused_attention_agree() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, 7, 8)
    bias = torch.randn(2, 2, 7, 7)
    explicit = attend(q, k, v, bias, 0.3)
    with torch.no_grad():
        torch.testing.assert_close(attend(q, k, v, bias, 0.3), explicit, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("training", [False, True])
def test_padding_changes_nothing(training: bool) -> None:
    """Also in training: batch normalisation counts valid frames only."""
    torch.manual_seed(0)
    model = Conformer(replace(TINY, dropout=0.0)).train(training)
    frames = torch.randn(1, 23, 160)
    alone = model(frames)
    padded = model(torch.cat([frames, torch.randn(1, 14, 160)], 1), torch.tensor([23]))
    torch.testing.assert_close(padded.states[:, :23], alone.states, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded.logits[:, :23], alone.logits, atol=1e-5, rtol=1e-4)
    assert padded.states[:, 23:].abs().max() == 0


def test_a_penalty_is_off_every_character_logit_and_off_what_is_fed_back() -> None:
    torch.manual_seed(0)
    model = Conformer(replace(TINY, dropout=0.0)).eval()
    frames, penalty = torch.randn(2, 23, 160), torch.zeros(TINY.output_dim)
    penalty[3:] = 4.0
    plain, found = model(frames), model(frames, bias=EncoderBias(penalty))
    torch.testing.assert_close(found.mid_logits, plain.mid_logits - penalty)
    assert (found.states - plain.states).abs().max() > 1e-3
    model.out.bias.data -= penalty
    wanted = model(frames)
    torch.testing.assert_close(found.states, wanted.states)
    torch.testing.assert_close(found.logits, wanted.logits)
    model.out.bias.data += penalty
    rows = model(frames, bias=EncoderBias(torch.stack([penalty * 0, penalty])[:, None]))
    torch.testing.assert_close(rows.logits, torch.stack([plain.logits[0], found.logits[1]]))


def test_a_language_id_is_added_to_what_is_fed_back_and_to_nothing_else() -> None:
    torch.manual_seed(0)
    model = Conformer(replace(TINY, dropout=0.0)).eval()
    frames, mark = torch.randn(2, 23, 160), torch.zeros(TINY.output_dim)
    mark[5] = 1.0
    nothing = torch.zeros(TINY.output_dim)
    plain, found = model(frames), model(frames, bias=EncoderBias(nothing, mark))
    torch.testing.assert_close(found.mid_logits, plain.mid_logits)
    model.out_mid.bias.data += model.out_mid.weight[:, 5]
    torch.testing.assert_close(found.states, model(frames).states)
    assert (found.states - plain.states).abs().max() > 1e-3


def test_running_statistics_count_valid_frames_only() -> None:
    torch.manual_seed(0)
    module = ConvModule(TINY).train()
    x = torch.randn(2, 9, 24)
    valid = torch.arange(9) < torch.tensor([[9], [4]])
    module(x, valid)
    seen = module.depth_conv(
        torch.nn.functional.glu(module.norm(x) @ module.up_conv.weight[..., 0].T + module.up_conv.bias, -1)
        * valid[..., None]
    )[valid]
    torch.testing.assert_close(module.batch_norm.running_mean, 0.1 * seen.mean(0), atol=1e-5, rtol=1e-4)


def test_gradients_reach_every_weight() -> None:
    torch.manual_seed(0)
    model = Conformer(TINY)
    output = model(torch.randn(2, 21, 160), torch.tensor([21, 8]))
    (output.logits.square().mean() + output.mid_logits.square().mean()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert without == []


@pytest.mark.parametrize(
    ("context", "frames", "size"),
    [
        (200, 1, 16), (200, 16, 16), (200, 17, 32), (200, 100, 112), (200, 101, 200), (200, 200, 200), (200, 999, 200),
        (512, 17, 32), (512, 192, 192), (512, 193, 384), (512, 384, 384), (512, 385, 400), (512, 600, 512),
        (192, 150, 160), (8, 3, 8), (8, 99, 8),
    ],
)  # fmt: skip
def test_sizes_of_blocks(context: int, frames: int, size: int) -> None:
    assert block_size(frames, context) == size


@pytest.mark.parametrize("context", [200, 384, 400, 512])
def test_attention_in_a_smaller_block_has_the_same_bits(context: int) -> None:
    torch.manual_seed(0)
    attention = BlockAttention(EncoderConfig(context_size=context, num_heads=2, dim_head=64))
    q, k, v = torch.randn(3, 1, 2, context, 64)

    def attended(frames: int, size: int) -> torch.Tensor:
        rows = (torch.nn.functional.pad(x[:, :, :frames], (0, 0, 0, size - frames)) for x in (q, k, v))
        masked = torch.arange(size).view(1, 1, 1, -1) >= frames
        return attention._without_gradients(*rows, masked)[:, :, :frames]

    with torch.inference_mode():
        for frames in range(3, context, 13):
            assert torch.equal(attended(frames, block_size(frames, context)), attended(frames, context)), frames


def test_a_short_utterance_has_the_states_that_it_has_among_longer_ones() -> None:
    """With blocks of 200 frames, which the model family has; in float32 they differ in the last bits at most."""
    torch.manual_seed(0)
    encoder = Conformer(EncoderConfig(hidden_dim=64, num_layers=2, num_heads=2, dim_head=32)).eval()
    for n in (1, 15, 40, 64, 100, 117, 160, 200, 230):
        frames = torch.randn(3, 260, 160)
        lengths = torch.tensor([n, 260, 200])
        with torch.inference_mode():
            together, alone = encoder(frames, lengths), encoder(frames[:1, :n])
        torch.testing.assert_close(together.last[0, :n], alone.last[0], rtol=0, atol=2e-6)
