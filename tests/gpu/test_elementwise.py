"""Elementwise operations on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.ops.elementwise import cuda as elementwise
from tests import tolerances

SHAPES = [(1, (1, 1, 1)), (3, (2, 5, 3)), (7, (1, 1, 37))]


@pytest.mark.parametrize(("batch", "shape"), SHAPES)
@pytest.mark.parametrize("tangents", [(True, True), (True, False), (False, False)])
def test_a_sum_of_images_with_tanh(gpu, batch, shape, tangents):
    rng = np.random.default_rng(batch)
    x, x2 = (rng.standard_normal((3, batch, *shape)) for _ in range(2))
    first, second = (gpu.images(v, has_tangent=t) for v, t in zip((x, x2), tangents, strict=True))
    y = gpu.images(shape=shape, blocks=3, batch=batch)
    gpu.run(
        elementwise.bind(
            batch=batch, images_a_part=0, count=2, x=first, x2=second, y=y, activation_name="tanh"
        )
    )
    value = np.tanh(x[0] + x2[0])
    dz = tangents[0] * x[1:] + tangents[1] * x2[1:]
    expected = np.concatenate([value[None], (1 - value**2) * dz])
    tolerances.ELEMENTWISE.check(gpu.values(y), expected)


def test_a_copy_without_tangents(gpu):
    x = np.random.default_rng(0).standard_normal((1, 4, 3, 3, 2)).astype(np.float32)
    y = gpu.images(shape=(3, 3, 2), batch=4)
    gpu.run(elementwise.bind(batch=4, images_a_part=0, count=0, x=gpu.images(x), y=y))
    np.testing.assert_array_equal(gpu.values(y), x)
