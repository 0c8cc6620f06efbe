"""Replay of runs on a GPU: bit-identical, whether the steps were taken one by one or many at once."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.storage.durable import AppendLog
from fgnumba.training import replay
from fgnumba.training.replay_log import read
from tests.gpu.test_training import perceptron

RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((6, 3, 3, 1)).astype(np.float32), RNG.integers(0, 4, 6)
STEPS, BATCH = 3, 3


class Logged(fg.Callback):
    """Logs every step."""

    def __init__(self, trainer, file):
        self.trainer, self.log = trainer, replay.begin(trainer, file)

    def on_step(self, step, result):
        """Take note of a step."""
        self.log.step(step - 1, self.trainer.last_rate, self.trainer.bind(BATCH).coefficients())


def state(trainer):
    arrays = {name: array.download().tobytes() for name, array in trainer.state.arrays.items()}
    parameters = {name: p.packed.download().tobytes() for name, p in trainer.model.packed_parameters.items()}
    return trainer.steps_done, parameters, arrays


@pytest.fixture
def make(driver):
    """Return a function that returns a fresh trainer on the GPU."""

    def call(estimator, optimizer):
        return fg.Trainer(perceptron(Gpu(driver)), estimator=estimator, optimizer=optimizer, seed=3)

    return call


@pytest.mark.parametrize(
    ("estimator", "optimizer", "resident"),
    [
        (WeightPerturbation(), fg.SGD(1e-2), True),
        (WeightPerturbation("orthogonal", 2), fg.SGD(1e-2, momentum=0.9), False),
        (WeightPerturbation("rank1", 2, "projected", clip=0.2), fg.Adam(1e-2), True),
        (WeightPerturbation(control=0.5), fg.SGD(1e-2, clip_norm=1.0), False),
    ],
    ids=["many at once", "one by one", "combined, many at once", "combined, one by one"],
)
def test_a_run_comes_out_bit_for_bit(make, tmp_path, estimator, optimizer, resident):
    trainer = make(estimator, optimizer)
    with AppendLog(tmp_path / "log") as file:
        logged = Logged(trainer, file)
        if resident:
            trainer.fit(Dataset("six", X, Y, X, Y, 4), steps=STEPS, batch_size=BATCH, callbacks=[logged])
        else:
            for step in range(STEPS):
                logged.on_step(step + 1, trainer.step(X[:BATCH], Y[:BATCH]))
        logged.log.end_block()
        file.flush()
    again = make(estimator, optimizer)
    replay.replay(again, read(tmp_path / "log"))
    assert state(again) == state(trainer)
    x, y = X[BATCH:], Y[BATCH:]
    for one in (again, trainer):
        one.step(x, y)
    assert state(again) == state(trainer)


def test_a_log_is_of_its_device(make, tmp_path):
    with AppendLog(tmp_path / "log") as file:
        replay.begin(make(WeightPerturbation(), fg.SGD(1e-2)), file)
        file.flush()
    trainer = fg.Trainer(perceptron("cpu"), estimator=WeightPerturbation(), optimizer=fg.SGD(1e-2), seed=3)
    with pytest.raises(ConfigError, match="device 'cuda'; here 'cpu'"):
        replay.replay(trainer, read(tmp_path / "log"))
