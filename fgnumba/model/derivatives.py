"""Derivatives along a direction, of whatever has one: which function computes them depends on the arguments."""

from typing import Any, overload

import numpy.typing as npt

from fgnumba.errors import ConfigError, shown
from fgnumba.layers.losses import Loss
from fgnumba.model import jvp as of_loss
from fgnumba.model.graph import Graph
from fgnumba.model.input_derivatives import input_jvp
from fgnumba.model.jvp import Tangents
from fgnumba.model.laplacian import ModelLaplacian
from fgnumba.validation import flag

_OF_LOSS = ("loss", "x", "y")


@overload
def jvp(f: Graph, primals: tuple[Any], tangents: tuple[Any]) -> tuple[Any, Any]: ...
@overload
def jvp(
    f: Graph, loss: Loss, x: Any, y: npt.ArrayLike, tangents: Tangents, *, training: bool = False
) -> tuple[float, float]: ...
def jvp(f: Any, *arguments: Any, training: bool = False, **named: Any) -> Any:
    """Return a value and its derivative along a direction, from one forward pass.

    There are two forms. ``jvp(model, primals, tangents)``: outputs of a model, with the direction in its *input*,

        y = u(x),   dy = ∂u/∂x · dx

    and ``jvp(model, loss, x, y, tangents, training=False)``: a model's loss, with the direction in its *parameters*,

        (f(θ), ∇f(θ) · v)

    Both are exact up to float32 rounding, never a finite difference.

    Parameters
    ----------
    f : Graph
        The model.
    *arguments : object
        With three arguments, `primals` and `tangents`: the examples ``(x,)``, (B, *input_shape) real numbers, and the
        directions ``(dx,)``, of the same shape, a direction for each example. With five arguments, `loss`, `x`, `y`
        and `tangents`: the loss, the examples, the targets in the shape and dtype that the loss takes, and the
        direction of the parameters: one of ``fgnumba.directions``, or arrays with the names and shapes of
        ``model.parameters()``, finite in float32.
    training : bool, optional
        Whether dropout drops units, with five arguments alone: its mask is drawn with the seed and the step of the
        direction (0 for arrays). By default False.
    **named : object
        The arguments by name.

    Returns
    -------
    value : ndarray or float
        With three arguments the outputs y (B, *output_shape) float32, on the GPU if x and dx are there; with five the
        loss. It is infinite or NaN if the computation overflows.
    derivative : ndarray or float
        The derivative, of the same shape as the value.

    Raises
    ------
    ShapeError
        If an array's shape does not fit, or a parameter's name is missing or unknown.
    DtypeError
        If an array does not hold the kind of numbers that is required.
    DatasetError
        If a target is out of its range.
    ConfigError
        If the number of arguments or of arrays is another, `tangents` is neither a direction nor a mapping, a tangent
        of a parameter is not finite in float32, or the output depends on no parameters.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Dense(3)], input_shape=(4,), device="cpu")
    >>> x, y = np.ones((2, 4), np.float32), np.array([0, 2])
    >>> outputs, derivatives = fg.jvp(model, (x,), (np.ones_like(x),))
    >>> derivatives.shape
    (2, 3)
    >>> value, derivative = fg.jvp(model, fg.SoftmaxCrossEntropy(), x, y, fg.directions.RankOne(seed=1))
    """
    if len(arguments) > 2 or any(name in named for name in _OF_LOSS):
        loss, x, y, tangents = _ordered(("loss", "x", "y", "tangents"), arguments, named)
        return of_loss.jvp(f, loss, x, y, tangents, training=training)
    primals, tangents = _ordered(("primals", "tangents"), arguments, named)
    if flag("training", training):
        raise ConfigError("jvp: training is for a model's loss; three arguments take no dropout")
    if not isinstance(f, Graph):
        raise ConfigError(f"jvp: {shown(f)} has no derivative; a model is required")
    return input_jvp(f, primals, tangents)


def _ordered(names: tuple[str, ...], arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """Return the arguments in the order of `names`: those by position, then those by name."""
    forms = "three (f, primals, tangents) or five (model, loss, x, y, tangents) are required"
    if len(arguments) > len(names):
        raise ConfigError(f"jvp has {1 + len(arguments)} arguments; {forms}")
    found = dict(zip(names, arguments, strict=False))
    for name, value in named.items():
        if name not in names:
            raise ConfigError(f"jvp: unknown argument {name!r}; {forms}")
        if name in found:
            raise ConfigError(f"jvp: {name} is given twice; {forms}")
        found[name] = value
    for name in names:
        if name not in found:
            raise ConfigError(f"jvp: {name} is missing; {forms}")
    return [found[name] for name in names]


def laplacian(f: Graph, *, directions: Any = None, weights: Any = None) -> ModelLaplacian:
    """Return the Laplacian of a model in its input, as a function of the points.

        Δu(x) = Σ_i ∂²u/∂x_i²

    One forward pass carries value, D first derivatives and their summed second derivative: 2 + D vectors a point, and
    not 1 + 2 D as nested derivatives do.

    Parameters
    ----------
    f : Graph
        A model that is a chain of dense layers, on the CPU.
    directions : array, optional
        Directions v_i, (k, *input_shape) real numbers, along which second derivatives are taken in place of the
        coordinates.
    weights : array, optional
        Weights w_i, (k,) real numbers, of the second derivatives in the sum. By default ones.

    Returns
    -------
    ModelLaplacian
        A function of points x (B, *input_shape) whose value is ``(value, laplacian)``, each (B, *output_shape)
        float32.

    Raises
    ------
    ConfigError
        If `f` is no chain of dense layers, or a number is not finite in float32.
    DeviceError
        If the model is on a GPU.
    ShapeError, DtypeError
        If directions or weights have another shape, or do not hold real numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(1)], input_shape=(2,), device="cpu")
    >>> value, laplacian = fg.laplacian(model)(np.zeros((3, 2)))
    >>> laplacian.shape
    (3, 1)
    """
    if not isinstance(f, Graph):
        raise ConfigError(f"laplacian: {shown(f)} has no derivative; a model is required")
    return ModelLaplacian(f, directions, weights)
