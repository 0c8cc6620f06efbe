"""Root mean square normalisation on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.ops.rms_norm import cuda as rms_norm
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, NONE, RADEMACHER, RANK1
from fgnumba.kernels.shared.affine.cpu import Affine
from tests import tolerances
from tests.references import reference

SEED, STEP, FIRST, SCALE, EPSILON = 0x123456789ABCDEF0, 77, 3, 4, 1e-5
KINDS = {NONE: None, RANK1: "rademacher", RADEMACHER: "rademacher", GAUSSIAN: "gaussian"}

# Pixels of a warp and of a block, fewer and more than one block of them; channels fewer and more than a team's threads.
CASES = [(1, (1, 1, 1)), (3, (1, 1, 37)), (3, (5, 1, 5)), (2, (3, 1, 601))]


def scale_of(gpu, channels, kind, count):
    rng = np.random.default_rng(channels)
    scale = 1 + rng.random(channels)
    if kind == EXPLICIT:
        v = rng.standard_normal((count, channels))
    else:
        v = np.array(
            [
                reference.direction(str(KINDS[kind]), (channels,), FIRST + t, SCALE, STEP, SEED)
                if KINDS[kind]
                else np.zeros(channels)
                for t in range(count)
            ]
        ).reshape(count, channels)
    weights = Affine(
        gpu.packed(scale),
        None,
        kind=kind,
        count=count,
        first=FIRST,
        scale_parameter=SCALE,
        stream=gpu.stream(SEED, STEP),
        v_scale=gpu.stacked(v) if kind == EXPLICIT else None,
    )
    return scale, v, weights


def normalized(x, dx, scale, v, size=1.0):
    """Return the values (B, ...) and tangents (T, B, ...); `size` is a power of two by which x is divided first."""
    x = x / size
    r = 1 / np.sqrt(np.mean(x**2, -1, keepdims=True) + EPSILON / size**2)
    normal = r * x
    moved = (r / size) * (dx - normal * np.mean(normal * dx, -1, keepdims=True))
    return scale * normal, scale * moved + v.reshape(-1, *(1,) * (x.ndim - 1), v.shape[-1]) * normal


def check(gpu, batch, shape, kind, count, has_tangent=True, size=1.0):
    rng = np.random.default_rng(batch + count)
    x = rng.standard_normal((1 + count, batch, *shape)).astype(np.float32).astype(np.float64)
    x[0] *= size
    scale, v, weights = scale_of(gpu, shape[-1], kind, count)
    y = gpu.images(shape=shape, blocks=1 + count, batch=batch)
    gpu.run(
        rms_norm.bind(
            None,
            batch=batch,
            images_a_part=0,
            x=gpu.images(x, has_tangent=has_tangent),
            y=y,
            weights=weights,
            epsilon=EPSILON,
        )
    )
    value, tangent = normalized(x[0], x[1:] * has_tangent, scale, v, size)
    tolerances.NORMALISED.check(gpu.values(y), np.concatenate([value[None], tangent]))


@pytest.mark.parametrize(("batch", "shape"), CASES)
def test_explicit_directions(gpu, batch, shape):
    check(gpu, batch, shape, EXPLICIT, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_directions_that_are_drawn(gpu, kind):
    check(gpu, 2, (2, 1, 150), kind, 2)


def test_an_input_without_a_tangent(gpu):
    check(gpu, 3, (5, 1, 6), EXPLICIT, 2, has_tangent=False)


@pytest.mark.parametrize("shape", [(3, 1, 6), (2, 1, 515)])
def test_without_a_scale(gpu, shape):
    x = np.random.default_rng(0).standard_normal((2, 3, *shape)).astype(np.float32).astype(np.float64)
    y = gpu.images(shape=shape, blocks=2, batch=3)
    weights = Affine(None, None, kind=RADEMACHER, count=1)
    gpu.run(
        rms_norm.bind(None, batch=3, images_a_part=0, x=gpu.images(x), y=y, weights=weights, epsilon=EPSILON)
    )
    value, tangent = normalized(x[0], x[1:], np.ones(shape[-1]), np.zeros((1, shape[-1])))
    tolerances.NORMALISED.check(gpu.values(y), np.concatenate([value[None], tangent]))


@pytest.mark.parametrize("shape", [(3, 1, 6), (2, 1, 515)])
def test_no_directions(gpu, shape):
    check(gpu, 2, shape, NONE, 0)


@pytest.mark.parametrize("shape", [(2, 1, 9), (1, 1, 515)])
@pytest.mark.parametrize("size", [2.0**66, 2.0**120, 2.0**-60])
def test_numbers_whose_squares_leave_float32(gpu, shape, size):
    check(gpu, 2, shape, EXPLICIT, 1, size=size)
