"""The gradient of a convolution's weights on a GPU against float64."""

from dataclasses import replace

import numpy as np
import pytest

from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Border
from fgnumba.kernels.layout.packing import pack
from fgnumba.kernels.ops.conv2d import cuda as conv2d
from tests import tolerances
from tests.gpu.moved_weights import MANY, random
from tests.gpu.patches import grouped_gradient, output_size, packed_groups, patches

RAGGED = Geometry((3, 2), stride=(3, 2), dilation=(2, 3), padding=Border(2, 1, 1, 2))
SHAPES = {
    "1x1": ((3, 4, 5, 7), 5, Geometry((1, 1))),
    "one": ((1, 1, 1, 1), 1, Geometry((1, 1))),
    "ragged": ((2, 7, 8, 3), 5, RAGGED),
    # 81 rows and 66 columns: four tiles.
    "tiles": ((1, 3, 6, 9), 66, Geometry((3, 3), padding=Border(1, 1, 1, 1))),
    "grouped": ((2, 3, 3, 8), 70, Geometry((2, 2), padding=Border(0, 1, 1, 0), groups=2)),
    "depthwise": ((2, 7, 8, 33), 33, replace(RAGGED, groups=33)),
    "depthwise 1x1": ((2, 2, 3, 2), 2, Geometry((1, 1), groups=2)),
}


def run(gpu, images, outputs, geometry, processors=MANY, onto=False, has_bias=True):
    """Return what was found of dW and db, packed, and what float64 says; and how many shares there were."""
    batch, groups = images[0], packed_groups(images[3], outputs, geometry)
    x, told = random(3, images), random(4, (batch, *output_size(images, geometry), outputs))
    taps = geometry.kernel_size[0] * geometry.kernel_size[1]
    before = random(5, (taps * images[3] // geometry.groups, outputs)), random(6, outputs)
    # What is written anew may hold anything before.
    start = [pack(one, groups) if onto else np.full_like(pack(one, groups), np.nan) for one in before]
    out, bias = (gpu.array(one) for one in start)
    operation = conv2d.bind_gradient(
        gpu.isa,
        processors,
        batch=batch,
        x=gpu.images(x[None]),
        dz=gpu.images(told[None]),
        geometry=geometry,
        out=out,
        bias=bias if has_bias else None,
        onto=onto,
        multiply_adds=17,
    )
    assert operation.multiply_adds == 17
    gpu.run(operation)
    sums = grouped_gradient(patches(x, geometry), told, geometry.groups), told.reshape(-1, outputs).sum(0)
    expected = [pack(one + onto * old, groups) for one, old in zip(sums, before, strict=True)]
    if not has_bias:
        expected[1] = start[1]
    return (out.download(), bias.download()), expected, operation.launches[0].blocks[2]


def agrees(found, expected, pixels):
    for one, right in zip(found, expected, strict=True):
        tolerances.sums(pixels).check(one, right)


@pytest.mark.parametrize("onto", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(gpu, shape, onto):
    images, outputs, geometry = SHAPES[shape]
    found, expected, _ = run(gpu, images, outputs, geometry, onto=onto)
    agrees(found, expected, images[0] * images[1] * images[2])


@pytest.mark.parametrize("shape", ["1x1", "depthwise"])
@pytest.mark.parametrize("onto", [False, True])
def test_a_layer_without_a_bias(gpu, shape, onto):
    images, outputs, geometry = SHAPES[shape]
    found, expected, _ = run(gpu, images, outputs, geometry, onto=onto, has_bias=False)
    agrees(found, expected, images[0] * images[1] * images[2])


@pytest.mark.parametrize(
    ("images", "outputs", "geometry"),
    [
        ((3, 11, 17, 2), 3, Geometry((2, 1), padding=Border(1, 0, 0, 0))),
        ((3, 11, 17, 2), 2, Geometry((2, 1), padding=Border(1, 0, 0, 0), groups=2)),
    ],
    ids=["plain", "depthwise"],
)
def test_shares_of_many_pixels(gpu, images, outputs, geometry):
    # 561 pixels: two shares of at least 256, which no step of 16 divides.
    found, expected, shares = run(gpu, images, outputs, geometry, onto=True)
    assert shares == 2
    agrees(found, expected, 561)
