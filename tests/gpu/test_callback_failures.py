"""A callback that raises while a GPU takes many steps at once: steps, parameters and checkpoint agree."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.estimators import recipe
from fgnumba.kernels.devices.gpu import Gpu
from tests.gpu.test_training import Steps, blobs, small
from tests.training.test_callback_failures import Raises


@pytest.fixture
def device(driver):
    return Gpu(driver)


def fit(device, callbacks=(), **options):
    estimator = recipe("feedback").build("feedback", None, None)
    one = fg.Trainer(small(device), estimator=estimator, optimizer=fg.Adam(1e-2), seed=5)
    try:
        one.fit(blobs(), steps=5, batch_size=4, evaluate_every=3, callbacks=callbacks, **options)
    except ValueError as error:
        return one, error
    return one, None


def test_a_callback_that_raises_loses_nothing(device, tmp_path):
    seen, saved = Steps(), fg.Checkpoints(tmp_path)
    one, error = fit(device, [Raises("on_step", 2), seen], checkpoints=saved)
    assert error is not None
    assert error.__notes__ == ["raised by the callback Raises.on_step"]
    # Steps that the GPU had taken by then are told and counted, too: the parameters are theirs.
    assert 2 <= one.steps_done == len(seen.results) == saved.saved_step <= 3
    again, _ = fit(device, checkpoints=saved, resume=True)
    whole, _ = fit(device)
    for name, array in whole.model.parameters().items():
        np.testing.assert_array_equal(again.model.parameters()[name], array, err_msg=name)
