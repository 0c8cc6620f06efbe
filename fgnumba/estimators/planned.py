"""What estimates share whose plan has all of a step: the pass, the gradients and the update."""

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.estimators.base import Estimate, Setting
from fgnumba.kernels.rules.directions import NONE
from fgnumba.layers import Perturbation
from fgnumba.model.inspection import Inspection

Target = Callable[[str], npt.NDArray[Any]]
"""A function that returns the array to which a parameter's gradient is written, given the parameter's name."""


class PlannedEstimate(Estimate):
    """A plan of whole steps as an estimate. If the loss of a step is not finite, everything stays as it is.

    Parameters
    ----------
    plan : RelayedPlan, BlockPlan or RecurrentPlan
        The plan.
    """

    def __init__(self, plan: Any) -> None:
        self._plan = plan
        self.values = np.zeros(1)
        self.operations = plan.operations

    @property
    def nbytes(self) -> int:
        """The number of bytes of buffers and scratch memory."""
        return int(self._plan.nbytes)

    def run(self, x: npt.NDArray[Any], targets: npt.NDArray[Any]) -> bool:
        """Run a step, and read its outcome."""
        self._plan.run(x, targets)
        return self.read()

    @property
    def updates(self) -> int:
        """The number of runs, of the programs that move anything, that came to their end."""
        return int(self._plan.updates)

    def read(self) -> bool:
        """Read the loss of the last run; return whether it was finite."""
        return bool(self._plan.outcome.read(self.values))


def primal_pass(setting: Setting) -> Generator[Inspection, None, None]:
    """Yield the forward pass without tangents, in which the diagnosis of a failure looks for its layer."""
    still = Perturbation(NONE, 0, setting.stream.array)
    yield Inspection.of_directions(setting.model, setting.batch, still)
