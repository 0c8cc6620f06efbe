"""Gradients and gradient descent by reverse mode."""

import numpy as np
import numpy.typing as npt

from fgnumba.bench.reverse.plan import ReversePlan
from fgnumba.forward import checked_targets
from fgnumba.graph import Graph
from fgnumba.losses import Loss, SoftmaxCrossEntropy


def value_and_grad(
    model: Graph, loss: Loss, x: npt.ArrayLike, y: npt.ArrayLike, *, checkpoint: bool = False
) -> tuple[float, dict[str, npt.NDArray[np.float32]]]:
    """Return the loss and its gradient, arrays shaped like ``model.parameters()``.

    Parameters
    ----------
    x : (B, *input_shape) real numbers.
    y : targets as `loss` takes them.
    checkpoint : whether activations are computed anew instead of kept, see :class:`ReversePlan`.

    Dropout is off.

    Raises
    ------
    ShapeError, DtypeError, DatasetError, ConfigError
    """
    inputs = model.checked_input(x)
    targets = checked_targets(model, loss, inputs, y)
    loss.check_target_values(targets, model.outputs)
    with model.lock:
        plan = ReversePlan(model, len(inputs), loss, checkpoint=checkpoint)
        value = plan.run(inputs, targets)
    parameters = model.packed_parameters
    return value, {name: parameters[name].array(packed) for name, packed in plan.gradients.items()}


class ReverseTrainer:
    """Gradient descent by reverse mode, θ ← θ - η ∇f, the update fused into the products.

    Parameters
    ----------
    model : dense layers in a row, updated in place.
    learning_rate : η.
    loss : :class:`SoftmaxCrossEntropy` by default.
    """

    def __init__(self, model: Graph, learning_rate: float, loss: Loss | None = None) -> None:
        self.model, self.learning_rate, self.loss = model, learning_rate, loss or SoftmaxCrossEntropy()
        self._plans: dict[int, ReversePlan] = {}

    def step(self, x: npt.ArrayLike, y: npt.ArrayLike) -> float:
        """Take one step on the batch x, y, and return the loss before it.

        Raises
        ------
        ShapeError, DtypeError, DatasetError
        """
        inputs = self.model.checked_input(x)
        targets = checked_targets(self.model, self.loss, inputs, y)
        self.loss.check_target_values(targets, self.model.outputs)
        with self.model.lock:
            if len(inputs) not in self._plans:
                self._plans[len(inputs)] = ReversePlan(self.model, len(inputs), self.loss, update=True)
            plan = self._plans[len(inputs)]
            plan.scale[0] = -self.learning_rate
            return plan.run(inputs, targets)
