"""Error signals on a GPU against float64, with signs from Philox's definition."""

import numpy as np
import pytest

from fgnumba.kernels.layout.images import Border, Images
from fgnumba.kernels.ops.error_signal import cuda as signal
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from tests import tolerances
from tests.kernels.test_activations import REFERENCES
from tests.references.activity_reference import signs

SEED, STEP, PARAMETER, SCALE = 0xABCDEF, 9, 3, -0.125
CELLS = np.array([0, 0, 1, 0, 0, 1, 2, 2, 3, 2, 2, 3])


def perturbed(gpu, batch, y, activation_name, slot=0, slots=0, first_channel=0):
    """Return a site in a step of ours."""
    stream = gpu.stream(SEED, STEP)
    return Perturbed(batch, 0, y, activation_name, PARAMETER, stream, slot, slots, first_channel)


def expected_signal(y, activation_name, known=None, noise=None, slot=0, slots=0, first_channel=0):
    """Return δ of y (B, H, W, C), `known` alike, `noise` (S, B)."""
    slope = REFERENCES[activation_name].derivative(y.astype(np.float64))
    delta = np.zeros_like(slope) if known is None else slope * known
    rows, channels = y[..., 0].size, y.shape[-1]
    for t in range(slot, slot + slots):
        drawn = signs(SEED, STEP, t, PARAMETER, rows, first_channel + channels)[:, first_channel:]
        r = noise[t].astype(np.float64)[:, None, None, None]
        delta += r * drawn.reshape(y.shape) * (slope != 0)
    return SCALE * delta


def close(found, expected):
    tolerances.WEIGHTED_SIGNAL.check(found, expected)


@pytest.mark.parametrize(("batch", "units"), [(1, 1), (7, 45), (70, 3), (33, 64)])
@pytest.mark.parametrize("onto", [True, False])
@pytest.mark.parametrize("slots", [0, 2])
def test_signals_in_panels_with_their_bias(gpu, batch, units, onto, slots):
    rng = np.random.default_rng(batch)
    y = rng.standard_normal((batch, 1, 1, units)).astype(np.float32)
    known = rng.standard_normal((batch, units + 3)).astype(np.float32)
    noise = rng.standard_normal((4, batch)).astype(np.float32)
    panels = -(-units // 32)
    out, before = gpu.nans(panels, -(-batch // 32) * 32, 32), np.full(32 * panels, 2.0, np.float32)
    bias = gpu.array(before)
    gpu.run(
        signal.bind(
            None,
            1,
            site=perturbed(gpu, batch, gpu.images(y[None]), "relu", 1, slots),
            out=out,
            scale=gpu.array([SCALE]),
            known=gpu.array(known),
            noise=gpu.array(noise) if slots else None,
            bias=bias,
            onto=onto,
        )
    )
    delta = expected_signal(y, "relu", known[:, None, None, :units], noise, 1, slots)[:, 0, 0]
    expected = np.zeros((out.shape[1], 32 * panels))
    expected[:batch, :units] = delta
    close(out.download().swapaxes(0, 1).reshape(expected.shape), expected)
    found = bias.download()
    tolerances.sums(batch).check(found[:units], 2 * onto + delta.sum(axis=0))
    np.testing.assert_array_equal(found[units:], before[units:])


def test_nothing_known_and_a_slope_of_zero(gpu):
    y = np.array([[-1.0, 1.0, 0.0]], np.float32).reshape(1, 1, 1, 3)
    out = gpu.nans(1, 32, 32)
    noise = np.array([[2.0]], np.float32)
    site = perturbed(gpu, 1, gpu.images(y[None]), "relu", 0, 1)
    gpu.run(signal.bind(None, 1, site=site, out=out, scale=gpu.array([SCALE]), noise=gpu.array(noise)))
    expected = expected_signal(y, "relu", None, noise, 0, 1)[0, 0, 0]
    assert expected.tolist() == [0, expected[1], 0]
    np.testing.assert_array_equal(out.download()[0, 0, :3], expected)


def test_slots_without_noise_do_not_count(gpu):
    y = np.random.default_rng(0).standard_normal((2, 1, 1, 5)).astype(np.float32)
    known = np.ones((2, 5), np.float32)
    out = gpu.nans(1, 32, 32)
    site = perturbed(gpu, 2, gpu.images(y[None]), "leaky_relu", 0, 3)
    gpu.run(signal.bind(None, 1, site=site, out=out, scale=gpu.array([SCALE]), known=gpu.array(known)))
    close(out.download()[0, :2, :5], expected_signal(y, "leaky_relu", known[:, None, None])[:, 0, 0])


def bordered(gpu, batch, shape, border):
    """Return images with a border, NaN all over."""
    height, width, channels = shape
    memory = gpu.nans(batch * (height + border.bottom) * (width + border.right) * channels)
    return Images.of_part(memory, 0, shape, batch, False, border)


@pytest.mark.parametrize("border", [Border(), Border(0, 1, 0, 1), Border(0, 0, 0, 1), Border(0, 2, 0, 0)])
def test_signals_of_groups_of_channels_in_images(gpu, border):
    batch, shape = 3, (4, 3, 37)
    rng = np.random.default_rng(0)
    y = rng.standard_normal((batch, *shape)).astype(np.float32)
    knowns = [rng.standard_normal((batch, 4 * n)).astype(np.float32) for n in (32, 5)]
    noise = rng.standard_normal((2, batch)).astype(np.float32)
    out, source, operations = bordered(gpu, batch, shape, border), gpu.images(y[None]), []
    for (first, count), known in zip(((0, 32), (32, 5)), knowns, strict=True):
        site = perturbed(gpu, batch, source.channels_from(first, count), "tanh", 0, 2, first)
        operations.append(
            signal.bind(
                None,
                1,
                site=site,
                out=out.channels_from(first, count),
                scale=gpu.array([SCALE]),
                known=gpu.array(known),
                cells=CELLS,
                noise=gpu.array(noise),
            )
        )
    gpu.run(*operations)
    cells = [k.reshape(batch, 4, -1)[:, CELLS].reshape(batch, 4, 3, -1) for k in knowns]
    expected = np.zeros((batch, 4 + border.bottom, 3 + border.right, 37))
    expected[:, :4, :3] = expected_signal(y, "tanh", np.concatenate(cells, axis=-1), noise, 0, 2)
    close(out.memory.download().reshape(expected.shape), expected)


def test_a_bias_of_images_sums_over_pixels(gpu):
    batch, shape = 3, (3, 3, 5)
    rng = np.random.default_rng(0)
    y, known = rng.standard_normal((batch, *shape)).astype(np.float32), np.ones((batch, 5), np.float32)
    out, bias = gpu.images(shape=shape, batch=batch), gpu.nans(32)
    site, cells = perturbed(gpu, batch, gpu.images(y[None]), "sigmoid"), np.zeros(9, np.int64)
    gpu.run(
        signal.bind(
            None,
            1,
            site=site,
            out=out,
            scale=gpu.array([SCALE]),
            known=gpu.array(known),
            cells=cells,
            bias=bias,
        )
    )
    expected = expected_signal(y, "sigmoid", known[:, None, None])
    close(gpu.values(out)[0], expected)
    tolerances.sums(27).check(bias.download()[:5], expected.sum(axis=(0, 1, 2)))
