"""Learning rates that are measured on a GPU: steps are taken one by one there, and their rates are those of the CPU."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.training.rate_meter import CurvatureMeter
from tests import tolerances_measured_rates as tolerances

RNG = np.random.default_rng(1)
X, Y = RNG.standard_normal((12, 6)).astype(np.float32), RNG.integers(0, 4, 12)


@pytest.mark.parametrize("estimator", ["feedback", "weight-perturbation"])
def test_a_gpu_measures_what_the_cpu_does(driver, estimator):
    rates = []
    for device in ("cpu", Gpu(driver)):
        model = fg.Sequential([fg.Dense(9, "tanh"), fg.Dense(4)], 6, seed=2, device=device)
        trainer = fg.Trainer(model, estimator=estimator, optimizer="auto", seed=3)
        trainer.fit(fg.datasets.Dataset("few", X, Y, X[:2], Y[:2], 4), steps=3, batch_size=6)
        assert isinstance(trainer.meter, CurvatureMeter)
        measured = trainer.meter.measured
        rates.append((trainer.last_rate, measured.mean, measured.last, measured.scale))
        assert measured.taken == (2 if estimator == "feedback" else 3)
    ours, theirs = rates
    tolerances.RATE_ON_A_GPU.check(theirs, ours)
    assert min(ours) > 0
