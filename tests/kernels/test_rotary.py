"""The rotary embedding on the CPU against float64, written with complex numbers."""

import numpy as np
import pytest

from fgnumba.kernels.emit import vector
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import aligned, leading
from fgnumba.kernels.machine.program import Program
from fgnumba.kernels.ops.rotary import cpu as rotary
from tests import tolerances_positions as tolerances


def expected(x, heads, base, inverse=False):
    """Return the turned sequences (…, L, C): a pair is a complex number, which is multiplied by exp(i φ)."""
    length, channels = x.shape[-2:]
    size = channels // heads
    pairs = x.astype(np.float64).reshape(*x.shape[:-1], heads, 2, size // 2)
    numbers = pairs[..., 0, :] + 1j * pairs[..., 1, :]
    angles = np.arange(length)[:, None, None] * base ** (-2 * np.arange(size // 2) / size)
    turned = numbers * np.exp((-1j if inverse else 1j) * angles)
    return np.stack([turned.real, turned.imag], -2).reshape(x.shape)


def run(x, heads, base=10000.0, inverse=False, has_tangent=True, in_place=False, threads=1, count=None):
    blocks, batch, length, channels = x.shape
    memory = aligned((blocks, batch * length, leading(channels)))
    memory[..., :channels] = x.reshape(blocks, -1, channels)
    out = memory if in_place else np.full_like(memory, np.nan)
    images = [
        Images.of_batch(array, (length, channels), has_tangent, by_position=True) for array in (memory, out)
    ]
    count = blocks - 1 if count is None else count
    operation = rotary.bind(
        vector.instruction_set(),
        threads,
        batch=batch,
        count=count,
        x=images[0],
        y=images[1],
        heads=heads,
        base=base,
        inverse=inverse,
    )
    Program([operation]).run()
    return out[..., :channels].reshape(x.shape)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize(
    ("blocks", "batch", "length", "heads", "size"), [(1, 1, 1, 1, 2), (3, 2, 13, 3, 10), (2, 3, 7, 1, 66)]
)
def test_pairs_are_turned(blocks, batch, length, heads, size, inverse, in_place):
    x = np.random.default_rng(size).standard_normal((blocks, batch, length, heads * size))
    x = x.astype(np.float32)
    found = run(x, heads, 100.0, inverse, in_place=in_place)
    tolerances.TURNED.check(found, expected(x, heads, 100.0, inverse))


def test_far_positions_are_turned_by_angles_of_float64():
    x = np.random.default_rng(0).standard_normal((1, 1, 5000, 4)).astype(np.float32)
    tolerances.TURNED.check(run(x, 1), expected(x, 1, 10000.0))


def test_turning_back_gives_what_was_there():
    x = np.random.default_rng(0).standard_normal((2, 2, 5, 12)).astype(np.float32)
    tolerances.TURNED.check(run(run(x, 2), 2, inverse=True), x)


def test_a_symbolic_zero_is_left_alone():
    x = np.ones((2, 1, 3, 4), np.float32)
    found = run(x, 2, has_tangent=False, count=1)
    assert np.isfinite(found[0]).all()
    assert np.isnan(found[1]).all()


def test_parts_change_no_bit():
    x = np.random.default_rng(1).standard_normal((2, 30, 97, 64)).astype(np.float32)
    np.testing.assert_array_equal(run(x, 4, threads=3), run(x, 4))
