"""Noise on activities on a GPU against float64, with signs from Philox's definition."""

import numpy as np
import pytest

from fgnumba.kernels.ops.noise import cuda as noise
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from tests import tolerances
from tests.kernels.test_activations import REFERENCES
from tests.references.activity_reference import signs

SEED, STEP, PARAMETER = 0x123456789ABCDEF0, 77, 5
SHAPES = [(1, (1, 1, 1)), (7, (1, 1, 70)), (3, (5, 3, 37))]


def perturbed(gpu, batch, y, activation_name, slot, slots, first_channel=0):
    """Return a site in a step of ours."""
    stream = gpu.stream(SEED, STEP)
    return Perturbed(batch, 0, y, activation_name, PARAMETER, stream, slot, slots, first_channel)


def expected_noise(y, slope, slot, slots, first_channel=0):
    """Return a'(z) u for each slot, of y (B, H, W, C)."""
    batch, height, width, channels = y.shape
    rows = batch * height * width
    drawn = [signs(SEED, STEP, slot + t, PARAMETER, rows, first_channel + channels) for t in range(slots)]
    return np.stack([slope * u[:, first_channel:].reshape(y.shape) for u in drawn])


@pytest.mark.parametrize(("batch", "shape"), SHAPES)
@pytest.mark.parametrize("onto", [True, False])
@pytest.mark.parametrize("activation_name", ["relu", "tanh"])
def test_noise_is_written_or_added_at_its_slots(gpu, batch, shape, onto, activation_name):
    values = np.random.default_rng(batch).standard_normal((5, batch, *shape)).astype(np.float32)
    y = gpu.images(values)
    site = perturbed(gpu, batch, y, activation_name, slot=1, slots=2)
    gpu.run(noise.bind(None, 1, site=site, onto=onto))
    slope = REFERENCES[activation_name].derivative(values[0].astype(np.float64))
    expected = values.astype(np.float64)
    expected[2:4] = onto * expected[2:4] + expected_noise(values[0], slope, 1, 2)
    tolerances.ELEMENTWISE.check(gpu.values(y), expected)


def test_other_tangents_are_filled_with_zeros(gpu):
    values = np.random.default_rng(0).standard_normal((9, 3, 2, 3, 5)).astype(np.float32)
    y = gpu.images(values)
    site = perturbed(gpu, 3, y, "identity", slot=3, slots=1)
    gpu.run(noise.bind(None, 1, site=site, onto=False, gap=(1, 3), beyond=(5, 7)))
    expected = values.copy()
    expected[[2, 3, 6, 7]] = 0
    expected[4:5] = expected_noise(values[0], 1.0, 3, 1)
    np.testing.assert_array_equal(gpu.values(y), expected)


@pytest.mark.parametrize(("gap", "beyond"), [((0, 2), (0, 0)), ((0, 0), (0, 2))])
def test_without_slots_there_are_zeros_alone(gpu, gap, beyond):
    values = np.random.default_rng(0).standard_normal((4, 5, 1, 1, 3)).astype(np.float32)
    y = gpu.images(values)
    gpu.run(noise.bind(None, 1, site=perturbed(gpu, 5, y, "tanh", 0, 0), onto=True, gap=gap, beyond=beyond))
    expected = values.copy()
    expected[1:3] = 0
    np.testing.assert_array_equal(gpu.values(y), expected)


def test_some_channels_have_the_signs_of_their_own_panels(gpu):
    values = np.random.default_rng(0).standard_normal((2, 3, 2, 2, 70)).astype(np.float32)
    y = gpu.images(values)
    site = perturbed(gpu, 3, y.channels_from(32, 33), "identity", 0, 1, first_channel=32)
    gpu.run(noise.bind(None, 1, site=site, onto=False))
    expected = values.copy()
    expected[1:, ..., 32:65] = expected_noise(values[0, ..., 32:65], 1.0, 0, 1, 32)
    np.testing.assert_array_equal(gpu.values(y), expected)
