"""Kaldi's filterbank, as transformers computes it, and the network that reads it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from lithophone.diarization.campplus import CONTEXT, CAMPPlus, _Masked
from lithophone.diarization.filterbank import filterbank


@pytest.mark.parametrize("n", [400, 559, 16_000, 24_000])
@pytest.mark.parametrize("scale", [1e-4, 0.3])
def test_the_filterbank_is_kaldis(n: int, scale: float) -> None:
    samples = (np.random.default_rng(n).normal(0.1, scale, n)).astype(np.float32)
    bands = mel_filter_bank(
        num_frequency_bins=257, num_mel_filters=80, min_frequency=20, max_frequency=8000, sampling_rate=16_000,
        norm=None, mel_scale="kaldi", triangularize_in_mel_space=True,
    )  # fmt: skip
    expected = spectrogram(
        samples, window_function(400, "povey", periodic=False), frame_length=400, hop_length=160, fft_length=512,
        power=2.0, center=False, preemphasis=0.97, mel_filters=bands, log_mel="log", mel_floor=2.0**-23,
        remove_dc_offset=True,
    ).T  # fmt: skip
    found = filterbank(torch.from_numpy(samples))
    assert found.shape == (1 + (n - 400) // 160, 80)
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)


@pytest.fixture(scope="module")
def network() -> CAMPPlus:
    torch.manual_seed(0)
    network = CAMPPlus().eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv1d | torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(layer.running_mean, -0.1, 0.1)
            torch.nn.init.uniform_(layer.running_var, 0.5, 2.0)
    return network


def test_the_network_has_the_tensors_of_the_published_weights(network: CAMPPlus) -> None:
    state = network.state_dict()
    assert len(state) == 937
    assert state["xvector.block2.tdnnd24.cam_layer.linear_local.weight"].shape == (32, 128, 3)
    assert state["xvector.dense.linear.weight"].shape == (192, 1024, 1)
    assert sum(p.numel() for p in network.parameters()) == 6_848_544


@torch.inference_mode()
def test_rows_of_a_batch_do_not_touch_each_other(network: CAMPPlus) -> None:
    bands = torch.randn(3, 148, 80)
    alone = torch.cat([network(row[None]) for row in bands])
    torch.testing.assert_close(network(bands), alone, atol=1e-4, rtol=1e-4)
    assert alone.shape == (3, 192)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


@torch.inference_mode()
@pytest.mark.parametrize("frames", [1, 75, 100, 101, 250])
def test_the_mask_is_that_of_the_paper(frames: int) -> None:
    """Equations 1 to 5 of arXiv 2303.00332, frame by frame."""
    torch.manual_seed(1)
    layer, x = _Masked(2), torch.randn(2, 128, frames)

    def mask(t: int) -> Tensor:
        first = t // CONTEXT * CONTEXT
        context = x.mean(-1) + x[:, :, first : first + CONTEXT].mean(-1)
        hidden = torch.relu(context @ layer.linear1.weight[:, :, 0].T + layer.linear1.bias)
        return torch.sigmoid(hidden @ layer.linear2.weight[:, :, 0].T + layer.linear2.bias)

    expected = layer.linear_local(x) * torch.stack([mask(t) for t in range(frames)], dim=-1)
    torch.testing.assert_close(layer(x), expected, atol=1e-5, rtol=1e-4)
