"""Differences of losses bound to a setting: the passes, the estimate and the update as one program."""

import copy
import math
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.estimators.base import Estimate, Setting
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Stage
from fgnumba.kernels.ops.descent import SGD, STORE
from fgnumba.kernels.ops.differences import BACK, FORTH, RETURN
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.layers import Perturbation
from fgnumba.layers.parameters import Parameter, packed_index
from fgnumba.model.directions import by_name
from fgnumba.model.inspection import Inspection
from fgnumba.model.outcome import Outcome
from fgnumba.model.plan import Plan


class Parts(NamedTuple):
    """The directions of the differences: `random` random ones of the kind `direction`, and `axes` coordinates."""

    direction: str
    random: int
    axes: int

    def share(self, parameters: int) -> float:
        """Return the weight of the random directions that makes the variance of the estimate least."""
        if not self.axes or not self.random:
            return float(self.random > 0)
        random, axes = (parameters - 1) / self.random, parameters / self.axes - 1
        return axes / (random + axes) if random + axes > 0 else 0.5


class DifferenceEstimate(Estimate):
    """Differences along T random directions and S coordinates on B examples, as one program."""

    def __init__(self, parts: Parts, epsilon: float, setting: Setting) -> None:
        direction, random, axes = self._parts = parts
        share = parts.share(setting.model.parameter_count)
        self._drawn, self._random, self._axes = by_name(direction), random, axes
        self._epsilon, self._setting = epsilon, setting
        perturbation = Perturbation(NONE, 0, setting.stream.array)
        self.plan = Plan(setting.model, setting.batch, perturbation, setting.loss, training=True)
        device = setting.device
        differences = device.kernels.differences
        self.values, self._outcome = np.zeros(1 + random + axes), Outcome(device, random + axes)
        self._result = self._outcome.result
        losses = device.zeros((2 * (random + axes),), np.float64)
        self._thetas, self._gradients = (device.zeros((axes,), np.int64) for _ in range(2))
        saved = device.zeros((axes,))
        passes = 0
        steps: list[Operation | Stage] = []

        def run_pass() -> None:
            nonlocal passes
            steps.extend(self.plan.steps)
            steps.append(differences.bind_keep(self.plan.values, losses, passes))
            passes += 1

        for t in range(random):
            for amount in (epsilon, -2.0 * epsilon):
                steps += self._moves(t, amount)
                run_pass()
            steps += self._moves(t, epsilon)
        for k in range(axes):
            for side in (FORTH, BACK):
                steps.append(differences.bind_nudge(self._thetas, saved, k, side, epsilon))
                run_pass()
            steps.append(differences.bind_nudge(self._thetas, saved, k, RETURN, epsilon))
        self._weighted = device.zeros((1 + random + axes,), np.float64)
        derivatives = self._outcome.values
        steps.append(
            differences.bind_central(losses, epsilon, derivatives, self._result, self._weighted, share)
        )
        fused = setting.plain and not axes
        steps += self._updates(fused)
        if axes:
            factor = (1.0 - share) * setting.model.parameter_count / axes
            along = derivatives[1 + random :]
            steps.append(differences.bind_scatter(self._gradients, along, factor, self._result))
        if not fused:
            steps += setting.updates(self._result)
        self._program = device.program(steps)
        self.operations = self._program.operations
        self._ends = np.cumsum([math.prod(p.shape) for p in setting.model.packed_parameters.values()])

    @property
    def nbytes(self) -> int:
        """The number of bytes of buffers and scratch memory."""
        return self.plan.buffer_nbytes + self._program.scratch_nbytes + self.plan.input_nbytes

    def _bind_descent(
        self,
        parameter: Parameter,
        theta: npt.NDArray[np.float32],
        first: int,
        count: int,
        values: npt.NDArray[np.float64],
        result: npt.NDArray[Any],
        rates: npt.NDArray[Any] | None,
        rule: int,
    ) -> Operation:
        return self._setting.device.kernels.descent.bind(
            self.plan.isa,
            self.plan.threads,
            theta=theta,
            kind=self._drawn.kind,
            count=count,
            first=self._drawn.base + first,
            parameter=parameter.index,
            stream=self._setting.stream.array,
            values=values,
            result=result,
            rates=rates,
            rule=rule,
        )

    def _moves(self, t: int, amount: float) -> list[Operation]:
        """Return the operations of θ ← θ + amount · v_t."""
        device, initial = self._setting.device, np.zeros(1, RATES)
        initial["learning_rate"] = -amount
        rates, one = device.array(initial), device.array(np.array([0.0, 1.0]))
        good = device.array(np.ones(1, RESULT))
        return [
            self._bind_descent(p, p.packed, t, 1, one, good, rates, SGD)
            for p in self._setting.model.packed_parameters.values()
        ]

    def _updates(self, fused: bool) -> list[Operation]:
        """Return the operations of the step along the random directions, or of their share of the stored gradient."""
        setting, random = self._setting, self._random
        if not random:
            return []
        values = self._weighted[: 1 + random]
        if fused:
            assert setting.rates is not None
            return [
                self._bind_descent(p, p.packed, 0, random, values, self._result, setting.rates.array, SGD)
                for p in setting.model.packed_parameters.values()
            ]
        return [
            self._bind_descent(p, setting.gradient(name), 0, random, values, self._result, None, STORE)
            for name, p in setting.model.packed_parameters.items()
        ]

    def _choose(self) -> None:
        """Draw the coordinates of a step, and write the addresses of their parameters and gradients."""
        setting = self._setting
        stream = setting.stream.host[0]
        key = [int(stream["key_low"]) | int(stream["key_high"]) << 32, int(stream["step"])]
        coordinates = np.random.Generator(np.random.Philox(key=np.array(key, np.uint64))).choice(
            self._ends[-1], self._axes, replace=False
        )
        parameters = list(setting.model.packed_parameters.items())
        thetas, gradients = np.zeros((2, self._axes), np.int64)
        for k, j in enumerate(coordinates):
            which = int(np.searchsorted(self._ends, j, side="right"))
            name, parameter = parameters[which]
            offset = 4 * packed_index(parameter, int(j - self._ends[which]) + math.prod(parameter.shape))
            thetas[k] = address(parameter.packed) + offset
            gradients[k] = address(setting.gradient(name)) + offset
        setting.device.assign(self._thetas, thetas)
        setting.device.assign(self._gradients, gradients)

    def inspections(self) -> Generator[Inspection, None, None]:
        """Yield the passes of the last run in order, with a copy's parameters moved as they were, up to rounding."""
        model = copy.copy(self._setting.model)
        setting = replace(self._setting, model=model, optimizer=None, rates=None, failed=None, gradients={})
        yield from DifferenceEstimate(self._parts, self._epsilon, setting)._moved()

    def _moved(self) -> Generator[Inspection, None, None]:
        setting, device = self._setting, self._setting.device
        differences = device.kernels.differences
        saved = device.zeros((self._axes,))
        if self._axes:
            self._choose()
        still = Perturbation(NONE, 0, setting.stream.array)

        def moved(operations: Sequence[Operation], along: str) -> Inspection:
            device.program(operations).run()
            return Inspection.of_directions(setting.model, setting.batch, still, moved=along)

        for t in range(self._random):
            yield moved(self._moves(t, self._epsilon), f"moved along direction {t}")
            yield moved(self._moves(t, -2.0 * self._epsilon), f"moved back along direction {t}")
            device.program(self._moves(t, self._epsilon)).run()
        for k in range(self._axes):
            for side, way in ((FORTH, "along"), (BACK, "back along")):
                nudge = differences.bind_nudge(self._thetas, saved, k, side, self._epsilon)
                yield moved([nudge], f"moved {way} coordinate {k}")
            device.program([differences.bind_nudge(self._thetas, saved, k, RETURN, self._epsilon)]).run()

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Run a step; nothing is moved if a loss is not finite."""
        if self._axes:
            if not self._random:
                for name in self._setting.model.packed_parameters:
                    self._setting.device.assign(self._setting.gradient(name), 0)
            self._choose()
        self.plan.set_input(x, targets)
        self._program.run()
        return self.read()

    @property
    def updates(self) -> int:
        """The number of runs of the program that came to their end."""
        return self._program.runs

    def read(self) -> bool:
        """Read the loss and the differences of the last run."""
        return self._outcome.read(self.values)
