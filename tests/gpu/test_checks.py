"""The public checks on a GPU, or on the simulator: they take any device."""

import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.testing import check_layer, check_loss
from tests import tolerances

LAYERS: dict[str, tuple[fg.layers.Layer, object]] = {
    "activation": (fg.Activation("silu"), (5,)),
    "add": (fg.Add("tanh"), [(3,), (3,)]),
    "flatten": (fg.Flatten(), (2, 3, 1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_passes(driver, name):
    layer, shape = LAYERS[name]
    check_layer(layer, shape, device=Gpu(driver, graph=False))  # type: ignore[arg-type]


def test_a_loss_passes(driver):
    device = Gpu(driver, graph=False)
    check_loss(fg.MeanSquaredError(), outputs=(3,), device=device, tolerance=tolerances.CHECKED_LOSS)
