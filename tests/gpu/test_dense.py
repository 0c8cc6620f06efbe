"""The dense layer on a GPU against float64: every tile, precision and kind of direction, ragged edges."""

from typing import NamedTuple

import numpy as np
import pytest

from fgnumba.kernels.cuda.instructions import Instructions
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.ops.dense import cuda as dense
from tests import tolerances
from tests.gpu.moved_weights import FEW, KINDS, MANY, activated, check, moved, random

DRAWN = ("rademacher", "gaussian")
"""What takes the simulator longest."""


class Layer(NamedTuple):
    """A dense layer on random numbers; `shape` is (B, K, N)."""

    kind: str = "rank1"
    has_tangent: bool = True
    tangents: int = 1
    shape: tuple[int, int, int] = (3, 10, 5)
    processors: int = MANY
    precision: str = "float32"
    tangent_precision: str | None = None
    activation: str = "relu"
    has_bias: bool = True
    whole: bool = False


def run(gpu, layer):
    """Return the dual output found, and that of float64."""
    batch, inputs, outputs = layer.shape
    x = random(batch, (1 + layer.tangents, batch, inputs), layer.whole)
    one = moved(gpu, layer.kind, layer.tangents, inputs, outputs, has_bias=layer.has_bias, whole=layer.whole)
    y = gpu.images(shape=(outputs,), blocks=1 + layer.tangents, batch=batch)
    operation = dense.bind(
        Instructions("sm_90", layer.precision, layer.tangent_precision),
        layer.processors,
        batch=batch,
        x=gpu.images(x, has_tangent=layer.has_tangent and layer.tangents > 0),
        y=y,
        outputs=outputs,
        weights=one.weights,
        activation_name=layer.activation,
    )
    gpu.run(operation)
    z = x[0] @ one.weight + one.bias
    dz = x[0] @ one.v + one.v_bias[:, None] + layer.has_tangent * (x[1:] @ one.weight)
    return gpu.values(y)[:, :, 0, 0], activated(layer.activation, z, dz)


def agrees(gpu, layer):
    found, expected = run(gpu, layer)
    check(found, expected, layer.shape[1], layer.whole)


@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize(
    ("kind", "tangents"),
    [("none", 0), ("none", 2), ("rank1", 2), ("rademacher", 2), ("gaussian", 2), ("explicit", 3)],
)
def test_small_tiles(gpu, kind, tangents, has_tangent):
    rows = 5 if kind in DRAWN or tangents > 2 else 33
    agrees(gpu, Layer(kind, has_tangent, tangents, (rows, 37, 33)))


def test_a_long_sum_goes_round_all_stages_and_takes_many_words_of_signs(gpu):
    agrees(gpu, Layer("rank1", shape=(3, 293, 5)))


@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_large_tiles(gpu, kind, has_tangent):
    # The second tangent is summed without the primal.
    tangents = 1 if kind in DRAWN else 2
    agrees(gpu, Layer(kind, has_tangent, tangents, (67, 37, 5), FEW))


def test_several_large_tiles(gpu):
    agrees(gpu, Layer("rademacher", shape=(129, 17, 65), processors=FEW))
    agrees(gpu, Layer("rademacher", False, 2, shape=(3, 17, 5), processors=FEW))


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 17, 33), (11, 64, 32), (32, 3, 10)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_edges(gpu, shape, has_bias):
    agrees(gpu, Layer(has_bias=has_bias, shape=shape, activation="leaky_relu"))


@pytest.mark.parametrize("kind", ["none", "rank1", "rademacher", "explicit"])
@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_tensor_cores_are_exact_where_their_factors_are(gpu, kind, has_tangent, precision):
    shape = (5, 37, 65) if has_tangent else (65, 21, 5)
    agrees(gpu, Layer(kind, has_tangent, 2, shape, precision=precision, whole=True))


def test_tensor_cores_round_factors_alone(gpu):
    for precision in ("tf32", "bf16"):
        found, expected = run(gpu, Layer("none", tangents=0, shape=(5, 64, 9), precision=precision))
        error = np.abs(found - expected)
        least, most = tolerances.tensor_cores(precision, 64)
        assert least < error.max() < most


def test_tangents_may_be_less_precise_than_the_primal(gpu):
    layer = Layer(tangents=2, shape=(9, 40, 12), tangent_precision="bf16", activation="identity")
    found, expected = run(gpu, layer)
    tolerances.sums(40).check(found[0], expected[0])
    error = np.abs(found[1:] - expected[1:])
    least, most = tolerances.tensor_cores("bf16", 40)
    assert least < error.max() < most


def test_other_activations_follow_the_product(gpu):
    agrees(gpu, Layer(shape=(5, 7, 3), activation="tanh"))


def test_nan_stays_in_its_row(gpu):
    x = random(0, (1, 9, 20))
    x[0, 4, 0] = np.nan
    y = gpu.images(shape=(40,), batch=9)
    gpu.run(
        dense.bind(
            gpu.isa,
            MANY,
            batch=9,
            x=gpu.images(x),
            y=y,
            outputs=40,
            weights=moved(gpu, "none", 0, 20, 40).weights,
            activation_name="relu",
        )
    )
    nan = np.isnan(gpu.values(y)[0, :, 0, 0])
    assert nan[4].all()
    assert not nan[np.arange(9) != 4].any()


def test_what_is_beside_the_output_is_not_touched(gpu):
    memory = gpu.array(np.full((2, 3, 64), -7777.0), np.float32)
    gpu.run(
        dense.bind(
            gpu.isa,
            MANY,
            batch=3,
            x=gpu.images(random(0, (2, 3, 10))),
            y=Images.of_batch(memory, (64,), True).channels_from(8, 6),
            outputs=6,
            weights=moved(gpu, "none", 1, 10, 6).weights,
            activation_name="identity",
        )
    )
    found = memory.download()
    assert (found[:, :, 8:14] != -7777.0).all()
    found[:, :, 8:14] = -7777.0
    assert (found == -7777.0).all()
