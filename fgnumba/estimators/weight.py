"""Weight perturbation: forward gradients along random directions of the parameters."""

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError
from fgnumba.estimators.base import Estimate, Estimator, Pass, Setting, UpdateRule
from fgnumba.estimators.recipes import Recipe
from fgnumba.estimators.weight_update import Descent, WeightUpdate, control_of
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.rules.philox import FAMILY, MAX_DIRECTIONS
from fgnumba.kernels.shared.drawn.cpu import Drawn
from fgnumba.kernels.shared.loss import in_float32
from fgnumba.layers import Perturbation
from fgnumba.layers.parameters import Parameter
from fgnumba.model.directions import Direction, by_name
from fgnumba.model.inspection import Inspection
from fgnumba.model.plan import Plan
from fgnumba.validation import optional, real_number, store, whole_number

COMBINATIONS = ("mean", "projected")

_INSPECTION_BYTES = 256 * 1024 * 1024  # of an inspection's widest value, which holds the whole batch


@dataclass(frozen=True)
class WeightPerturbation(Estimator):
    """Weight perturbation: forward gradients along T directions of the parameters, which share one primal pass.

        x_t = ∇f · v_t - h · v_t
        g   = h + (1 / T) Σ_t x_t v_t                    ``mean``
        g   = h + (P / R) V (VᵀV)⁻¹ x                    ``projected``: ∇f - h on the span, of R ≤ T dimensions
        h   ← h + ρ (g - h),  ρ = c T / P                 after each step, from 0

    Bias: none, unless x_t is clipped. A projection on rank-1 signs is unbiased up to the symmetries of the signs, see
    `statement`.

    Relative variance: (P - 1) / T for signs and (P + 1) / T for Gaussians; P / T - 1 if projected, or with up to 32
    orthogonal directions, which come in families of 32. A control variate multiplies it by ‖∇f - h‖² / ‖∇f‖².

    Cost, in products the size of x W in a hidden layer, the primal included: 1 + T for rank-1 directions and 1 + 2 T
    for the others; in the first layer 1 and 1 + T. A projection adds a Gram matrix (``kernels.ops.gram``), and a
    control variate a pass over the parameters and two arrays of their size.
    Source: arXiv 2202.08587.

    Parameters
    ----------
    direction : str, optional
        The kind of the directions: ``rank1`` (the default), ``orthogonal``, ``rademacher`` or ``gaussian``; see
        ``fgnumba.directions``.
    directions : int, optional
        The number of directions T, at least 1. By default 1.
    combine : str, optional
        How the directions are combined: ``mean`` (the default) or ``projected``.
    control : float, optional
        The factor c of a control variate h, a running mean of past estimates; at least 0 and below 2. With a larger c
        the noise of h would add more to the noise of the estimate than it takes away, without bound. By default 0:
        there is no control variate, h = 0.
    clip : float, optional
        The greatest |x_t|; larger ones are clipped to it. By default none is clipped.

    Raises
    ------
    ConfigError
        If an argument is out of its range or unknown.

    Examples
    --------
    >>> import fgnumba as fg
    >>> estimator = fg.WeightPerturbation("rank1", directions=8)
    >>> estimator.statement, estimator.relative_variance(parameters=801)
    ('E[g] = ∇f', 100.0)
    """

    direction: str = "rank1"
    directions: int = 1
    combine: str = "mean"
    control: float = 0.0
    clip: float | None = None

    name: ClassVar[str] = "weight-perturbation"
    carries_states: ClassVar[bool] = True
    keeps_step: ClassVar[bool] = False

    def __post_init__(self) -> None:
        by_name(self.direction)
        store(
            self,
            directions=whole_number("directions", self.directions, 1, MAX_DIRECTIONS),
            control=real_number("control", self.control, below=2),
            clip=optional(real_number, "clip", self.clip, above_zero=True),
        )
        if not isinstance(self.combine, str) or self.combine not in COMBINATIONS:
            raise ConfigError(
                f"combine is {self.combine!r}; {' or '.join(map(repr, COMBINATIONS))} is required"
            )
        if self.combine == "projected" and self.directions > 1024:
            raise ConfigError(f"directions is {self.directions}; a projection takes at most 1024")

    @property
    def drawn(self) -> type[Direction]:
        """The class of the directions."""
        return by_name(self.direction)

    @property
    def unbiased(self) -> bool:
        """Whether E[g] = ∇f, which holds unless derivatives are clipped."""
        return self.clip is None

    @property
    def plain(self) -> bool:
        """Whether the directional derivatives themselves are the coefficients of the directions."""
        return self.combine == "mean" and self.control == 0 and self.clip is None

    @property
    def statement(self) -> str:
        """What E[g] is, as a line of text."""
        if self.clip is not None:
            return f"E[g] is shorter than ∇f where |∇f · v| exceeds {self.clip:g}"
        if self.combine == "projected" and self.direction in ("rank1", "orthogonal") and self.directions > 1:
            return "E[g] = ∇f, array by array up to a factor of 1 + O(T / P)"
        return "E[g] = ∇f"

    def relative_variance(self, parameters: int) -> float | None:
        """Return E‖g - E g‖² / ‖∇f‖² for a model of P parameters, or None with a control variate or clipping."""
        parameters = whole_number("parameters", parameters)
        if self.control > 0 or self.clip is not None:
            return None
        ratio = parameters / self.directions
        if self.combine == "projected":
            return max(0.0, ratio - 1)
        if self.direction == "orthogonal":
            whole, rest = divmod(self.directions, FAMILY)
            left = FAMILY * whole * (parameters - FAMILY) + rest * (parameters - rest)
            return left / self.directions**2
        return ratio + (1 if self.direction == "gaussian" else -1) / self.directions

    def bind(self, setting: Setting) -> "WeightEstimate":
        """Return the estimator bound to a setting."""
        return WeightEstimate(self, setting)

    @property
    def update_rule(self) -> UpdateRule:
        """The number of directions, their kind and how they are combined."""
        return UpdateRule(self.directions, f"{self.direction} {self.combine} {self.control!r} {self.clip!r}")

    def update(self, setting: Setting) -> WeightUpdate:
        """Return the update of a step without its pass."""
        return WeightUpdate(self, setting)


class WeightEstimate(Estimate):
    """Weight perturbation on B examples: the dual pass, the loss and the update as one program."""

    def __init__(self, estimator: Any, setting: Setting) -> None:
        self._estimator, self._setting = estimator, setting
        drawn = estimator.drawn
        perturbation = Perturbation(drawn.kind, estimator.directions, setting.stream.array, drawn.base)
        self.values = np.zeros(1 + estimator.directions)
        self.noted = 0 if estimator.plain else len(self.values)
        self._noted = np.zeros(self.noted)
        states = setting.states
        self.plan = Plan(
            setting.model,
            setting.batch,
            perturbation,
            setting.loss,
            training=True,
            noted=self.noted,
            states=states,
        )
        # A run whose loss is not finite leaves the states of recurrent layers as they were.
        self._states = list(states.values())
        outcome = self.plan.outcome
        self._coefficients = outcome.noted if self.noted else outcome.values
        combined = self._combination() if self.noted else ()
        self._descent = Descent(estimator, setting, self._coefficients, self.plan.result)
        self.last = self._descent.last
        self.plan.append(
            [
                *setting.device.hold(self.plan.result, setting.failed),
                *combined,
                *self._descent.operations,
                *self._closing(),
            ]
        )
        self.operations = self.plan.operations

    def _closing(self) -> Sequence[Operation]:
        """Return what follows the update; by default nothing does."""
        return ()

    @property
    def nbytes(self) -> int:
        """The number of bytes of buffers and scratch memory."""
        return self.plan.nbytes

    def _drawn(self, parameter: Parameter) -> Drawn:
        return Drawn(
            parameter.packed.shape,
            parameter.shape[-1],
            parameter.groups,
            self._estimator.drawn.kind,
            self._estimator.directions,
            self._estimator.drawn.base,
            parameter.index,
            self._setting.stream.array,
        )

    def _combination(self) -> Sequence[Operation]:
        """Return the operations that turn the derivatives into the coefficients of the directions."""
        estimator, parameters = self._estimator, self._setting.model.packed_parameters
        device = self._setting.device
        projection, gram = device.kernels.projection, device.kernels.gram
        isa, threads, count = self.plan.isa, self.plan.threads, estimator.directions
        drawn = {name: self._drawn(parameter) for name, parameter in parameters.items()}
        operations: list[Operation] = []
        projections: npt.NDArray[np.float64] | None = None
        grams: npt.NDArray[np.float64] | None = None
        if estimator.control > 0:
            places, total = _cut([directions.panels for directions in drawn.values()])
            projections = device.zeros((total, count), np.float64)
            operations += [
                projection.bind(
                    isa,
                    threads,
                    values=control_of(self._setting, p),
                    directions=drawn[name],
                    sums=projections[place],
                )
                for (name, p), place in zip(parameters.items(), places, strict=True)
            ]
        if estimator.combine == "projected":
            places, total = _cut([gram.shares(directions) for directions in drawn.values()])
            grams = device.zeros((total, count, count), np.float64)
            operations += [
                gram.bind(isa, threads, directions=directions, gram=grams[place])
                for directions, place in zip(drawn.values(), places, strict=True)
            ]
        combined = gram.bind_combine(
            values=self.plan.values,
            clip=math.inf if estimator.clip is None else estimator.clip,
            out=self._coefficients,
            projections=projections,
            grams=grams,
            parameters=self._setting.model.parameter_count,
        )
        return [*operations, combined]

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Run a step; nothing is moved if the loss or the update is not finite."""
        device = self._setting.device
        before = [np.array(device.values(state)) for state in self._states]
        self.plan.run(x, targets)
        finite = self.read()
        if not finite and before:
            device.assign_all(self._states, before)
        return finite

    @property
    def updates(self) -> int:
        """The number of runs of the program that came to their end."""
        return self.plan.runs

    def read(self) -> bool:
        """Read the loss, the derivatives and the coefficients of the last run."""
        if not self.plan.outcome.read(self.values, self._noted):
            return False
        self._setting.device.copy(self.last, self._coefficients)
        return True

    def device_pass(self, step: int) -> Pass | None:
        """Return the step as a pass that the device takes by itself, unless it may have to restore states."""
        if self._states:
            return None
        plan = self.plan
        assert plan.targets is not None
        return Pass(plan.operations, plan.input, plan.targets, plan.outcome, self._coefficients, self.last)

    def inspections(self) -> Generator[Inspection, None, None]:
        """Yield the pass of the last run, or several with some of its directions each if all need too much memory."""
        count, drawn, setting = self._estimator.directions, self._estimator.drawn, self._setting
        failed = np.flatnonzero(~in_float32(self.values[1:])).tolist()
        each = 4 * setting.batch * max(map(math.prod, setting.model.shapes.values()))
        most = max(1, _INSPECTION_BYTES // each - 1)
        # If no direction failed, the primal did, and the pass of the first directions shows it.
        for first in sorted({t // most * most for t in failed} or {0}):
            number = min(most, count - first)
            perturbation = Perturbation(drawn.kind, number, setting.stream.array, drawn.base + first)
            watched = {t - first: t for t in failed if first <= t < first + number}
            yield Inspection.of_directions(setting.model, setting.batch, perturbation, watched)

    def taking_back(self, learning_rate: float) -> Any:
        """Return a program that takes the last update back, or None; see :class:`Descent`."""
        return self._descent.taking_back(learning_rate)

    def note(self, found: npt.NDArray[np.float64]) -> None:
        """Take the coefficients, (1 + T,), of a step that the device took by itself."""
        self._noted[...] = found

    def coefficients(self) -> npt.NDArray[np.float64]:
        """Return the coefficients of the last step, (1 + T,) with T c_t at index 1 + t."""
        return self._noted if self.noted else self.values


def _cut(sizes: Sequence[int]) -> tuple[list[slice], int]:
    """Return the slices of an array in which things of the given sizes lie one after another, and the total size."""
    ends = list(accumulate(sizes, initial=0))
    return [slice(*place) for place in pairwise(ends)], ends[-1]


_EVIDENCE = "defaults.default_learning_rate, whose constants were searched on the digits and MNIST"
_searched = partial(
    Recipe, takes=("direction", "directions"), optimizer="sgd", steps=20_000, evidence=_EVIDENCE
)

RECIPES = {
    "weight-perturbation": _searched(WeightPerturbation),
    "orthogonal": _searched(partial(WeightPerturbation, direction="orthogonal"), takes=("directions",)),
    "projected": _searched(partial(WeightPerturbation, combine="projected")),
    "control-variate": _searched(partial(WeightPerturbation, control=0.5)),
}
