"""The learning-rate range test: its curve, its rule, and the trainer that it leaves as it was."""

import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.callbacks import LearningRateFinder
from fgnumba.errors import ConfigError
from fgnumba.optimizers.base import Optimizer
from tests.recipes import GENERAL
from tests.tolerances_rates import LOG_RATIO, RATE, RUNNING_MEAN
from tests.training.test_copies import OPTIMIZERS, bits, blobs, trained, trainer_of


def digits(optimizer, estimator="feedback"):
    data = fg.datasets.load("digits")
    model = fg.Sequential(
        [fg.Flatten(), fg.Dense(32, activation="relu"), fg.Dense(10)], data.input_shape, seed=0
    )
    return fg.Trainer(model, estimator=estimator, optimizer=optimizer), data


def test_a_suggestion_trains():
    trainer, data = digits(fg.Adam(1e-3))
    finder = LearningRateFinder(lowest=1e-6, highest=10.0, steps=120)
    rate = finder.find(trainer, data)
    # Adam's usable rates for this network span two decades around 1e-2; beyond, it diverges or stands still.
    assert rate is not None
    assert 1e-2 / 100 < rate < 1e-2 * 10
    assert finder.suggestion == rate
    trained, _ = digits(fg.Adam(rate))
    assert trained.fit(data, steps=150).final.test_accuracy > 0.85


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", GENERAL)
def test_every_estimator_and_optimiser(name, optimizer):
    trainer = trainer_of(name, optimizer)
    trained(trainer, 3)
    before = bits(trainer)
    finder = LearningRateFinder(1e-5, 1e-1, 10)
    finder.find(trainer, blobs(), batch_size=8)
    assert bits(trainer) == before
    assert 1 <= len(finder.losses) == len(finder.rates) == len(finder.smoothed) <= 10


def test_the_rates_grow_geometrically_and_the_batches_are_those_that_come_next():
    trainer = trainer_of("feedback", "momentum")
    trainer.fit(blobs(), steps=3, batch_size=8)
    finder = LearningRateFinder(1e-4, 1e-2, 11)
    finder.find(trainer, blobs(), batch_size=8)
    LOG_RATIO.check(np.diff(np.log(finder.rates)), np.full(10, math.log(100) / 10))
    RATE.check(finder.rates[[0, -1]], np.array([1e-4, 1e-2]))
    # The same steps, taken by a trainer with that schedule.
    rates = finder.rates.tolist()
    model = trainer.model
    other = fg.Trainer(
        fg.Sequential(list(model.layers), model.input_shape, seed=3),
        estimator=trainer.estimator,
        optimizer=fg.SGD(lambda step: 1e-3 if step < 3 else rates[min(step - 3, 10)], momentum=0.9),
        seed=1,
    )
    other.fit(blobs(), steps=3, batch_size=8)
    batches = blobs().batches(8, 1, 3)
    assert finder.losses.tolist() == [other.step(*next(batches)).loss for _ in range(11)]


class Told(LearningRateFinder):
    """A finder that is given its curve."""

    def __init__(self, losses, **options):
        super().__init__(1e-4, 1.0, max(10, len(losses)), **options)
        self._take([self.rate(i) for i in range(len(losses))], losses, False)


def test_the_suggestion_is_where_the_loss_falls_most_steeply():
    losses = [9.0, *[5.0] * 11, 4.9, 4.5, 2.0, 1.5, 1.4, 1.4, 6.0, 2.0]
    told = Told(losses, smoothing=0.0)
    # The first tenth is left out, and so is what follows the smallest loss.
    assert told.suggestion == told.rate(14)
    assert told.smoothed.tolist() == losses


def test_smoothing_is_corrected_for_its_beginning():
    told = Told([4.0, 2.0, 2.0], smoothing=0.5)
    RUNNING_MEAN.check(told.smoothed, np.array([4.0, (1 + 1) / 0.75, (0.5 + 0.5 + 1) / 0.875]))


@pytest.mark.parametrize("losses", [[], [1.0], [1.0] * 12, [float(i) for i in range(1, 13)]])
def test_a_loss_that_never_falls_suggests_nothing(losses):
    assert Told(losses).suggestion is None


def test_it_ends_where_the_loss_grows():
    trainer, data = digits(fg.SGD(1e-3))
    finder = LearningRateFinder(1e-3, 1e6, 100)
    finder.find(trainer, data)
    assert finder.diverged
    assert 5 < len(finder.losses) < 100
    assert np.isfinite(finder.losses).all()


def test_it_ends_where_a_step_diverges():
    trainer, data = digits(fg.SGD(1e-3))
    finder = LearningRateFinder(1e-3, 1e38, 40, stop_above=1e30)
    finder.find(trainer, data)
    assert finder.diverged
    assert len(finder.losses) < 40


def test_the_function_is_the_class_in_one_call():
    trainer, data = digits(fg.Adam(1e-3))
    found = fg.find_learning_rate(trainer, data, lowest=1e-5, highest=1e-1, steps=20, batch_size=32)
    finder = LearningRateFinder(1e-5, 1e-1, 20)
    assert finder.find(trainer, data, batch_size=32) == found.suggestion
    assert finder.losses.tolist() == found.losses.tolist()


def test_arrays_and_real_targets():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 5)).astype(np.float32)
    y = x @ rng.standard_normal((5, 2)).astype(np.float32)
    model = fg.Sequential([fg.Dense(2)], 5, seed=0)
    trainer = fg.Trainer(model, loss="mse", estimator="feedback", optimizer=fg.Adam(1e-3))
    finder = fg.find_learning_rate(trainer, x, y, lowest=1e-4, highest=10.0, steps=60, batch_size=16)
    assert finder.suggestion is not None
    assert 1e-3 < finder.suggestion < 10.0
    assert finder.losses.min() < finder.losses[0] / 2


class Plain(Optimizer):
    """An optimiser that is no dataclass."""

    learning_rate, decay = 1e-3, 0.0

    def constants(self):
        return fg.SGD(1e-3).constants()

    @property
    def rule(self):
        return fg.SGD(1e-3).rule


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lowest": 0}, "lowest is 0"),
        ({"lowest": 1.0, "highest": 0.5}, "highest is 0.5; above lowest, 1, is required"),
        ({"steps": 9}, "steps is 9"),
        ({"smoothing": 1}, "smoothing is 1; below 1 is required"),
        ({"stop_above": 1}, "stop_above is 1; above 1 is required"),
        ({"stop_above": math.nan}, "stop_above is nan"),
    ],
)
def test_what_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        LearningRateFinder(**options)


def test_what_it_cannot_test():
    finder = LearningRateFinder(steps=10)
    with pytest.raises(ConfigError, match="dataset is a int, 7; arrays X and y"):
        finder.find(trainer_of(), 7)
    with pytest.raises(ConfigError, match="its batches cannot be had again after the test"):
        finder.find(trainer_of(), [(blobs().x_train[:4], blobs().y_train[:4])])
    with pytest.raises(fg.ShapeError):
        finder.find(trainer_of(), fg.datasets.load("digits"))
    with pytest.raises(ConfigError, match="learning rate of Plain cannot be set; a dataclass"):
        finder.find(fg.Trainer(trainer_of().model, optimizer=Plain()), blobs())
    with pytest.raises(ConfigError, match="Frank-Wolfe takes at most 1"):
        LearningRateFinder(1e-3, 10.0, 10).find(trainer_of(optimizer="frank-wolfe"), blobs())
