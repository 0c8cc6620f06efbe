"""Diagnosis of a divergence on a GPU: it names the same layer as on the CPU."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from tests.training.test_diagnosis import diverged, silent


@pytest.mark.parametrize(
    "estimator",
    [
        fg.WeightPerturbation(directions=2),
        fg.ActivityPerturbation(layerwise=True),
        fg.ActivityPerturbation(local=fg.LocalLosses()),
        fg.HybridDifferences(),
    ],
    ids=lambda estimator: estimator.name,
)
def test_the_layer_is_the_one_that_the_cpu_names(driver, estimator):
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((3, 5, 5, 2)).astype(np.float32), np.array([0, 1, 2])
    x[1] *= np.float32(1e20)
    found = []
    for device in ("cpu", Gpu(driver)):
        layers = [
            fg.Conv2d(4, 3, padding="same", activation="relu"),
            fg.Conv2d(4, 3, activation="relu"),
            fg.GroupNorm(2),
            fg.Flatten(),
            fg.Dense(3),
        ]
        model = fg.Sequential(layers, (5, 5, 2), seed=1, device=device)
        parameters = model.parameters()
        parameters["1.weight"] *= np.float32(1e25)
        model.load_parameters(parameters)
        diagnosis = diverged(model, x, y, estimator=estimator).diagnosis
        found.append((diagnosis.quantity, diagnosis.layer, diagnosis.index[0], diagnosis.direction))
    assert found == [("primal", "1", 1, None)] * 2


@pytest.mark.parametrize(
    "estimator", [fg.WeightPerturbation(), fg.ActivityPerturbation()], ids=lambda estimator: estimator.name
)
def test_tangents_of_a_gpu_are_looked_at(driver, estimator):
    x, y = np.ones((2, 3), np.float32), np.zeros(2, np.int64)
    found = diverged(silent(Gpu(driver)), x, y, estimator=estimator, seed=3).diagnosis
    assert (found.quantity, found.layer, found.direction) == ("tangent", "2", 0)
