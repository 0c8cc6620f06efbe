"""What sets the learning rate of a trainer's steps: the optimiser's schedule, or curvature that is measured on the way.

A measured rate (``fgnumba.optimizers.measured_rate``) needs uᵀGu along a direction u. A measurement is one forward pass
before a step, on the step's batch, which gives the tangents J u of the outputs; the loss's own form does the rest. What
is kept of it is one small array of the trainer's state, so that checkpoints, copies and resumed runs have it.
"""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.estimators import Estimator, State
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.layers.losses import Loss
from fgnumba.model.directions import RankOne
from fgnumba.model.graph import Graph
from fgnumba.objects.bound import Bound
from fgnumba.optimizers import SGD, Adam, Optimizer
from fgnumba.optimizers.measured_rate import MeasuredRate

CURVATURE_SHARE = 0.12
"""½ η² uᵀGu over the first loss, where η is Adam's peak. With the rates that searches found for perceptrons and
convolutional networks on MNIST and the digits, its geometric mean over the first 60 steps is 0.03 to 0.4, and rates
from half to twice the best are about as good (bench/results/search)."""
NOISE_SHARE = 0.08
"""η tr G / T, where η is the peak of weight perturbation. Logistic regression is best at 0.1 to 0.4. A perceptron's
curvature grows fourfold in its first steps: it takes 0.17 then, and diverges if the first step has 0.11 already."""
WARMUP = 16
"""Number of steps over which Adam's rate rises to its peak: the first steps are the least sure of their directions. On
MNIST, activity perturbation of a perceptron ends 0.4 points worse without it (two seeds, 2,000 steps)."""
MOST_DIRECTIONS = 8
"""Greatest number of directions in a measurement of tr G: it costs no more than a step."""
GAPS = (1, 1, 1, 2, 2, 4, 4, 8, 8, 16, 16)
"""Number of steps from each measurement to the next, as long as they count for the peak."""
WATCH = 256
"""Greatest number of steps between the later measurements: step 64 is followed by 128, 256, 512, 768 and so on."""
EXCESS = 2.0
"""The rate stays below this many times the peak that the last measurement alone would give."""
_WORD = 1 << 16
_NAME = "rate.measured"


class Measured(NamedTuple):
    """What is kept of the measurements; the numbers are float32, and the step has two words.

    `step` is the step before which the last one was made, `taken` the number of those that count for the peak, `mean`
    the mean of their levels, `last` the last level, and `scale` the loss at the first one. A level is a curvature, or
    its logarithm where single ones lie far above the others.
    """

    step: int
    taken: int
    mean: float
    last: float
    scale: float


class _Now(NamedTuple):
    """What follows from the measurements: the step before which the next one is due, the peak, and the limit."""

    measured: Measured
    following: int
    peak: float
    most: float


class RateMeter(Bound):
    """The learning rates of a trainer whose optimiser has a number or a schedule.

    Attributes
    ----------
    measures : bool
        Whether :meth:`look` takes part in steps, so that a device cannot take several of them by itself.
    """

    measures = False

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def look(self, step: int, loss: Loss, inputs: Any, targets: Any) -> None:
        """Make the measurement that is due before a step, if one is.

        Parameters
        ----------
        step : int
            The number of the step.
        loss : Loss
            The trainer's loss.
        inputs, targets : array
            The step's batch, as kernels read it.
        """

    def keep(self) -> None:
        """Write what :meth:`look` has found for a step to the state, once the step was taken; again does no harm."""

    def set_rates(self, rates: npt.NDArray[Any], step: int) -> float:
        """Write the numbers that a step needs into `rates`, and return the learning rate.

        Parameters
        ----------
        rates : ndarray, (1,) of dtype ``kernels.ops.optimizer.RATES``
            Written.
        step : int
            The number of the step.
        """
        return self._optimizer.set_rates(rates, step)


class CurvatureMeter(RateMeter):
    """Measures the curvature along a direction every so many steps; the base class of the two rules.

    Attributes
    ----------
    warmup : int
        The number of steps over which the rate rises: step i, counted from 0, has (i + 1) / `warmup` of it.
    """

    measures = True
    warmup = 1

    def __init__(self, model: Graph, state: State, optimizer: Optimizer, measured: MeasuredRate) -> None:
        super().__init__(optimizer)
        self._model, self._state, self._shape = model, state, measured
        self._pending: Any = None
        # The version of the model's parameters with which the state was read: a resumed or replayed run has another.
        self._version: object = None
        self._found = _Now(Measured(0, 0, 0.0, 0.0, 0.0), 0, 0.0, 0.0)
        # Made here, before a checkpoint is restored into it.
        state.array(_NAME, (len(Measured._fields) + 1,))

    @property
    def measured(self) -> Measured:
        """What the measurements so far have found."""
        return self._now().measured

    def _now(self) -> _Now:
        """Return what follows from the state, which is read again where the model has been changed otherwise."""
        if self._version is not self._model.version:
            self._found = self._following(self._state.device.values(self._state.arrays[_NAME]).tolist())
            self._version = self._model.version
        return self._found

    def _following(self, kept: Sequence[float]) -> _Now:
        high, low, taken, *numbers = kept
        found = Measured(int(high) * _WORD + int(low), int(taken), *numbers)
        if not found.taken:
            return _Now(found, 0, 0.0, 0.0)
        gap = GAPS[found.taken - 1] if found.taken <= len(GAPS) else min(max(found.step, 1), WATCH)
        peak, most = self._peak(found.mean, found.scale), EXCESS * self._peak(found.last, found.scale)
        return _Now(found, found.step + gap, peak, most)

    def look(self, step: int, loss: Loss, inputs: Any, targets: Any) -> None:
        if self._pending is not None:
            # That of a step that was not taken.
            self._pending = self._version = None
        before, following, *_ = self._now()
        if before.step <= step < following if before.taken else not self._known(step):
            return
        device, width = self._model.processor, self._model.outputs
        plan = self._plan(len(inputs), step)
        plan.run(inputs)
        outputs = device.values(plan.output)[..., :width]
        goal = targets if isinstance(targets, np.ndarray) else device.values(targets)
        forms = [loss.gauss_newton(outputs[0], tangents, goal) for tangents in outputs[1:]]
        form = float(np.mean(forms))
        scale = before.scale if before.taken else loss.value(outputs[0], goal)
        # Where a step is about to fail, or nothing moves the outputs, there is nothing to learn.
        if not (0.0 < form < math.inf and 0.0 < scale < math.inf):
            return
        level = self._level(form, step)
        taken, mean = before.taken, before.mean
        if taken <= len(GAPS):
            mean += (level - mean) / (taken + 1)
            taken += 1
        found = [*divmod(step, _WORD), taken, mean, level, scale]
        pending = np.array(found, np.float32)
        self._pending, self._found = pending, self._following(pending.tolist())

    def keep(self) -> None:
        if self._pending is not None:
            self._state.device.assign(self._state.arrays[_NAME], self._pending)
            self._pending = None
        self._version = self._model.version

    def set_rates(self, rates: npt.NDArray[Any], step: int) -> float:
        _, _, peak, most = self._now()
        share = self._shape.share(step) * min(1.0, (step + 1) / self.warmup)
        return self._optimizer.set_rates(rates, step, min(peak * share, most))

    def _known(self, step: int) -> bool:
        """Return whether the first measurement can be made before a step."""
        return True

    @abstractmethod
    def _plan(self, batch: int, step: int) -> Any:
        """Return the pass whose tangents are those of the directions to measure."""

    @abstractmethod
    def _level(self, form: float, step: int) -> float:
        """Return the level of a measurement, in which the mean of vᵀGv over the pass's directions is `form`."""

    @abstractmethod
    def _peak(self, level: float, scale: float) -> float:
        """Return the peak of the learning rate for a level and a first loss."""


class StepCurvature(CurvatureMeter):
    """Along Adam's last step at rate 1, u = m̂ / (√v̂ + ε): η = √(2 · 0.12 f₀ / uᵀGu), level log uᵀGu."""

    warmup = WARMUP

    def __init__(self, model: Graph, state: State, adam: Adam, measured: MeasuredRate) -> None:
        super().__init__(model, state, adam, measured)
        self._adam = adam

    def _known(self, step: int) -> bool:
        # Before the first step the means are zeros, and its rate is 0.
        return step > 0

    def _plan(self, batch: int, step: int) -> Any:
        device, root = self._model.processor, math.sqrt(1.0 - self._adam.beta2**step)
        plan = self._model.plan(batch, EXPLICIT, 1)
        assert plan.perturbation.explicit is not None
        for name, parameter in self._model.packed_parameters.items():
            tangent = plan.perturbation.explicit[name][0]
            mean, square = (
                device.values(self._state.moment(kind, parameter)) for kind in ("moment", "second_moment")
            )
            # m / (√v + ε √(1 - β₂ⁱ)); the factor that is left out is that of `_level`.
            direction = tangent if isinstance(tangent, np.ndarray) else np.empty(tangent.shape, np.float32)
            np.sqrt(square, out=direction)
            np.add(direction, np.float32(self._adam.epsilon * root), out=direction)
            np.divide(mean, direction, out=direction)
            if direction is not tangent:
                device.assign(tangent, direction)
        return plan

    def _level(self, form: float, step: int) -> float:
        beta1, beta2 = self._adam.beta1, self._adam.beta2
        return math.log(form * (1.0 - beta2**step) / (1.0 - beta1**step) ** 2)

    def _peak(self, level: float, scale: float) -> float:
        return math.sqrt(2.0 * CURVATURE_SHARE * scale) * math.exp(-0.5 * level)


class TraceCurvature(CurvatureMeter):
    """Along directions of weight perturbation, whose mean vᵀGv is tr G: η = 0.08 (1 - μ) T P / (P + T + 1) / tr G."""

    def __init__(
        self, model: Graph, state: State, sgd: SGD, measured: MeasuredRate, seed: int, directions: int
    ) -> None:
        super().__init__(model, state, sgd, measured)
        self._seed, self._count = seed, min(directions, MOST_DIRECTIONS)
        # What an exact gradient allows is reached where T comes near P.
        parameters = model.parameter_count
        self._noise = (1.0 - sgd.momentum) * directions * parameters / (parameters + directions + 1)

    def _plan(self, batch: int, step: int) -> Any:
        plan = self._model.plan(batch, RankOne.kind, self._count)
        self._model.processor.assign(plan.perturbation.stream, RankOne(self._seed, step).stream())
        return plan

    def _level(self, form: float, step: int) -> float:
        return form

    def _peak(self, level: float, scale: float) -> float:
        return NOISE_SHARE * self._noise / level


def meter_of(
    model: Graph, loss: Loss, estimator: Estimator, optimizer: Optimizer, state: State, seed: int
) -> RateMeter:
    """Return what sets the learning rates of a trainer.

    Parameters
    ----------
    model : Graph
        The trainer's model.
    loss : Loss
        Its loss.
    estimator : Estimator
        Its estimator.
    optimizer : Optimizer
        Its optimiser.
    state : State
        Its state, in which what is measured is kept.
    seed : int
        Its seed, from which the directions of measurements are drawn.

    Raises
    ------
    ConfigError
        The rate is to be measured, and there is no rule for the optimiser with the estimator, or the loss's second
        derivatives are not known.
    """
    measured = optimizer.learning_rate
    if not isinstance(measured, MeasuredRate):
        return RateMeter(optimizer)
    kind = type(estimator).__name__
    if not loss.has_gauss_newton:
        raise ConfigError(
            f"optimizer: its rate is measured by the second derivatives of the loss, which {type(loss).__name__} does "
            "not tell; a built-in loss or a learning rate is required"
        )
    if not estimator.steady:
        raise ConfigError(
            f"optimizer: along the first steps of {kind} the curvature does not tell its rate; a learning rate is "
            "required"
        )
    if isinstance(optimizer, Adam) and not isinstance(estimator, WeightPerturbation):
        return StepCurvature(model, state, optimizer, measured)
    if isinstance(optimizer, SGD) and isinstance(estimator, WeightPerturbation):
        return TraceCurvature(model, state, optimizer, measured, seed, estimator.directions)
    wanted = "SGD" if isinstance(estimator, WeightPerturbation) else "Adam or AdamW"
    raise ConfigError(
        f"optimizer: no rule measures the rate of {type(optimizer).__name__} with {kind}; {wanted}, or a learning "
        "rate, is required"
    )
