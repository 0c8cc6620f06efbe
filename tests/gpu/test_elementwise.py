"""Elementwise operations on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.ops.elementwise import cuda as elementwise
from fgnumba.kernels.rules.activations.rules import RULES
from tests import tolerances
from tests.kernels.test_activations import assert_within

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


@pytest.mark.parametrize("name", RULES)
def test_every_activation(gpu, name):
    z = np.concatenate([np.linspace(-9, 9, 41), [-1e4, -1e-3, 0.0, 1e-3, 1e4]]).astype(np.float32)
    x = np.stack([z, np.ones_like(z)]).reshape(2, 2, 1, 1, 23)
    y = gpu.images(shape=(1, 1, 23), blocks=2, batch=2)
    gpu.run(elementwise.bind(batch=2, images_a_part=0, count=1, x=gpu.images(x), y=y, activation_name=name))
    value, derivative = gpu.values(y).reshape(2, 46)
    assert_within(name, z, value, derivative)


def test_a_copy_without_tangents(gpu):
    x = np.random.default_rng(0).standard_normal((1, 4, 3, 3, 2)).astype(np.float32)
    y = gpu.images(shape=(3, 3, 2), batch=4)
    gpu.run(elementwise.bind(batch=4, images_a_part=0, count=0, x=gpu.images(x), y=y))
    np.testing.assert_array_equal(gpu.values(y), x)
