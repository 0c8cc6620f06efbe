"""The learning-rate range test: one short run with a growing rate shows which rates suit a trainer.

Source: L. N. Smith, *Cyclical learning rates for training neural networks*, arXiv 1506.01186, section 3.3. The rule of
the suggestion is fastai's: the rate at which the smoothed loss falls most steeply.
"""

import copy
import math
from dataclasses import is_dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DivergenceError, shown
from fgnumba.kernels.rules.philox import MAX_STEP
from fgnumba.training.batches import Batches
from fgnumba.training.given import data_of
from fgnumba.training.sources import Feed
from fgnumba.training.state import state_of, take_state
from fgnumba.training.steps import Steps
from fgnumba.validation import real_number, whole_number

FEWEST = 10
"""Smallest number of steps: the rule leaves out a tenth of them at the beginning."""


class LearningRateFinder:
    r"""The learning-rate range test, which suggests a learning rate for a trainer.

    The rate grows geometrically over N steps, from the lowest one η_0 to the highest one η_{N-1},

    .. math:: η_i = η_0 (η_{N-1} / η_0)^{i / (N-1)}.

    The losses l_i are smoothed by a running mean that is corrected for its beginning,

    .. math:: m_i = β m_{i-1} + (1-β) l_i, \qquad s_i = m_i / (1 - β^{i+1}).

    The test ends where s_i exceeds `stop_above` times the smallest s so far, or where a step diverges.

    The suggestion is the rate η_i at which s falls most steeply per factor of the rate: the i with the smallest central
    difference s_{i+1} - s_{i-1}, among those after the first tenth of N and up to the smallest s. It is a rate to begin
    from; where s has become noisy before its minimum, a third of it is safer.

    Each step is taken by a copy of the trainer, which begins from its parameters and its optimiser's state. The trainer
    itself stays as it is.

    The curve tells little where the steps are noisy. Weight perturbation's estimate has a relative variance of about
    P / T for P parameters and T directions, so that the loss falls by less than its noise within a hundred steps of
    most models: what the test finds then is the rate of divergence alone, and a suggestion may be a rate at which the
    loss fell by chance. Take more steps or directions, larger batches, and look at `losses`; ``fgtrain search``, which
    compares whole runs, is the better tool there. The estimators with local noise (``"feedback"``,
    ``"local-feedback"``) have a much smaller variance, and their curves look like those of reverse mode.

    Parameters
    ----------
    lowest : float
        The first learning rate η_0, above 0. Default: 1e-6.
    highest : float
        The last learning rate η_{N-1}, above `lowest`. Default: 1.
    steps : int
        Number of steps N, at least 10. Default: 100.
    smoothing : float
        The weight β of the past in the running mean, from 0 (none) to below 1. Default: 0.9.
    stop_above : float
        The test ends where the smoothed loss exceeds this many times its smallest value. Default: 4.

    Attributes
    ----------
    rates : ndarray
        The learning rates of the steps that were taken, (n,) float64.
    losses : ndarray
        The losses of these steps before smoothing, (n,) float64.
    smoothed : ndarray
        The smoothed losses, (n,) float64.
    suggestion : float or None
        The suggested learning rate, or None: no test was made yet, or the loss never fell.
    diverged : bool
        Whether the test ended before its last step.

    Raises
    ------
    ConfigError
        A value is out of its range.

    Examples
    --------
    >>> import fgnumba as fg
    >>> data = fg.datasets.load("digits")
    >>> model = fg.Sequential([fg.Flatten(), fg.Dense(10)], data.input_shape, seed=0)
    >>> trainer = fg.Trainer(model, estimator="feedback", optimizer=fg.Adam(1e-3))
    >>> finder = fg.callbacks.LearningRateFinder(lowest=1e-5, steps=50)
    >>> rate = finder.find(trainer, data)
    """

    def __init__(
        self,
        lowest: float = 1e-6,
        highest: float = 1.0,
        steps: int = 100,
        smoothing: float = 0.9,
        stop_above: float = 4.0,
    ) -> None:
        self.lowest = real_number("lowest", lowest, above_zero=True)
        self.highest = real_number("highest", highest, above_zero=True)
        self.steps = whole_number("steps", steps, FEWEST)
        self.smoothing = real_number("smoothing", smoothing)
        self.stop_above = real_number("stop_above", stop_above, above_zero=True)
        if self.highest <= self.lowest:
            raise ConfigError(f"highest is {self.highest:g}; above lowest, {self.lowest:g}, is required")
        if self.smoothing >= 1:
            raise ConfigError(f"smoothing is {self.smoothing:g}; below 1 is required")
        if self.stop_above <= 1:
            raise ConfigError(f"stop_above is {self.stop_above:g}; above 1 is required")
        self._take([], [], False)

    def find(self, trainer: Steps, dataset: Any, y: Any = None, batch_size: int = 64) -> float | None:
        """Make the test, and return the suggestion.

        Parameters
        ----------
        trainer : Trainer
            The trainer, which is left as it is.
        dataset : Dataset, str, path, array_like or data frame
            The data, as ``Trainer.fit`` takes them, but for iterables. The batches are those that the trainer would
            take next.
        y : array_like, optional
            The targets, if `dataset` are the examples. None (the default): they are not.
        batch_size : int
            Number of examples in each step; all training data if there are fewer. Default: 64.

        Returns
        -------
        float or None
            The suggested learning rate, or None: the loss never fell. It is kept in `suggestion`, too.

        Raises
        ------
        ConfigError
            The data are of no form that is known, the optimiser's learning rate cannot be set, or the optimiser refuses
            a rate, as Frank-Wolfe does above 1.
        ShapeError, DtypeError, DatasetError
            The data set does not fit the model.
        """
        batch_size = whole_number("batch_size", batch_size)
        data = data_of(trainer.model, trainer.loss, dataset, y)
        if isinstance(data, Batches):
            raise ConfigError(
                f"dataset is {shown(dataset)}; its batches cannot be had again after the test: arrays or a Dataset are "
                f"required"
            )
        first = trainer.steps_done
        if first + self.steps > MAX_STEP + 1:
            raise ConfigError(f"{self.steps} more steps: at most 2**32 steps are possible with one seed")
        feed = Feed(trainer.model, data, min(batch_size, len(data.x_train)), trainer.seed)
        copied = _with_schedule(trainer, lambda step: self.rate(min(max(step - first, 0), self.steps - 1)))
        losses: list[float] = []
        diverged, smoothed, least = False, 0.0, math.inf
        batches = feed.pairs(first)
        for i in range(self.steps):
            try:
                losses.append(copied.step(*next(batches)).loss)
            except DivergenceError:
                diverged = True
                break
            smoothed = _next_mean(smoothed, losses[-1], self.smoothing, i)
            least = min(least, smoothed)
            if smoothed > self.stop_above * least > 0:
                diverged = True
                break
        self._take([self.rate(i) for i in range(len(losses))], losses, diverged)
        return self.suggestion

    def rate(self, i: int) -> float:
        """Return the learning rate of step `i` of the test.

        Parameters
        ----------
        i : int
            Number of the step, from 0 to N - 1.
        """
        share = whole_number("i", i, 0, self.steps - 1) / (self.steps - 1)
        # A weighted mean of logarithms is exact enough, and neither overflows nor loses the last rate.
        return math.exp((1 - share) * math.log(self.lowest) + share * math.log(self.highest))

    def _take(self, rates: list[float], losses: list[float], diverged: bool) -> None:
        self.rates, self.losses = np.array(rates, np.float64), np.array(losses, np.float64)
        self.smoothed, self.diverged = _running_mean(self.losses, self.smoothing), diverged
        self.suggestion = self._steepest()

    def _steepest(self) -> float | None:
        """Return the rate at which the smoothed loss falls most steeply, or None if it never falls."""
        if len(self.smoothed) < 2:
            return None
        slopes = np.gradient(self.smoothed)
        begin, end = len(slopes) // FEWEST, int(np.argmin(self.smoothed)) + 1
        if end <= begin:
            return None
        steepest = begin + int(np.argmin(slopes[begin:end]))
        return float(self.rates[steepest]) if slopes[steepest] < 0 else None


def find_learning_rate(
    trainer: Steps,
    dataset: Any,
    y: Any = None,
    *,
    lowest: float = 1e-6,
    highest: float = 1.0,
    steps: int = 100,
    batch_size: int = 64,
) -> LearningRateFinder:
    """Make a learning-rate range test, and return its curve and its suggestion.

    It is :class:`fgnumba.callbacks.LearningRateFinder` in one call; that class says how the suggestion is chosen, and
    when not to trust it.

    Parameters
    ----------
    trainer : Trainer
        The trainer, which is left as it is.
    dataset : Dataset, str, path, array_like or data frame
        The data, as ``Trainer.fit`` takes them, but for iterables.
    y : array_like, optional
        The targets, if `dataset` are the examples. None (the default): they are not.
    lowest : float
        The first learning rate. Default: 1e-6.
    highest : float
        The last learning rate. Default: 1.
    steps : int
        Number of steps, at least 10. Default: 100.
    batch_size : int
        Number of examples in each step. Default: 64.

    Returns
    -------
    LearningRateFinder
        The test, with `suggestion`, `rates` and `losses`.

    Raises
    ------
    ConfigError, ShapeError, DtypeError, DatasetError
        As of the class.
    """
    finder = LearningRateFinder(lowest, highest, steps)
    finder.find(trainer, dataset, y, batch_size)
    return finder


def _with_schedule(trainer: Steps, schedule: Any) -> Steps:
    """Return a copy of a trainer that takes the same further steps, but with learning rates of a schedule."""
    optimizer: Any = trainer.optimizer
    if not is_dataclass(type(optimizer)):
        raise ConfigError(
            f"optimizer: the learning rate of {type(optimizer).__name__} cannot be set; a dataclass with "
            f"learning_rate and decay, as fgnumba's optimisers are, is required"
        )
    state = copy.deepcopy(state_of(trainer, {}))
    state["arguments"]["optimizer"] = replace(optimizer, learning_rate=schedule, decay=0.0)
    copied = Steps(**state["arguments"])
    take_state(copied, state)
    return copied


def _running_mean(values: npt.NDArray[np.float64], weight: float) -> npt.NDArray[np.float64]:
    """Return the running mean of values, corrected for its beginning from 0."""
    means, mean = np.empty_like(values), 0.0
    for i, value in enumerate(values.tolist()):
        means[i] = mean = _next_mean(mean, value, weight, i)
    return means


def _next_mean(mean: float, value: float, weight: float, i: int) -> float:
    """Return s_i from s_{i-1}. In this form, equal values have exactly equal means: none of them seems to fall."""
    return mean + (value - mean) * (1 - weight) / (1 - weight ** (i + 1))
