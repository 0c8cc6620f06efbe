"""Derivatives of a model's outputs in its input; the parameters stand still."""

from typing import Any

import numpy as np

from fgnumba.errors import ConfigError, DtypeError, ShapeError, shown
from fgnumba.kernels.rules.directions import NONE
from fgnumba.model.graph import Graph
from fgnumba.validation.arrays import REAL, as_array, as_tensor


def input_jvp(model: Graph, primals: Any, tangents: Any) -> tuple[Any, Any]:
    """Return a model's outputs, and their derivative along a direction in the input, from one forward pass.

        y = u(x),   dy = ∂u/∂x · dx

    Every example has a direction of its own, a row of dx. Dropout drops nothing.

    Parameters
    ----------
    model : Graph
        The model u, whose parameters stand still.
    primals : tuple of one array
        The examples x, (B, *input_shape) real numbers.
    tangents : tuple of one array
        The directions dx, of the shape of x.

    Returns
    -------
    y, dy : ndarray, (B, *output_shape) float32
        The outputs and their derivatives. If x and dx are arrays on the model's GPU, so are y and dy.

    Raises
    ------
    ConfigError
        If `primals` or `tangents` does not hold exactly one array.
    ShapeError
        If x is not (B, *input_shape), or dx has another shape than x.
    DtypeError
        If an array does not hold real numbers (on a GPU, float32), or only one of the two lies on the GPU.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(1)], input_shape=(2,), device="cpu")
    >>> x, dx = np.zeros((3, 2), np.float32), np.ones((3, 2), np.float32)
    >>> y, dy = fg.jvp(model, (x,), (dx,))
    >>> y.shape, dy.shape
    ((3, 1), (3, 1))
    """
    if model.symbols is not None:
        raise ConfigError(
            "the model takes symbols, which have no tangents; a model of real numbers is required, or the "
            "derivative along its parameters: fg.jvp(model, loss, x, y, tangents)"
        )
    inputs = model.checked_input(_single("primals", primals))
    moving = _checked_tangent(model, _single("tangents", tangents), inputs)
    device, size = model.processor, model.outputs
    on_host: bool = isinstance(inputs, np.ndarray)
    outputs = _empty(model, (2, len(inputs) * model.positions, size), on_host)
    with model.lock:
        for part in model.parts(len(inputs)):
            plan = model.plan(part.stop - part.start, NONE, 1, moving_input=True)
            plan.run((inputs[part], moving[part]))
            rows = model.output_rows(part)
            for block in range(2):
                if on_host:
                    outputs[block, rows] = device.values(plan.output[block])[:, :size]
                else:
                    device.copy_rows(outputs[block][rows], plan.output[block])
    if not on_host:
        # The caller may free the input once this returns, so the device must be done reading it.
        outputs.synchronize()
    y, dy = (outputs[block].reshape(len(inputs), *model.output_shape) for block in range(2))
    return y, dy


def _empty(model: Graph, shape: tuple[int, ...], on_host: bool) -> Any:
    if on_host:
        return np.empty(shape, np.float32)
    return model.processor.zeros(shape)


def _single(name: str, arrays: Any) -> Any:
    """Return the only array of a sequence of one."""
    if not isinstance(arrays, tuple | list) or len(arrays) != 1:
        has = f"{len(arrays)} arrays" if isinstance(arrays, tuple | list) else shown(arrays)
        raise ConfigError(
            f"{name} is {has}; a model has one input: a tuple of one array, as (x,), is required"
        )
    return arrays[0]


def _checked_tangent(model: Graph, given: Any, inputs: Any) -> Any:
    adopted = None if type(given) is np.ndarray else model.processor.adopt(as_tensor(given))
    tangent = as_array("tangents[0]", given) if adopted is None else adopted
    if tangent.shape != inputs.shape:
        raise ShapeError(
            f"tangents[0] has shape {tangent.shape}; that of primals[0], {inputs.shape}, is required"
        )
    if isinstance(tangent, np.ndarray) != isinstance(inputs, np.ndarray):
        raise DtypeError(
            "primals[0] and tangents[0] lie on different devices; both on the GPU or none is required"
        )
    if tangent.dtype.kind not in REAL:
        raise DtypeError(f"tangents[0] has dtype {tangent.dtype}; real numbers are required")
    if adopted is not None and tangent.dtype != np.float32:
        raise DtypeError(f"tangents[0] has dtype {tangent.dtype} on the GPU; float32 is required there")
    return tangent
