"""An estimator as somebody writes one for themselves, g = d v, and faults that can be built into it."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import fgnumba as fg
from fgnumba.estimators import Estimate, Estimator, Setting
from fgnumba.kernels.rules.directions import RADEMACHER
from fgnumba.layers import Perturbation
from fgnumba.model.plan import Plan


class OwnEstimate(Estimate):
    """What `Own` binds."""

    def __init__(self, setting: Setting, fault: str) -> None:
        self._setting, self._fault, self._calls = setting, fault, 0
        stream = setting.stream.array
        self._pass = Plan(setting.model, setting.batch, Perturbation(RADEMACHER, 1, stream), setting.loss)
        self._update = setting.device.program(setting.updates(self._pass.result))
        self.operations = (*self._pass.operations, *self._update.operations)
        self.values = np.zeros(2)

    @property
    def nbytes(self) -> int:
        return self._pass.nbytes

    @property
    def updates(self) -> int:
        return self._update.runs

    def run(self, x: Any, targets: Any) -> bool:
        self._pass.run(x, targets)
        finite = self.read()
        if not finite and self._fault != "takes any step":
            return False
        stream, model = self._setting.stream.host, self._setting.model
        self._calls += 1
        key = int(stream["key_low"][0]) | int(stream["key_high"][0]) << 32
        v = fg.directions.Rademacher(key & (2**64 - 1), int(stream["step"][0])).materialize(model)
        factor = {"biased": -1.0, "too long": 1.5, "hidden": 1.0 + 0.01 * self._calls}.get(self._fault, 1.0)
        for name, direction in v.items():
            gradient = np.float32(factor * self.values[1]) * direction
            model.packed_parameters[name].assign(gradient, self._setting.gradient(name))
        if self._fault == "moves":
            model.packed_parameters["0.bias"].packed[...] += 1
        if self._fault == "another step":
            self._move()
        self._update.run()
        return True

    def _move(self) -> None:
        """Follow twice the estimate where parameters move."""
        if self._setting.optimizer is not None:
            for name in self._setting.parameters:
                self._setting.gradient(name)[...] *= 2

    def read(self) -> bool:
        finite = self._pass.outcome.read(self.values)
        if self._fault == "loss":
            self.values[0] *= 1.1
        return finite or self._fault == "takes any step"


@dataclass(frozen=True)
class Own(Estimator):
    """One direction of independent signs."""

    fault: str = ""
    name: ClassVar[str] = "own"

    @property
    def unbiased(self) -> bool:
        return True

    @property
    def statement(self) -> str:
        return "" if self.fault == "statement" else "E[g] = ∇f"

    def relative_variance(self, parameters: int) -> float:
        return parameters * (0.7 if self.fault == "variance" else 1.0) - 1

    def bind(self, setting: Setting) -> Estimate:
        return OwnEstimate(setting, self.fault)


FAULTS = (
    "biased",
    "too long",
    "hidden",
    "moves",
    "another step",
    "loss",
    "takes any step",
    "statement",
    "variance",
)
