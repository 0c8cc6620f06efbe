"""Mean squared error on the CPU: value and directional derivatives in one pass over the outputs.

    f   = mean_ic (z_ic - y_ic)²
    d_t = mean_ic 2 (z_ic - y_ic) dz_tic

Here i runs over the examples and c over the outputs.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.shared.loss.cpu import RESIDUAL, ROWS, bind_loss, bind_loss_residual
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    width: int,
    targets: npt.NDArray[np.float32],
    result: npt.NDArray[Any],
    values: npt.NDArray[np.float64],
    weighted: bool = False,
) -> list[Operation]:
    """Bind the loss to its arrays.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    z : array, (1 + T, B, ld) float32
        A dual buffer of outputs.
    width : int
        Number of its columns that are read.
    targets : array, (B, width) float32, C-contiguous
        The targets y; where `weighted`, (B, 1 + width), each example's weight before its targets.
    result : array, (1,) ``loss.RESULT``
        Written: whether the values are finite.
    values : array, (1 + T,) float64
        Written: the loss, then the directional derivatives.
    weighted : bool
        Whether the examples have weights w_i: the mean is then (1/B) Σ_i w_i f_i.

    Notes
    -----
    Cost: one pass over z and the targets.
    """
    return bind_loss(
        "mean squared error", _entry(), threads, z, width, targets, result, values, weighted=weighted
    )


@launcher
def bind_residual(
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float32],
    weighted: bool = False,
) -> Operation:
    """Bind e_i = 2 (z_i - y_i) / N, the gradient of an example's own loss in its outputs.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    z : array, (B, ld) float32
        The outputs.
    targets : array, (B, N) float32
        The targets y; where `weighted`, (B, 1 + N), each example's weight before its targets.
    residual : array, (B, N) float32
        Written: e.
    weighted : bool
        Whether the examples have weights w_i, with which e_i is multiplied.
    """
    return bind_loss_residual("squared residual", _residual_entry(), threads, z, targets, residual, weighted)


@cache
def _residual_entry() -> int:
    return kernel("squared-residual", _residual, 3)


def _residual(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, RESIDUAL), 1)[0]
    residual = carray(pointer(a.residual, np.float32), (a.batch, a.width))
    weights = carray(pointer(a.weights, np.float32), a.batch * a.stride)
    # A division in the loop is not moved out of it: the width might be among what the loop writes.
    scale = 2.0 / a.width
    for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        y = carray(pointer(a.targets + i * a.stride * 4, np.float32), a.width)
        factor = scale
        if a.weights != 0:
            factor *= np.float64(weights[i * a.stride])
        for n in range(a.width):
            residual[i, n] = factor * (np.float64(z[n]) - np.float64(y[n]))


@cache
def _entry() -> int:
    return kernel("mean-squared-error", _rows, 3, fastmath={"contract", "nsz", "reassoc"})


def _rows(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ROWS), 1)[0]
    rows = carray(pointer(a.rows, np.float64), (1 + a.count, a.batch))
    # In float64, because the square of an output that is 1e20 from its target is beyond float32.
    scale = 1.0 / a.width
    for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        y = carray(pointer(a.targets + i * a.stride * 4, np.float32), a.width)
        total = np.float64(0)
        for n in range(a.width):
            difference = np.float64(z[n]) - np.float64(y[n])
            total += difference * difference
        rows[0, i] = total * scale
        for t in range(a.count):
            dz = carray(pointer(a.z + ((t + 1) * a.batch + i) * a.ld * 4, np.float32), a.width)
            dot = np.float64(0)
            for n in range(a.width):
                dot += (np.float64(z[n]) - np.float64(y[n])) * np.float64(dz[n])
            rows[t + 1, i] = 2.0 * dot * scale
