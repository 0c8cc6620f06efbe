"""A trainer's estimator bound beside it: to look at an estimate without taking a step."""

import copy
from typing import TYPE_CHECKING, Any

from fgnumba.estimators import Estimate, Setting, State
from fgnumba.model.graph import Graph
from fgnumba.model.recent import Recent

if TYPE_CHECKING:
    from fgnumba.training.trainer import Trainer


class Study:
    """What :meth:`fgnumba.Trainer.estimate` runs.

    It has a state of its own, and a model of its own where the estimator moves parameters: whatever interrupts it, the
    trainer's are as they were.

    Parameters
    ----------
    trainer : whose estimate it is.

    Attributes
    ----------
    model : whose parameters are read.
    """

    def __init__(self, trainer: "Trainer") -> None:
        self.model: Graph = copy.copy(trainer.model) if trainer.estimator.moves_parameters else trainer.model
        self._state = State(trainer.state.parameters, trainer.model.processor)
        self._plans: Recent[Any, tuple[Estimate, Setting]] = Recent()

    def plan(self, trainer: "Trainer", batch: int) -> tuple[Estimate, Setting]:
        """Return the estimate of a batch size and what it is bound to, with the trainer's parameters and state."""

        def bind() -> tuple[Estimate, Setting]:
            setting = Setting(self.model, batch, trainer.loss, trainer.stream, self._state)
            return trainer.estimator.bind(setting), setting

        found = self._plans.of((batch, trainer.loss.key), bind)
        device, theirs = trainer.model.processor, trainer.state.arrays
        for name, array in self._state.arrays.items():
            if name in theirs:
                device.copy(array, theirs[name])
            else:
                device.assign(array, 0.0)
        if self.model is not trainer.model:
            for ours, parameter in zip(
                self.model.packed_parameters.values(), trainer.model.packed_parameters.values(), strict=True
            ):
                device.copy(ours.packed, parameter.packed)
        return found
