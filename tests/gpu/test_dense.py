"""The dense layer on a GPU against float64: every tile, precision and kind of direction, ragged edges."""

from typing import NamedTuple

import numpy as np
import pytest

from fgnumba.kernels import directions
from fgnumba.kernels.dense import cuda as dense
from fgnumba.kernels.gpu.instructions import Instructions
from fgnumba.kernels.images import Images
from fgnumba.kernels.product import Weights

from .. import reference

KINDS = {
    "none": directions.NONE,
    "rank1": directions.RANK1,
    "rademacher": directions.RADEMACHER,
    "gaussian": directions.GAUSSIAN,
    "explicit": directions.EXPLICIT,
}
SEED, STEP, FIRST, PARAMETER, BIAS = 99, 4, 5, 2, 3
MANY, FEW = 10_000, 1
"""Processors: so many that all tiles are small, and one that a large tile is enough for."""

ALPHA = {"identity": 1.0, "relu": 0.0, "leaky_relu": 0.01}


class Layer(NamedTuple):
    """A dense layer on random numbers."""

    kind: str = "rank1"
    has_tangent: bool = True
    bias: bool = True
    count: int = 1
    shape: tuple[int, int, int] = (3, 10, 5)
    processors: int = MANY
    precision: str = "float32"
    tangent_precision: str | None = None
    activation: str = "relu"
    whole: bool = False
    """Small whole numbers, whose sums every precision has exactly."""


def numbers(layer, *shape):
    rng = np.random.default_rng(sum(layer.shape) + len(shape))
    if layer.whole:
        return rng.integers(-4, 5, shape).astype(np.float64)
    return rng.standard_normal(shape).astype(np.float32).astype(np.float64)


def directions_of(layer, shape, parameter, explicit):
    if layer.kind == "none":
        return np.zeros((layer.count, *shape))
    if layer.kind == "explicit":
        return explicit
    return np.stack(
        [reference.direction(layer.kind, shape, FIRST + t, parameter, STEP, SEED) for t in range(layer.count)]
    )


def run(gpu, layer, alphas=ALPHA):
    """Return the dual output found, and that of float64."""
    batch, inputs, outputs = layer.shape
    x = numbers(layer, 1 + layer.count, batch, inputs)
    weight, bias = numbers(layer, inputs, outputs), numbers(layer, outputs) * layer.bias
    explicit, explicit_bias = (
        numbers(layer, layer.count, inputs, outputs),
        numbers(layer, layer.count, outputs),
    )
    stacked = layer.kind == "explicit" and layer.count > 0
    y = gpu.images(shape=(outputs,), blocks=1 + layer.count, batch=batch)
    operation = dense.bind(
        Instructions("sm_90", layer.precision, layer.tangent_precision),
        layer.processors,
        batch=batch,
        x=gpu.images(x, has_tangent=layer.has_tangent and layer.count > 0),
        y=y,
        outputs=outputs,
        weights=Weights(
            weight=gpu.packed(weight),
            bias=gpu.packed(bias),
            kind=KINDS[layer.kind],
            count=layer.count,
            first=FIRST,
            parameter=PARAMETER,
            bias_parameter=BIAS if layer.bias and layer.kind != "none" else -1,
            stream=gpu.stream(SEED, STEP),
            v=gpu.stacked(explicit) if stacked else None,
            v_bias=gpu.stacked(explicit_bias) if stacked else None,
        ),
        activation_name=layer.activation,
    )
    gpu.run(operation)
    found = gpu.values(y)[:, :, 0, 0]
    z = x[0] @ weight + bias
    v = directions_of(layer, (inputs, outputs), PARAMETER, explicit)
    c = directions_of(layer, (outputs,), BIAS, explicit_bias) * layer.bias
    dz = np.einsum("bk,tkn->tbn", x[0], v) + c[:, None] + layer.has_tangent * (x[1:] @ weight)
    alpha = alphas[layer.activation]
    slope = np.where(z > 0, 1, alpha)
    return found, np.concatenate([(z * slope)[None], slope * dz])


def check(gpu, layer):
    found, expected = run(gpu, layer)
    # Sums of K terms of order 1, and of float32 Gaussians that are right to 5e-6.
    tolerance = 0 if layer.whole and layer.kind != "gaussian" else 3e-6 * np.sqrt(layer.shape[1]) * 5
    np.testing.assert_allclose(found, expected, rtol=1e-6 if tolerance else 0, atol=tolerance)


KINDS_AND_COUNTS = [(kind, count) for kind in KINDS for count in ((0, 2) if kind == "none" else (1, 3))]


@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize(("kind", "count"), KINDS_AND_COUNTS)
def test_small_tiles(gpu, kind, count, has_tangent):
    check(gpu, Layer(kind, has_tangent, count=count, shape=(33, 70, 37)))


@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize("kind", ["none", "rank1", "rademacher", "gaussian", "explicit"])
def test_large_tiles(gpu, kind, has_tangent):
    check(gpu, Layer(kind, has_tangent, count=1, shape=(130, 37, 66), processors=FEW))


def test_further_tangents_in_large_tiles(gpu):
    check(gpu, Layer("rademacher", count=2, shape=(129, 20, 65), processors=FEW))


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (1, 131, 3), (2, 17, 33), (11, 64, 32), (32, 3, 10), (7, 129, 2)]
)
@pytest.mark.parametrize("bias", [False, True])
def test_edges(gpu, shape, bias):
    check(gpu, Layer(bias=bias, shape=shape, activation="leaky_relu"))


@pytest.mark.parametrize("kind", ["none", "rank1", "rademacher", "explicit"])
@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_tensor_cores_are_exact_where_their_factors_are(gpu, kind, has_tangent, precision):
    layer = Layer(kind, has_tangent, count=2, shape=(65, 37, 66), precision=precision, whole=True)
    check(gpu, layer)


def test_tensor_cores_round_factors_alone(gpu):
    for precision, bits in (("tf32", 10), ("bf16", 7)):
        found, expected = run(gpu, Layer("none", count=0, shape=(5, 64, 9), precision=precision))
        error = np.abs(found - expected)
        # Two factors of order 1, each rounded by up to half a unit; errors of 64 terms add up like a walk.
        assert 2.0 ** -(bits + 4) < error.max() < 2.0**-bits * 2 * 8


def test_tangents_may_be_less_precise_than_the_primal(gpu):
    layer = Layer(count=2, shape=(9, 40, 12), tangent_precision="bf16", activation="identity")
    found, expected = run(gpu, layer)
    np.testing.assert_allclose(found[0], expected[0], atol=2e-5)
    error = np.abs(found[1:] - expected[1:])
    assert 1e-4 < error.max() < 0.2


def test_other_activations_follow_the_product(gpu):
    layer = Layer(shape=(5, 7, 3), activation="identity")
    _, (z, dz) = run(gpu, layer)
    found, _ = run(gpu, layer._replace(activation="tanh"), ALPHA | {"tanh": 1.0})
    np.testing.assert_allclose(found[0], np.tanh(z), atol=1e-5)
    np.testing.assert_allclose(found[1], (1 - np.tanh(z) ** 2) * dz, atol=1e-5)


def test_nan_stays_in_its_row(gpu):
    layer = Layer("none", count=0, shape=(9, 20, 40))
    x = numbers(layer, 1, 9, 20)
    x[0, 4, 0] = np.nan
    y = gpu.images(shape=(40,), batch=9)
    weights = Weights(gpu.packed(numbers(layer, 20, 40)), gpu.packed(np.zeros(40)))
    gpu.run(
        dense.bind(
            Instructions("sm_90"),
            MANY,
            batch=9,
            x=gpu.images(x),
            y=y,
            outputs=40,
            weights=weights,
            activation_name="relu",
        )
    )
    nan = np.isnan(gpu.values(y)[0, :, 0, 0])
    assert nan[4].all()
    assert not nan[np.arange(9) != 4].any()


def test_what_is_beside_the_output_is_not_touched(gpu):
    memory = gpu.array(np.full((2, 3, 64), -7777.0), np.float32)
    y = Images.of_batch(memory, (64,), True).channels_from(8, 6)
    layer = Layer(shape=(3, 10, 6))
    weights = Weights(gpu.packed(numbers(layer, 10, 6)), gpu.packed(np.zeros(6)), directions.NONE, 1)
    x = gpu.images(numbers(layer, 2, 3, 10))
    gpu.run(
        dense.bind(
            Instructions("sm_90"),
            MANY,
            batch=3,
            x=x,
            y=y,
            outputs=6,
            weights=weights,
            activation_name="identity",
        )
    )
    found = memory.download()
    assert (found[:, :, 8:14] != -7777.0).all()
    found[:, :, 8:14] = -7777.0
    assert (found == -7777.0).all()
