"""Directional derivatives and forward gradients of a model's loss."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError, DtypeError
from fgnumba.kernels.rules.directions import EXPLICIT
from fgnumba.layers.losses import Loss
from fgnumba.layers.parameters import checked, shapes_of
from fgnumba.model.directions import Direction
from fgnumba.model.graph import Graph
from fgnumba.validation import flag
from fgnumba.validation.arrays import as_array, as_tensor, first_not_finite

Tangents = Direction | Mapping[str, npt.ArrayLike]


def jvp(
    model: Graph,
    loss: Loss,
    x: Any,
    y: Any,
    tangents: Tangents,
    *,
    training: bool = False,
) -> tuple[float, float]:
    """Return the loss and its directional derivative along `tangents`, from one forward pass.

        (f(θ), ∇f(θ) · v)

    Parameters
    ----------
    x : (B, *input_shape) real numbers.
    y : targets as `loss` takes them.
    tangents : a direction of ``fgnumba.directions``, or arrays shaped like ``model.parameters()``, finite in float32.
    training : whether dropout drops, with a mask from the seed and step of the direction (0 for arrays).

    The directional derivative is exact up to float32 rounding, never a finite difference. Targets that are
    out of range, or a loss that is not finite, give NaN or infinite values.

    Raises
    ------
    ShapeError, DtypeError, DatasetError, ConfigError
    """
    training = flag("training", training)
    inputs = model.checked_input(x)
    targets = checked_targets(model, loss, inputs, y)
    loss.check_target_values(targets, model.outputs)
    with model.lock:
        if isinstance(tangents, Direction):
            plan = model.plan(len(inputs), tangents.kind, 1, loss, training)
            model.processor.assign(plan.perturbation.stream, tangents.stream())
            plan.renumber(tangents.number)
        elif isinstance(tangents, Mapping):
            arrays = checked(shapes_of(model.packed_parameters), tangents, "tangents")
            plan = model.plan(len(inputs), EXPLICIT, 1, loss, training)
            assert plan.perturbation.explicit is not None
            for name, array in arrays.items():
                model.packed_parameters[name].assign(array, plan.perturbation.explicit[name][0])
        else:
            raise ConfigError(
                f"tangents is a {type(tangents).__name__}; a direction, or arrays by name, are required"
            )
        plan.run(inputs, targets)
        values = model.processor.values(plan.values)
        return float(values[0]), float(values[1])


def forward_gradient(
    model: Graph,
    loss: Loss,
    x: Any,
    y: Any,
    tangents: Tangents,
    *,
    training: bool = False,
) -> tuple[float, dict[str, npt.NDArray[np.float32]]]:
    """Return the loss and the forward gradient g = (∇f · v) v, arrays shaped like ``model.parameters()``.

    E[g] = ∇f for a direction drawn with E[v vᵀ] = I. Parameters and errors: as in :func:`jvp`.
    Source: arXiv 2202.08587, definition 1.
    """
    value, derivative = jvp(model, loss, x, y, tangents, training=training)
    if isinstance(tangents, Direction):
        return value, tangents.scaled(model, derivative)
    arrays = checked(shapes_of(model.packed_parameters), tangents, "tangents")
    return value, {name: np.float32(derivative) * array for name, array in arrays.items()}


def checked_batch(model: Graph, loss: Loss, x: Any, y: Any, look: bool) -> tuple[Any, Any]:
    """Return a batch as arrays that fit model and loss; where `look`, having looked at its values too.

    Raises
    ------
    ShapeError, DtypeError
    DatasetError
        A target is impossible, or an example is not finite in float32.
    """
    inputs = model.checked_input(x)
    targets = checked_targets(model, loss, inputs, y)
    # What lies on a GPU stays there.
    if look and isinstance(inputs, np.ndarray) and isinstance(targets, np.ndarray):
        loss.check_target_values(targets, model.outputs)
        wrong = first_not_finite(inputs)
        if wrong is not None:
            raise DatasetError(f"x is not finite in float32 at {wrong}")
    return inputs, targets


def checked_targets(model: Graph, loss: Loss, inputs: Any, targets: Any) -> npt.NDArray[Any]:
    """Return `targets` as an array of the shape and kind of number that `loss` takes."""
    adopted = None if type(targets) is np.ndarray else model.processor.adopt(as_tensor(targets))
    array = as_array("y", targets) if adopted is None else adopted
    if adopted is not None:
        wanted = np.dtype(loss.target_layout(len(inputs), model.outputs)[1])
        if array.dtype != wanted:
            raise DtypeError(f"targets have dtype {array.dtype} on the GPU; {wanted} is required there")
    loss.check_targets(array, len(inputs), model.outputs)
    return array
