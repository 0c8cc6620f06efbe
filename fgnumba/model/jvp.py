"""Directional derivatives and forward gradients of a model's loss."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError, DtypeError, ShapeError
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

    The directional derivative is exact up to float32 rounding, never a finite difference.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are θ.
    loss : Loss
        The loss f, a mean over the batch.
    x : array, (B, *input_shape) of real numbers
        The examples.
    y : array
        The targets, in the shape and dtype that `loss` takes: (B,) integers for :class:`SoftmaxCrossEntropy`. If the
        model's output is a sequence (L, N), those of each position: (B, L), or (B, L, N).
    tangents : Direction or mapping of str to array
        The direction v: one of ``fgnumba.directions``, or arrays with the names and shapes of ``model.parameters()``,
        finite in float32.
    training : bool, optional
        Whether dropout drops units. Its mask is drawn with the seed and the step of the direction; for arrays both
        are 0. By default False.

    Returns
    -------
    value : float
        The loss f(θ). It is infinite or NaN if the computation overflows.
    derivative : float
        The directional derivative ∇f(θ) · v; likewise.

    Raises
    ------
    ShapeError
        If the shape of `x`, of `y` or of a tangent does not fit, or a tangent's name is missing or unknown.
    DtypeError
        If an array does not hold the kind of numbers that is required.
    DatasetError
        If a target is out of its range.
    ConfigError
        If `tangents` is neither a direction nor a mapping, or holds a number that is not finite in float32; or if the
        output depends on no parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Dense(3)], input_shape=(4,), device="cpu")
    >>> x, y = np.ones((2, 4), np.float32), np.array([0, 2])
    >>> v = fg.directions.RankOne(seed=1)
    >>> value, derivative = fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, v)
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
    """Return the loss and the forward gradient, from one forward pass.

        g = (∇f(θ) · v) v

    For a direction drawn with E[v vᵀ] = I, the forward gradient is an unbiased estimate of the gradient: E[g] = ∇f(θ).
    Source: arXiv 2202.08587, definition 1.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are θ.
    loss : Loss
        The loss f, a mean over the batch.
    x : array, (B, *input_shape) of real numbers
        The examples.
    y : array
        The targets, in the shape and dtype that `loss` takes: (B,) integers for :class:`SoftmaxCrossEntropy`.
    tangents : Direction or mapping of str to array
        The direction v: one of ``fgnumba.directions``, or arrays with the names and shapes of ``model.parameters()``,
        finite in float32.
    training : bool, optional
        Whether dropout drops units, as in :func:`jvp`. By default False.

    Returns
    -------
    value : float
        The loss f(θ).
    gradient : dict of str to ndarray, float32
        The forward gradient g, with the names and shapes of ``model.parameters()``.

    Raises
    ------
    ShapeError, DtypeError, DatasetError, ConfigError
        For the same reasons as :func:`jvp`.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Dense(3)], input_shape=(4,), device="cpu")
    >>> x, y = np.ones((2, 4), np.float32), np.array([0, 2])
    >>> v = fg.directions.RankOne(seed=1)
    >>> value, g = fg.forward_gradient(model, fg.SoftmaxCrossEntropy(), x, y, v)
    >>> g["0.weight"].shape
    (4, 3)
    """
    value, derivative = jvp(model, loss, x, y, tangents, training=training)
    if isinstance(tangents, Direction):
        return value, tangents.scaled(model, derivative)
    arrays = checked(shapes_of(model.packed_parameters), tangents, "tangents")
    return value, {name: np.float32(derivative) * array for name, array in arrays.items()}


def checked_batch(model: Graph, loss: Loss, x: Any, y: Any, look: bool) -> tuple[Any, Any]:
    """Return a batch as arrays whose shapes and dtypes fit the model and the loss.

    Parameters
    ----------
    model : Graph
        The model.
    loss : Loss
        The loss.
    x : array, (B, *input_shape) of real numbers
        The examples.
    y : array
        The targets, in the shape and dtype that `loss` takes.
    look : bool
        Whether the values are checked too, if they lie in the host's memory.

    Raises
    ------
    ShapeError
        If a shape does not fit.
    DtypeError
        If an array does not hold the kind of numbers that is required.
    DatasetError
        If a target is out of its range, or an example is not finite in float32.
    """
    inputs = model.checked_input(x)
    targets = checked_targets(model, loss, inputs, y)
    # Arrays on a GPU stay there, so their values are not looked at.
    if look and isinstance(inputs, np.ndarray) and isinstance(targets, np.ndarray):
        loss.check_target_values(targets, model.outputs)
        wrong = first_not_finite(inputs)
        if wrong is not None:
            raise DatasetError(f"x is not finite in float32 at {wrong}; finite numbers are required")
    return inputs, targets


def checked_targets(model: Graph, loss: Loss, inputs: Any, targets: Any) -> npt.NDArray[Any]:
    """Return `targets` in the shape that kernels read, after checking that shape and dtype are what `loss` takes.

    If the model's output is a sequence (L, N), targets (B, L, ...) become those of B L positions.
    """
    adopted = None if type(targets) is np.ndarray else model.processor.adopt(as_tensor(targets))
    array = as_array("y", targets) if adopted is None else adopted
    rows = len(inputs) * model.positions
    if len(model.output_shape) == 2:
        if array.shape[:2] != (len(inputs), model.positions):
            raise ShapeError(
                f"targets have shape {array.shape}; ({len(inputs)}, {model.positions}, ...), "
                "those of each position, are required"
            )
        array = array.reshape(rows, *array.shape[2:])
    if adopted is not None:
        dtype = np.dtype(loss.target_layout(rows, model.outputs)[1])
        if array.dtype != dtype:
            raise DtypeError(f"targets have dtype {array.dtype} on the GPU; {dtype} is required there")
    loss.check_targets(array, rows, model.outputs)
    laid_out: npt.NDArray[Any] = loss.laid_out(array, model.outputs)
    return laid_out
