"""Second derivatives of a model's outputs in its input, summed over directions: the Laplacian, for instance."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DtypeError, ShapeError
from fgnumba.kernels.machine.memory import aligned
from fgnumba.model.collapsed import CollapsedPass, chain_of
from fgnumba.model.graph import Graph
from fgnumba.model.recent import Recent
from fgnumba.validation.arrays import REAL, as_array, first_not_finite

Array = npt.NDArray[np.float32]


class ModelLaplacian:
    """The Laplacian of a model's outputs in its input, or another weighted sum of second derivatives.

        Δu(x) = Σ_i w_i ∂²u/∂x² [v_i, v_i]

    ``fg.laplacian(model)`` makes it. By default the directions v_i are the D coordinates of the input and every weight
    is 1. One forward pass carries value, k first derivatives and the sum: 2 + k vectors a point, and not 1 + 2 k.

    Parameters
    ----------
    model : Graph
        A chain of dense layers on the CPU. Its parameters are read anew at each call. The second derivative of a
        rectifier (relu, leaky_relu) is 0.
    directions : array, optional
        The directions v_i, (k, *input_shape) real numbers. By default the coordinates.
    weights : array, optional
        The weights w_i, (k,) real numbers; a weight of 0 leaves a direction to first derivatives. By default ones.

    Raises
    ------
    ConfigError
        If the model is no chain of dense layers, or a number is not finite in float32.
    DeviceError
        If the model is on a GPU, or the directions need more memory than there is.
    ShapeError, DtypeError
        If directions or weights have another shape, or do not hold real numbers.

    Notes
    -----
    Source: R. Li et al., arXiv 2307.08214; F. Dangel et al., arXiv 2505.13644.
    """

    def __init__(self, model: Graph, directions: Any = None, weights: Any = None) -> None:
        chain_of(model)
        self.model = model
        size = int(np.prod(model.input_shape))
        rows = _coordinates(size) if directions is None else _finite("directions", directions)
        if rows.ndim == 0 or not len(rows) or rows.shape[1:] not in (model.input_shape, (size,)):
            required = ", ".join(("k", *map(str, model.input_shape)))
            raise ShapeError(f"directions has shape {rows.shape}; ({required}) with k >= 1 is required")
        self.directions: Array = rows.reshape(len(rows), size)
        factors = _finite("weights", np.ones(len(rows), np.float32) if weights is None else weights)
        if factors.shape != (len(rows),):
            raise ShapeError(
                f"weights has shape {factors.shape}; ({len(rows)},), one a direction, is required"
            )
        self.weights: Array = factors
        self._passes: Recent[tuple[int, int], CollapsedPass] = Recent()

    def __call__(self, x: Any) -> Array:
        """Return the Laplacian of the outputs at the points `x`.

        Parameters
        ----------
        x : array, (B, *input_shape) of real numbers
            The points, B >= 1.

        Returns
        -------
        ndarray, (B, *output_shape) float32
            One for each example and output; infinite or NaN where the computation overflows.

        Raises
        ------
        ShapeError, DtypeError
            If `x` has another shape, or does not hold real numbers.
        """
        return self.derivatives(x)[2]

    def derivatives(self, x: Any) -> tuple[Array, Array, Array]:
        """Return outputs (B, *output_shape), first derivatives (B, k, *output_shape) and Laplacian at points `x`."""
        inputs = self.model.checked_input(x)
        count, shape = len(self.directions), self.model.output_shape
        rows = np.empty((len(inputs), 2 + count, self.model.outputs), np.float32)
        with self.model.lock:
            for part in self.model.parts(len(inputs)):
                rows[part] = self.bound(part.stop - part.start).run(inputs[part])[0]
        rows = rows.reshape(len(inputs), 2 + count, *shape)
        return rows[:, 0].copy(), rows[:, 1:-1].copy(), rows[:, -1].copy()

    def bound(self, batch: int, tangents: int = 0) -> CollapsedPass:
        """Return the pass for `batch` points and `tangents` directions of the parameters; the caller holds the lock."""
        return self._passes.of(
            (batch, tangents),
            lambda: CollapsedPass(self.model, batch, self.directions, self.weights, tangents),
        )

    def __reduce__(self) -> Any:
        # Passes hold addresses of memory, so a copy makes its own.
        return type(self), (self.model, self.directions, self.weights)

    def __repr__(self) -> str:
        return f"fg.laplacian({self.model!r}), {len(self.directions)} directions"


def _coordinates(size: int) -> Array:
    rows: Array = aligned((size, size))
    np.fill_diagonal(rows, 1)
    return rows


def _finite(name: str, values: Any) -> Array:
    array = as_array(name, values)
    if array.dtype.kind not in REAL:
        raise DtypeError(f"{name} has dtype {array.dtype}; real numbers are required")
    wrong = first_not_finite(array)
    if wrong is not None:
        at = ", ".join(map(str, wrong))
        raise ConfigError(f"{name}[{at}] is {array[wrong]}; a number that is finite in float32 is required")
    return np.array(array, np.float32)
