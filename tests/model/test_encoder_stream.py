"""The encoder over growing utterances against the encoder over whole ones."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from lithophone.audio.features import log_mel_frames
from lithophone.audio.reader import load_audio
from lithophone.checkpoint import load_checkpoint
from lithophone.hub import DEFAULT_MODEL, resolve
from lithophone.model.conformer import Conformer, EncoderBias, EncoderOutput
from lithophone.model.encoder_stream import EncoderStream
from lithophone.model.quantize import quantize_
from tests.conftest import DEMO
from tests.tiny import ENCODER, randomise, tiny_model, tiny_nar_model

TOLERANCE = {"atol": 1e-4, "rtol": 1e-4}
FIELDS = ("states", "last", "logits", "mid_logits", "lengths")
SHORT_BLOCKS = replace(ENCODER, context_size=20, output_dim=40)


def small_encoder(**changes: object) -> Conformer:
    torch.manual_seed(1)
    return randomise(Conformer(replace(SHORT_BLOCKS, **changes)), 3).eval()


def frames_of(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, 160, generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def offline(encoder: Conformer, frames: Tensor, bias: EncoderBias | None = None) -> EncoderOutput:
    output: EncoderOutput = encoder(frames[None], None, bias)
    return output


def assert_equal(found: EncoderOutput, expected: EncoderOutput) -> None:
    for field in FIELDS:
        torch.testing.assert_close(getattr(found, field), getattr(expected, field), **TOLERANCE, msg=field)


@pytest.mark.parametrize("step", [3, 7, 19, 20, 21, 50, 133])
def test_every_output_is_that_of_the_frames_so_far(step: int) -> None:
    encoder, frames = small_encoder(), frames_of(133)
    stream = EncoderStream(encoder)
    for n in [*range(step, 133, step), 133]:
        assert_equal(stream.encode(frames[:n]), offline(encoder, frames[:n]))


@pytest.mark.parametrize("kind", ["base", "plus", "wide", "G1", "G3"])
def test_every_kind_of_encoder_grows(kind: str) -> None:
    encoder = (tiny_nar_model(kind) if kind.startswith("G") else tiny_model(kind)).encoder
    frames, stream = frames_of(470), EncoderStream(encoder)
    for n in (30, 199, 200, 203, 390, 410, 470):
        assert_equal(stream.encode(frames[:n]), offline(encoder, frames[:n]))


@pytest.mark.parametrize(("kernel", "layers"), [(15, 8), (4, 3), (1, 4), (31, 2)])
def test_every_kernel_and_depth_is_exact(kernel: int, layers: int) -> None:
    encoder, frames = small_encoder(conv_kernel_size=kernel, num_layers=layers), frames_of(150)
    stream = EncoderStream(encoder)
    for n in (15, 40, 41, 90, 97, 150):
        assert_equal(stream.encode(frames[:n]), offline(encoder, frames[:n]))


def test_language_conditioning_is_part_of_it() -> None:
    encoder, frames = small_encoder(), frames_of(90)
    bias = EncoderBias(4 * torch.rand(1, 1, 40), torch.rand(1, 1, 40))
    stream = EncoderStream(encoder, bias)
    for n in (30, 61, 90):
        assert_equal(stream.encode(frames[:n]), offline(encoder, frames[:n], bias))
    assert not torch.allclose(stream.encode(frames).logits, offline(encoder, frames).logits, atol=0.1)


@pytest.mark.usefixtures("int8_products")
def test_int8_weights_grow_too() -> None:
    encoder, frames = small_encoder(), frames_of(90)
    quantize_(encoder)
    for look_ahead in (None, 0):
        stream = EncoderStream(encoder, look_ahead=look_ahead)
        for n in (30, 40, 40, 61, 90, 90):
            found = stream.encode(frames[:n])
        if look_ahead is None:
            assert_equal(found, offline(encoder, frames))


def test_half_precision_grows_too() -> None:
    encoder, frames = small_encoder().to(torch.bfloat16), frames_of(90)
    stream = EncoderStream(encoder)
    for n in (30, 61, 90):
        found = stream.encode(frames[:n])
    expected = offline(encoder, frames.to(torch.bfloat16))
    assert found.logits.dtype == torch.bfloat16
    assert (found.logits - expected.logits).abs().mean() < 0.05 * expected.logits.abs().mean()


def test_the_same_frames_again_give_the_same() -> None:
    encoder, frames = small_encoder(), frames_of(80)
    for look_ahead, n in itertools.product((None, 0, 5, 20), (17, 20, 40, 60, 61, 80)):
        stream = EncoderStream(encoder, look_ahead=look_ahead)
        first = stream.encode(frames[:n])
        assert_equal(stream.encode(frames[:n]), first)


def test_final_frames_are_not_computed_again() -> None:
    encoder, frames = small_encoder(num_layers=4), frames_of(400)
    exact, bounded = EncoderStream(encoder), EncoderStream(encoder, look_ahead=20)
    for n in range(10, 401, 10):
        exact.encode(frames[:n])
        bounded.encode(frames[:n])
    whole = sum(range(10, 401, 10)) * 4
    # Blocks of 20 in passes of 10: at most block under way and, from the second layer on, the blocks before it.
    assert exact.computed <= 40 * (20 + 40 + 60 + 80)
    assert bounded.computed <= 40 * 4 * 40
    assert exact.computed < whole / 4


def test_frames_that_have_changed_start_over() -> None:
    encoder, frames = small_encoder(), frames_of(90)
    stream = EncoderStream(encoder)
    stream.encode(frames[:70])
    changed = frames.clone()
    changed[3] += 1.0
    assert_equal(stream.encode(changed), offline(encoder, changed))
    assert stream.restarts == 1
    changed[89] += 1.0  # in the block under way
    assert_equal(stream.encode(changed), offline(encoder, changed))
    assert stream.restarts == 1


def test_look_ahead_bounds_what_changes() -> None:
    """A frame is final once its block has the look-ahead behind it, and the error falls with the look-ahead."""
    encoder, frames = small_encoder(num_layers=4), frames_of(200)
    errors = []
    for look_ahead in (0, 20, 40, 60):
        stream = EncoderStream(encoder, look_ahead=look_ahead)
        before = stream.encode(frames[:10]).logits
        for n in range(20, 201, 10):
            logits = stream.encode(frames[:n]).logits
            final = max(0, n - 10 - look_ahead) // 20 * 20
            torch.testing.assert_close(logits[:, :final], before[:, :final], rtol=0, atol=0)
            before = logits
        errors.append(float((before - offline(encoder, frames).logits).abs().max()))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 0.1
    assert errors[-1] < errors[0] / 100


@pytest.mark.skipif(not resolve(DEFAULT_MODEL).is_dir(), reason="the bundled model is not there")
def test_the_bundled_model_is_exact_on_speech() -> None:
    encoder = load_checkpoint(resolve(DEFAULT_MODEL)).network.encoder
    samples = torch.from_numpy(load_audio(DEMO)).repeat(2)[: 11 * 16_000]
    frames = log_mel_frames(samples)
    for step in (37, 200):
        stream = EncoderStream(encoder)
        for n in [*range(step, len(frames), step), len(frames)]:
            found = stream.encode(frames[:n])
        expected = offline(encoder, frames)
        assert_equal(found, expected)
        assert torch.equal(found.logits.argmax(-1), expected.logits.argmax(-1))
