"""The reverse pass of normalisations on the CPU against float64, for cotangents of any mean and x of any size."""

import numpy as np
import pytest

from fgnumba.bench.reverse.kernels import normalization
from fgnumba.kernels.emit import vector
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program
from tests import tolerances
from tests.normalization_cases import units

EPSILON = 1e-5
SHAPES = [
    (3, (1, 1, 17), None),
    (2, (5, 6, 40), None),
    (2, (1, 1, 6), 3),
    (3, (5, 7, 14), 7),
    (2, (17, 33, 17), 1),
    (2, (3, 5, 32), 4),
]
NUMBERS = {
    "ordinary": lambda rng, shape: rng.standard_normal(shape),
    "a mean of a million": lambda rng, shape: 1e6 + rng.standard_normal(shape),
    "a small spread": lambda rng, shape: 1e-3 * rng.standard_normal(shape),
    "squares that overflow": lambda rng, shape: 1e20 * rng.standard_normal(shape),
}
COTANGENTS = {
    "ordinary": lambda rng, shape: rng.standard_normal(shape),
    "a mean of a thousand": lambda rng, shape: 1e3 + rng.standard_normal(shape),
    "a mean of a million": lambda rng, shape: 1e6 + rng.standard_normal(shape),
    "steps of one spacing": lambda rng, shape: 3e7 + rng.choice([0.0, 2.0, 4.0], shape),
}


def run(x, dy, scale, groups):
    """Return dx, ds and db."""
    batch, *shape = x.shape
    arrays = {"x": x, "dy": dy, "dx": np.full_like(x, np.nan)}
    flat = {name: aligned((1, batch, int(np.prod(shape)))) for name in arrays}
    for name, array in arrays.items():
        flat[name][...] = array.reshape(flat[name].shape)
    images = {
        name: Images.of_batch(array, tuple(shape), has_tangent=False, images=batch)
        for name, array in flat.items()
    }
    shares = aligned((batch, 2, shape[-1]))
    operation = normalization.bind(
        vector.instruction_set(),
        batch=batch,
        images_a_part=batch,
        **images,
        groups=groups or 0,
        epsilon=EPSILON,
        scale=pack(scale),
        shares=shares,
    )
    Program([operation], 1).run()
    return flat["dx"].reshape(x.shape), *shares.astype(np.float64).sum(0)


def exact(x, dy, scale, groups):
    """Return dx, ds and db in float64; the scale of each unit's dx, and those of ds and db."""
    x, dy, scale = (array.astype(np.float64) for array in (x, dy, scale))
    (flat, axes), (g, _) = units(x, groups), units(scale * dy, groups)
    centred, own = flat - flat.mean(axes, keepdims=True), g - g.mean(axes, keepdims=True)
    inverse = 1 / np.sqrt((centred**2).mean(axes, keepdims=True) + EPSILON)
    normal = centred * inverse
    dx = inverse * (own - normal * (normal * own).mean(axes, keepdims=True))
    size = np.broadcast_to(np.abs(inverse * own).max(axes, keepdims=True), own.shape)
    terms, pixels = dy * normal.reshape(x.shape), (0, 1, 2)
    sizes = size.reshape(x.shape), np.abs(terms).sum(pixels), np.abs(dy).sum(pixels)
    return (dx.reshape(x.shape), terms.sum(pixels), dy.sum(pixels)), sizes


def check(x, dy, scale, groups):
    found, (expected, sizes) = run(x, dy, scale, groups), exact(x, dy, scale, groups)
    for one, right, size in zip(found, expected, sizes, strict=True):
        # Cotangents that are equal leave nothing, exactly.
        error = (one - right) / np.where(size > 0, size, 1)
        tolerances.NORMALISED_EXACTLY.check(error, np.zeros_like(right))


@pytest.mark.parametrize("numbers", NUMBERS)
@pytest.mark.parametrize("cotangents", COTANGENTS)
@pytest.mark.parametrize(("batch", "shape", "groups"), SHAPES)
def test_cotangents_are_those_of_float64(numbers, cotangents, batch, shape, groups):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, dy = (
            kinds[kind](rng, (batch, *shape)).astype(np.float32)
            for kinds, kind in ((NUMBERS, numbers), (COTANGENTS, cotangents))
        )
        # A power of two: products of others are rounded, by U of themselves, whatever their spread.
        scale = np.full(shape[-1], 0.5, np.float32)
        check(x, dy, scale, groups)


@pytest.mark.parametrize(("batch", "shape", "groups"), SHAPES)
def test_every_channel_has_its_own_scale(batch, shape, groups):
    rng = np.random.default_rng(5)
    x, dy = rng.standard_normal((2, batch, *shape)).astype(np.float32)
    # Means of channels that are apart, and a scale of nothing.
    dy += 10 * rng.standard_normal(shape[-1]).astype(np.float32)
    scale = (rng.integers(0, 3, shape[-1]) * rng.random(shape[-1])).astype(np.float32)
    check(x, dy, scale, groups)
