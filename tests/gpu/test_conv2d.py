"""Convolutions on a GPU against float64 sums over the taps of zero-padded images."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from fgnumba.kernels.cuda.instructions import Instructions
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Border, Images
from fgnumba.kernels.ops.conv2d import cuda as conv2d
from tests.gpu.moved_weights import FEW, KINDS, MANY, activated, check, moved, random
from tests.gpu.patches import grouped_product, output_size, packed_groups, patches


class Layer(NamedTuple):
    """A convolution of random images (B, H, W, C) to N channels."""

    images: tuple[int, int, int, int]
    outputs: int
    geometry: Geometry
    kind: str = "rank1"
    has_tangent: bool = True
    tangents: int = 1
    processors: int = MANY
    precision: str = "float32"
    activation: str = "relu"
    whole: bool = False


def bound(gpu, layer, one, x, y):
    """Return the operations."""
    return conv2d.bind(
        Instructions("sm_90", layer.precision),
        layer.processors,
        batch=layer.images[0],
        images_a_part=1,
        x=x,
        y=y,
        geometry=layer.geometry,
        weights=one.weights,
        activation_name=layer.activation,
    )


def weights_of(gpu, layer):
    channels, outputs, geometry = layer.images[3], layer.outputs, layer.geometry
    inputs = int(np.prod(geometry.kernel_size)) * channels // geometry.groups
    groups = packed_groups(channels, outputs, geometry)
    return moved(gpu, layer.kind, layer.tangents, inputs, outputs, groups=groups, whole=layer.whole)


def expected_of(layer, one, x):
    """Return the dual output in float64."""
    groups = layer.geometry.groups
    columns = patches(x, layer.geometry)
    z = grouped_product(columns[0], one.weight, groups) + one.bias
    dz = np.stack([grouped_product(columns[0], v, groups) for v in one.v] or [0 * z])[: layer.tangents]
    dz = dz + one.v_bias[:, None, None, None]
    if layer.has_tangent:
        dz += grouped_product(columns[1:], one.weight, groups)
    return activated(layer.activation, z, dz)


def agrees(gpu, layer):
    x = random(1, (1 + layer.tangents, *layer.images), layer.whole)
    one = weights_of(gpu, layer)
    size = output_size(layer.images, layer.geometry)
    y = gpu.images(shape=(*size, layer.outputs), blocks=1 + layer.tangents, batch=layer.images[0])
    given = gpu.images(x, has_tangent=layer.has_tangent and layer.tangents > 0)
    operations = bound(gpu, layer, one, given, y)
    gpu.run(*operations)
    check(gpu.values(y), expected_of(layer, one, x), one.weight.shape[0], layer.whole)
    return operations


def kernels(operations):
    return [launch.kernel.name for operation in operations for launch in operation.launches]


PLAIN = Geometry((3, 3), padding=Border(1, 1, 1, 1))
RAGGED = Geometry((3, 2), stride=(3, 2), dilation=(2, 3), padding=Border(2, 1, 1, 2))
"""Different along both axes and on all sides."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("channels", "loads"), [(4, "wide"), (3, "single")])
def test_all_kinds_of_directions(gpu, kind, channels, loads):
    # 40 rows and 33 columns: four tiles. What is drawn takes the simulator long: two.
    batch = 1 if kind in ("rademacher", "gaussian") else 5
    layer = Layer((batch, 7, 8, channels), 33, RAGGED, kind, tangents=2)
    assert kernels(agrees(gpu, layer))[0].endswith(loads)


@pytest.mark.parametrize(
    "layer",
    [
        Layer((2, 4, 5, 1), 3, PLAIN, tangents=0),
        Layer((2, 4, 5, 1), 3, PLAIN, has_tangent=False, tangents=2),
        Layer((1, 1, 1, 1), 1, Geometry((1, 1)), "gaussian", has_tangent=False, tangents=2),
        Layer((2, 5, 7, 6), 5, Geometry((1, 1), stride=(2, 3)), "gaussian", has_tangent=False, tangents=2),
        Layer((2, 3, 5, 8), 5, Geometry((1, 1)), "explicit"),
        Layer((1, 7, 1, 2), 4, Geometry((5, 1), dilation=(2, 1), padding=Border(4, 4, 0, 0))),
        Layer((1, 2, 3, 4), 2, Geometry((3, 3), stride=(4, 4), padding=Border(5, 5, 4, 4)), "rademacher"),
        # Seven steps of K: channels that begin in the middle of a step.
        Layer((1, 3, 3, 20), 6, PLAIN, "rademacher"),
        # Some steps of K go on to the next tap, others do not.
        Layer((1, 2, 2, 36), 3, Geometry((2, 1)), processors=FEW),
        Layer((2, 4, 5, 3), 4, PLAIN, activation="tanh"),
    ],
    ids=str,
)
def test_shapes(gpu, layer):
    agrees(gpu, layer)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("own", "each"), [(4, 34), (3, 5)])
def test_groups(gpu, kind, own, each):
    geometry = Geometry((2, 2), padding=Border(0, 1, 1, 0), groups=2)
    agrees(gpu, Layer((2, 3, 3, 2 * own), 2 * each, geometry, kind))


@pytest.mark.parametrize(
    ("kind", "has_tangent"), [("rank1", True), ("explicit", True), ("gaussian", False), ("none", True)]
)
def test_large_tiles(gpu, kind, has_tangent):
    # 132 rows: two tiles.
    layer = Layer((2, 11, 6, 4), 7, PLAIN, kind, has_tangent, processors=FEW)
    assert kernels(agrees(gpu, layer))[0].startswith("product-large")


def test_large_tiles_of_groups(gpu):
    agrees(gpu, Layer((1, 9, 15, 8), 6, replace(PLAIN, groups=2), "rank1", processors=FEW))


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_tensor_cores_are_exact_where_their_factors_are(gpu, precision):
    layer = Layer((3, 7, 8, 4), 6, RAGGED, "explicit", precision=precision, whole=True)
    assert kernels(agrees(gpu, layer))[0].startswith(f"product-tensor-{precision}")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_images_without_wide_loads_stay_in_float32(gpu, precision):
    layer = Layer((1, 3, 3, 3), 2, PLAIN, precision=precision)
    assert kernels(agrees(gpu, layer)) == ["product-small-float32-primal-tangent-single"]


def test_some_channels_of_images_to_some_of_others(gpu):
    layer = Layer((2, 3, 4, 4), 6, PLAIN, "rademacher")
    x, one = random(1, (2, 2, 3, 4, 12)), weights_of(gpu, layer)
    memory = gpu.array(np.full((2, 2, 3 * 4 * 16), -7777.0), np.float32)
    y = Images.of_batch(memory, (3, 4, 16), True).channels_from(5, 6)
    gpu.run(*bound(gpu, layer, one, gpu.images(x).channels_from(4, 4), y))
    found = memory.download().reshape(2, 2, 3, 4, 16)
    check(found[..., 5:11], expected_of(layer, one, x[..., 4:8]), one.weight.shape[0], whole=False)
    found[..., 5:11] = -7777.0
    assert (found == -7777.0).all()


DEPTHWISE = [
    Layer((2, 7, 8, 33), 33, replace(RAGGED, groups=33), tangents=2),
    Layer((3, 4, 4, 2), 2, replace(PLAIN, groups=2), tangents=2),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("has_tangent", [False, True])
@pytest.mark.parametrize("layer", DEPTHWISE, ids=["ragged", "plain"])
def test_depthwise(gpu, layer, kind, has_tangent):
    layer = layer._replace(kind=kind, has_tangent=has_tangent, activation="leaky_relu")
    assert kernels(agrees(gpu, layer)) == ["conv2d-depthwise"]


def test_depthwise_without_tangents_and_with_another_activation(gpu):
    agrees(gpu, DEPTHWISE[1]._replace(tangents=0))
    agrees(gpu, DEPTHWISE[1]._replace(activation="tanh"))
