"""Gradients by reverse mode, and gradient descent with them."""

import copy
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.plan import ReversePlan, state_arrays
from fgnumba.bench.reverse.through_time import ThroughTime, is_recurrent
from fgnumba.errors import DivergenceError
from fgnumba.kernels.rules.philox import MAX_SEED, set_stream
from fgnumba.layers.losses import Loss, SoftmaxCrossEntropy
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_targets
from fgnumba.model.recent import Recent
from fgnumba.objects.attributes import own_attributes, take_attributes
from fgnumba.optimizers.schedules import Exponential
from fgnumba.training.position import Position, Standing
from fgnumba.validation import flag, whole_number


def value_and_grad(
    model: Graph,
    loss: Loss,
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    *,
    checkpoint: bool = False,
    window: int | None = None,
) -> tuple[float, dict[str, npt.NDArray[np.float32]]]:
    """Return the loss and its gradient, arrays shaped like ``model.parameters()``. Dropout is off.

    Parameters
    ----------
    model : Graph
        The model.
    loss : Loss
        The loss.
    x : array, (B, *input_shape)
        The inputs, real numbers.
    y : array, B examples
        The targets, as `loss` takes them.
    checkpoint : bool
        Whether activations are computed again instead of kept, see :class:`ReversePlan`; in a recurrent model through
        time, see :class:`ThroughTime`.
    window : int or None
        Of a recurrent model: number of positions of a window. Without `checkpoint`, the gradient is that of truncated
        backpropagation through time. None: the whole sequence, or about √L positions with `checkpoint`.

    Raises
    ------
    ShapeError, DtypeError
        x or y do not fit the model and the loss.
    DatasetError
        A target is out of range.
    ConfigError
        A layer has no reverse pass, or a model without a recurrent layer is given a window.
    """
    checkpoint = flag("checkpoint", checkpoint)
    inputs = model.checked_input(x)
    targets = checked_targets(model, loss, inputs, y)
    loss.check_target_values(targets, model.outputs)
    with model.lock:
        plan: ReversePlan | ThroughTime
        if window is not None or (checkpoint and is_recurrent(model)):
            plan = ThroughTime(model, len(inputs), loss, window, truncated=not checkpoint)
        else:
            plan = ReversePlan(model, len(inputs), loss, checkpoint=checkpoint)
        value = plan.run(inputs, targets)
    parameters = model.packed_parameters
    return value, {name: parameters[name].array(packed) for name, packed in plan.gradients.items()}


class ReverseTrainer(Standing):
    """Gradient descent by reverse mode, θ ← θ - η ∇f, with the update fused into the products.

    Parameters
    ----------
    model : Graph
        The model, updated in place.
    learning_rate, decay : float
        η₀ and k of the learning rate η = η₀ e^(-i k) in step i.
    loss : Loss or None
        None: :class:`SoftmaxCrossEntropy`.
    seed : int
        Seed of dropout's masks.
    checkpoint : bool
        Whether activations are computed again instead of kept, see :class:`ReversePlan`; in a recurrent model through
        time, see :class:`ThroughTime`.
    carry_states : bool
        Whether recurrent layers begin with the states that the step before left, of the same number of examples:
        truncated backpropagation through time of streams, whose window is the model's length.
    """

    def __init__(
        self,
        model: Graph,
        learning_rate: float,
        loss: Loss | None = None,
        *,
        decay: float = 0.0,
        seed: int = 0,
        checkpoint: bool = False,
        carry_states: bool = False,
    ) -> None:
        super().__init__(model)
        self.loss = loss or SoftmaxCrossEntropy()
        self.rate = Exponential(learning_rate, decay)
        self.seed, self.checkpoint = whole_number("seed", seed, 0, MAX_SEED), flag("checkpoint", checkpoint)
        self.carry_states = flag("carry_states", carry_states)
        self._states: dict[int, dict[int, npt.NDArray[np.float32]]] = {}
        self._plans: Recent[Any, ReversePlan | ThroughTime] = Recent()

    def __getstate__(self) -> dict[str, Any]:
        with self.model.lock:
            steps, parameters = self.position.steps, self.model.parameters()
            states = {size: {i: a.copy() for i, a in of.items()} for size, of in self._states.items()}
        return {
            "attributes": own_attributes(self, ("_plans", "_log", "_states")),
            "states": states,
            "steps": steps,
            "parameters": parameters,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Plans hold addresses, so a copy binds its own.
        take_attributes(self, state["attributes"])
        super().__init__(self.model)
        self._plans = Recent()
        self._states = {}
        for size, of in state["states"].items():
            for index, values in of.items():
                self._held(size)[index][...] = values
        self.model.put_back(state["parameters"])
        self.stand(Position(state["steps"]))

    def __copy__(self) -> "ReverseTrainer":
        # A trainer needs a model of its own, so the copy is deep.
        return copy.deepcopy(self)

    def step(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Take one step on the batch x, y, and return the loss before it.

        Parameters
        ----------
        x : array, (B, *input_shape)
            The inputs, real numbers.
        y : array, B examples
            The targets, as the loss takes them.

        Raises
        ------
        ShapeError, DtypeError
            x or y do not fit; nothing is changed.
        DatasetError
            A target is out of range.
        DivergenceError
            The loss is not finite. The parameters may not be finite either.
        """
        inputs = self.model.checked_input(x)
        targets = checked_targets(self.model, self.loss, inputs, y)
        with self.model.lock:
            before = self._log.settle()
            plan = self.plan(len(inputs))
            set_stream(plan.stream, self.seed, before.steps)
            plan.scale[0] = -self.rate(before.steps)
            if isinstance(plan, ReversePlan):
                plan.cut()
            runs, version = plan.runs, object()

            def done() -> bool:
                if plan.runs == runs:
                    return False
                # Also if the loss is not finite, because its gradient has moved the parameters.
                self.model.version = version
                return math.isfinite(plan.value)

            self._log.move = (before, Position(before.steps + 1, version=version), done)
            value = plan.run(inputs, targets)
            if self._log.settle() is before:
                self._log.move = None
                self.loss.check_target_values(targets, self.model.outputs)
                raise DivergenceError(
                    f"step {before.steps}: the loss is {value}; a lower learning rate may help"
                )
        return value

    def _held(self, batch: int) -> dict[int, npt.NDArray[np.float32]]:
        """Return the states of `batch` streams, zeros at first."""
        return self._states.setdefault(batch, state_arrays(self.model, batch))

    def plan(self, batch: int) -> ReversePlan | ThroughTime:
        """Return the plan of a step on `batch` examples. The few most recent plans are kept."""
        batch = whole_number("batch", batch)

        def bind() -> ReversePlan | ThroughTime:
            states = self._held(batch) if self.carry_states else None
            if self.checkpoint and is_recurrent(self.model):
                return ThroughTime(self.model, batch, self.loss, update=True, states=states)
            return ReversePlan(
                self.model,
                batch,
                self.loss,
                update=True,
                training=True,
                checkpoint=self.checkpoint,
                states=states,
            )

        return self._plans.of((batch, self.loss.key), bind)
