"""CAM++: speaker embeddings by a densely connected TDNN with context-aware masking (Wang et al. 2023).

arXiv 2303.00332. Modules are named as in the published weights, 3D-Speaker's `campplus_cn_en_common`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lithophone.diarization.filterbank import N_BANDS

CHANNELS = 32
"""Of the two-dimensional convolutions."""

WIDTH, GROWTH, BOTTLENECK = 128, 32, 128
EMBEDDING = 192
BLOCKS = ((12, 1), (24, 2), (16, 2))
"""Layers and dilation of each dense block."""

CONTEXT = 100
"""Frames of a segment whose mean is context, beside that of all frames."""


class CAMPPlus(nn.Module):
    """Filterbanks (B, T, 80), without their mean over time -> embeddings (B, 192)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _Head()
        self.xvector = nn.ModuleDict({"tdnn": _TDNN(CHANNELS * N_BANDS // 8)})
        channels = WIDTH
        for number, (layers, dilation) in enumerate(BLOCKS, start=1):
            self.xvector[f"block{number}"] = _DenseBlock(channels, layers, dilation)
            channels += layers * GROWTH
            self.xvector[f"transit{number}"] = _Transition(channels, channels // 2)
            channels //= 2
        self.xvector["out_nonlinear"] = _norm(channels)
        self.xvector["dense"] = _Dense(2 * channels, EMBEDDING)

    def forward(self, bands: Tensor) -> Tensor:
        x = self.head(bands.transpose(1, 2))
        for name, layer in self.xvector.items():
            if name not in ("out_nonlinear", "dense"):
                x = layer(x)
        x = F.relu(self.xvector["out_nonlinear"](x))
        embeddings: Tensor = self.xvector["dense"](torch.cat([x.mean(-1), x.std(-1)], dim=-1))
        return embeddings


class _Head(nn.Module):
    """(B, 80, T) -> (B, 320, T): bands are reduced to a tenth of their number, frames are kept."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, CHANNELS, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.layer1 = nn.Sequential(_Residual(2), _Residual(1))
        self.layer2 = nn.Sequential(_Residual(2), _Residual(1))
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x[:, None])))
        x = F.relu(self.bn2(self.conv2(self.layer2(self.layer1(x)))))
        return x.flatten(1, 2)


class _Residual(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(CHANNELS, CHANNELS, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS)
        self.conv2 = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(CHANNELS)
        self.shortcut = nn.Sequential()
        if stride > 1:
            self.shortcut.append(nn.Conv2d(CHANNELS, CHANNELS, 1, stride=(stride, 1), bias=False))
            self.shortcut.append(nn.BatchNorm2d(CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


class _TDNN(nn.Module):
    """(B, C, T) -> (B, 128, ceil(T / 2))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, WIDTH, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _norm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.nonlinear(self.linear(x)))


class _DenseBlock(nn.Module):
    """Every layer adds its output as channels."""

    def __init__(self, channels: int, layers: int, dilation: int) -> None:
        super().__init__()
        for number in range(layers):
            self.add_module(f"tdnnd{number + 1}", _DenseLayer(channels + number * GROWTH, dilation))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x)], dim=1)
        return x


class _DenseLayer(nn.Module):
    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _norm(channels)
        self.linear1 = nn.Conv1d(channels, BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _norm(BOTTLENECK)
        self.cam_layer = _Masked(dilation)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear1(F.relu(self.nonlinear1(x)))
        masked: Tensor = self.cam_layer(F.relu(self.nonlinear2(x)))
        return masked


class _Masked(nn.Module):
    """A convolution, masked by what the means over all frames and over segments of frames give."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(BOTTLENECK, GROWTH, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = nn.Conv1d(BOTTLENECK, BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(BOTTLENECK // 2, GROWTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        segments = F.avg_pool1d(x, CONTEXT, ceil_mode=True)
        mask = torch.sigmoid(self.linear2(F.relu(self.linear1(x.mean(-1, keepdim=True) + segments))))
        masked: Tensor = self.linear_local(x) * mask.repeat_interleave(CONTEXT, dim=-1)[..., : x.shape[-1]]
        return masked


class _Transition(nn.Module):
    def __init__(self, channels: int, kept: int) -> None:
        super().__init__()
        self.nonlinear = _norm(channels)
        self.linear = nn.Conv1d(channels, kept, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        reduced: Tensor = self.linear(F.relu(self.nonlinear(x)))
        return reduced


class _Dense(nn.Module):
    def __init__(self, channels: int, size: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(channels, size, 1, bias=False)
        self.nonlinear = nn.Sequential()
        self.nonlinear.add_module("batchnorm", nn.BatchNorm1d(size, affine=False))

    def forward(self, x: Tensor) -> Tensor:
        embeddings: Tensor = self.nonlinear(self.linear(x[..., None])[..., 0])
        return embeddings


def _norm(channels: int) -> nn.Sequential:
    norm = nn.Sequential()
    norm.add_module("batchnorm", nn.BatchNorm1d(channels))
    return norm
