"""Validation and early stopping with many steps at once on a GPU: as on the CPU, and as with single steps."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.estimators import recipe
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.training.callbacks import EarlyStopping
from tests import tolerances
from tests.gpu.test_training import Steps, StopAt, blobs, no_room, small


@pytest.fixture
def device(driver):
    return Gpu(driver)


def fit(device, name="feedback", restore=True, stop=None, **options):
    """Return a trainer after a run that ends by its second record after the best, with its history and its steps."""
    estimator = recipe(name).build(name, None, None)
    one = fg.Trainer(small(device), estimator=estimator, optimizer=fg.Adam(1e-2), seed=5)
    seen, stopping = Steps(), EarlyStopping(2, min_delta=2.0, restore_best=restore)
    callbacks = [seen, StopAt(stop), stopping]
    history = one.fit(
        blobs(), steps=40, batch_size=4, evaluate_every=3, validation=0.2, callbacks=callbacks, **options
    )
    return one, history, seen


def assert_alike(found, expected):
    for name, array in found.model.parameters().items():
        np.testing.assert_array_equal(array, expected.model.parameters()[name], err_msg=name)


@pytest.mark.parametrize("name", ["weight-perturbation", "feedback"])
@pytest.mark.parametrize("restore", [False, True])
def test_a_run_ends_early_and_no_step_is_taken_beyond(device, name, restore):
    one, history, seen = fit(device, name, restore)
    assert (history.ended_early, one.steps_done, len(seen.results)) == (True, 9, 9)
    assert [record.step for record in history.records] == [3, 6, 9]
    assert history.restored_step == (3 if restore else None)
    assert np.isnan([record.test_loss for record in history.records]).tolist() == [True, True, False]
    other, expected, _ = fit("cpu", name, restore)
    # Only the order of sums differs, as in steps one by one.
    bound, parameters = tolerances.GPU_TRAINING, other.model.parameters()
    for array_name, array in one.model.parameters().items():
        bound.check(array, parameters[array_name], array_name)
    for found, record in zip(history.records, expected.records, strict=True):
        assert found.validation_accuracy == record.validation_accuracy
        bound.check(found.validation_loss, record.validation_loss)
    bound.check(history.final.test_loss, expected.final.test_loss)


def test_steps_by_the_dozen_end_as_those_one_by_one(device, monkeypatch):
    together, history, seen = fit(device)
    with monkeypatch.context() as patched:
        patched.setattr("fgnumba.training.device_loop.DeviceLoop.__init__", no_room)
        apart, expected, others = fit(device)
    assert seen.results == others.results
    assert_alike(together, apart)
    assert [r.validation_loss for r in history.records] == [r.validation_loss for r in expected.records]
    assert history.final.test_loss == expected.final.test_loss


def test_a_resumed_run_ends_early_as_the_undisturbed_one(device, tmp_path):
    whole, history, _ = fit(device)
    for stop in (2, 5):
        assert fit(device, stop=stop, checkpoints=fg.Checkpoints(tmp_path, every=2), resume=True)[1].stopped
    for _ in range(2):
        one, resumed, _ = fit(device, checkpoints=fg.Checkpoints(tmp_path, every=2), resume=True)
        assert (resumed.ended_early, resumed.restored_step) == (True, 3)
        assert_alike(one, whole)
        for found, record in zip(resumed.records, history.records, strict=True):
            assert found.validation_loss == record.validation_loss
        assert resumed.final.test_loss == history.final.test_loss
