"""A second binding of a trainer's estimator, with which a gradient estimate is computed without taking a step."""

import copy
from collections.abc import Mapping
from typing import Any

from fgnumba.errors import ConfigError
from fgnumba.estimators import Estimate, Estimator, Setting, State
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import Parameter
from fgnumba.model.graph import Graph
from fgnumba.model.recent import Recent


class Study:
    """The estimates that :meth:`fgnumba.Trainer.estimate` runs.

    They have a state of their own, and a model of their own if the estimator moves parameters. So an interrupt leaves
    the trainer's state and model unchanged.

    Parameters
    ----------
    model : Graph
        The trainer's model.
    estimator : Estimator
        The trainer's estimator.
    state : State
        The trainer's state, which is read before each estimate.
    carry : bool, optional
        Whether the trainer carries states from step to step. Default: False.

    Attributes
    ----------
    model : Graph
        The model whose parameters are read.
    """

    def __init__(self, model: Graph, estimator: Estimator, state: State, carry: bool = False) -> None:
        self._trained, self._estimator, self._theirs, self._carry = model, estimator, state, carry
        self.model = copy.copy(model) if estimator.moves_parameters else model
        self._states: dict[int, State] = {}
        self._estimates: Recent[Any, tuple[Estimate, Setting]] = Recent()

    def bind(self, batch: int, loss: Loss, stream: Any) -> tuple[Estimate, Setting]:
        """Copy the trainer's parameters and state, and return the estimate of a batch size with its setting.

        Parameters
        ----------
        batch : int
            Number of examples.
        loss : Loss
            The loss whose gradient is estimated.
        stream : Record
            The seed and the step from which directions are drawn.
        """
        # States of recurrent layers are those of a number of streams.
        key = batch if self._carry else 0
        if key not in self._states:
            self._states[key] = State(self._copies(), self.model.processor)
        state = self._states[key]

        def bind() -> tuple[Estimate, Setting]:
            setting = Setting(self.model, batch, loss, stream, state, carry=self._carry)
            return self._estimator.bind(setting), setting

        bound = self._estimates.of((batch, loss.key), bind)
        device, theirs = self._trained.processor, self._theirs.arrays
        for name, array in state.arrays.items():
            if name in theirs:
                if theirs[name].shape != array.shape:
                    raise ConfigError(
                        f"batch of {batch} streams: the states so far are those of {theirs[name].shape[1]}; the same "
                        "number of streams is required"
                    )
                device.copy(array, theirs[name])
            else:
                device.assign(array, 0.0)
        pairs: list[tuple[Mapping[str, Parameter], Mapping[str, Parameter]]] = [
            (state.parameters, self._theirs.parameters)
        ]
        if self.model is not self._trained:
            pairs.append((self.model.packed_parameters, self._trained.packed_parameters))
        for copies, originals in pairs:
            for name, parameter in originals.items():
                device.copy(copies[name].packed, parameter.packed)
        return bound

    def _copies(self) -> dict[str, Parameter]:
        """Return copies of the estimator's own parameters, of which some learn while an estimate runs."""
        return {
            name: Parameter.create(name, one.index, one.array(), one.groups, self.model.processor)
            for name, one in self._theirs.parameters.items()
        }
