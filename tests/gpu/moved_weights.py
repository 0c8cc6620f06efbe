"""Weights of layers under test, the directions along which they are moved, and both in float64."""

from typing import NamedTuple

import numpy as np

from fgnumba.kernels.rules import directions
from fgnumba.kernels.shared.product.product import Weights
from tests import tolerances
from tests.references import reference

KINDS = {
    "none": directions.NONE,
    "rank1": directions.RANK1,
    "rademacher": directions.RADEMACHER,
    "gaussian": directions.GAUSSIAN,
    "explicit": directions.EXPLICIT,
}
ALPHA = {"identity": 1.0, "relu": 0.0, "leaky_relu": 0.01}
"""Slopes below zero."""

MANY, FEW = 10_000, 1
"""Processors: so many that all tiles are small, and one that a large tile is enough for."""

SEED, STEP, FIRST, PARAMETER, BIAS = 99, 4, 5, 2, 3


class Moved(NamedTuple):
    """A weight (K, N), a bias (N,), their tangents (T, K, N) and (T, N), and all of them on a device."""

    weight: np.ndarray
    bias: np.ndarray
    v: np.ndarray
    v_bias: np.ndarray
    weights: Weights


def random(seed, shape, whole=False):
    """Return float64 that float32 has exactly; `whole`: small whole numbers, whose sums every precision has exactly."""
    rng = np.random.default_rng(seed)
    if whole:
        return rng.integers(-4, 5, shape).astype(np.float64)
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def moved(gpu, kind, tangents, inputs, outputs, *, groups=1, has_bias=True, whole=False):
    """Return weights with `tangents` of a kind; columns in groups, which are drawn as they are packed."""
    weight = random(inputs, (inputs, outputs), whole)
    bias = random(outputs, outputs, whole) * has_bias
    stacked = kind == "explicit" and tangents > 0
    if kind == "none" or not tangents:
        v, v_bias = np.zeros((tangents, inputs, outputs)), np.zeros((tangents, outputs))
    elif kind == "explicit":
        v, v_bias = random(1, (tangents, inputs, outputs), whole), random(2, (tangents, outputs), whole)
    else:
        # Each group's columns begin a panel of 32.
        each = outputs // groups
        across = -(-each // 32) * 32
        columns = [across * group + n for group in range(groups) for n in range(each)]

        def drawn(shape, parameter):
            entries = [
                reference.direction(kind, shape, FIRST + t, parameter, STEP, SEED) for t in range(tangents)
            ]
            return np.stack(entries)[..., columns]

        v = drawn((inputs, across * groups), PARAMETER)
        v_bias = drawn((across * groups,), BIAS) * has_bias
    weights = Weights(
        weight=gpu.packed(weight, groups),
        bias=gpu.packed(bias, groups),
        kind=KINDS[kind],
        count=tangents,
        first=FIRST,
        parameter=PARAMETER,
        bias_parameter=BIAS if has_bias and kind != "none" else -1,
        stream=gpu.stream(SEED, STEP),
        v=gpu.stacked(v, groups) if stacked else None,
        v_bias=gpu.stacked(v_bias, groups) if stacked else None,
    )
    return Moved(weight, bias, v, v_bias if has_bias else 0 * v_bias, weights)


def activated(activation, z, dz):
    """Return (1 + T, ...) a(z) and a'(z) dz."""
    if activation == "tanh":
        return np.concatenate([np.tanh(z)[None], (1 - np.tanh(z) ** 2) * dz])
    slope = np.where(z > 0, 1, ALPHA[activation])
    return np.concatenate([(z * slope)[None], slope * dz])


def check(found, expected, inputs, whole):
    """Compare sums of `inputs` terms of order 1: exactly where they are small whole numbers."""
    bound = tolerances.Within() if whole else tolerances.weighted_sums(inputs)
    bound.check(found, expected)
