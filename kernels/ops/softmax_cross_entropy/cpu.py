"""Softmax cross-entropy on the CPU: value and directional derivatives in one pass over the logits.

    f   = mean_i (logsumexp(z_i) - z_i[y_i])
    d_t = mean_i ((softmax(z_i) - onehot(y_i)) · dz_ti)

The largest logit of each row is subtracted first, so that nothing overflows for finite logits.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules.elementary import exp, log
from fgnumba.kernels.shared.loss.cpu import RESIDUAL, ROWS, bind_loss, bind_loss_residual
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    classes: int,
    targets: npt.NDArray[np.int64],
    result: npt.NDArray[Any],
    values: npt.NDArray[np.float64],
) -> list[Operation]:
    """Bind the loss to its arrays.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    z : array, (1 + T, B, ld) float32
        A dual buffer of logits.
    classes : int
        Number of its columns that are read.
    targets : array, (B,) int64
        The classes y_i, each at least 0 and below `classes`.
    result : array, (1,) ``loss.RESULT``
        Written: whether the values are finite. A target out of range makes the loss NaN.
    values : array, (1 + T,) float64
        Written: the loss, then the directional derivatives.

    Notes
    -----
    Cost: one pass over z, with one exponential for each element.
    """
    return bind_loss(
        "softmax cross-entropy", _entry(), threads, z, classes, targets, result, values, _reduce_entry()
    )


@launcher
def bind_residual(
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    targets: npt.NDArray[np.int64],
    residual: npt.NDArray[np.float32],
) -> Operation:
    """Bind e_i = softmax(z_i) - onehot(y_i), the gradient of an example's own loss in its logits.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    z : array, (B, ld) float32
        The logits.
    targets : array, (B,) int64
        The classes y_i. One that is not at least 0 and below C makes e NaN.
    residual : array, (B, C) float32
        Written: e.
    """
    return bind_loss_residual("softmax residual", _residual_entry(), threads, z, targets, residual)


@cache
def _residual_entry() -> int:
    return kernel("softmax-residual", _residual, 3)


def _residual(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, RESIDUAL), 1)[0]
    targets = carray(pointer(a.targets, np.int64), a.batch)
    for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        e = carray(pointer(a.residual + i * a.width * 4, np.float32), a.width)
        target = targets[i]
        if target < 0 or target >= a.width:
            for n in range(a.width):
                e[n] = np.float32(np.nan)
            continue
        highest = z[0]
        for n in range(1, a.width):
            highest = max(highest, z[n])
        for n in range(a.width):
            e[n] = exp(z[n] - highest)
        # In float64, because with very many classes most of them would be lost beside the sum of the others.
        sums = np.float64(0)
        for n in range(a.width):
            sums += np.float64(e[n])
        total, others = np.float32(sums), np.float64(0)
        for n in range(a.width):
            e[n] /= total
            if n != target:
                others += np.float64(e[n])
        # The target's entry is minus the sum of the others, which is accurate even for a well-classified example.
        e[target] = -np.float32(others)


@cache
def _entry() -> int:
    return kernel("softmax-cross-entropy", _rows, 3)


def _rows(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ROWS), 1)[0]
    targets = carray(pointer(a.targets, np.int64), a.batch)
    rows = carray(pointer(a.rows, np.float64), (1 + a.count, a.batch))
    exponentials = carray(pointer(a.scratch, np.float32), a.width)
    for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
        target = targets[i]
        if target < 0 or target >= a.width:
            for t in range(1 + a.count):
                rows[t, i] = np.nan
            continue
        at = a.z + i * a.ld * 4
        z = carray(pointer(at, np.float32), a.width)
        highest = z[0]
        for n in range(1, a.width):
            highest = max(highest, z[n])
        for n in range(a.width):
            exponentials[n] = exp(z[n] - highest)
        call(a.reduce, (a.width, a.count, target, a.scratch, at, a.batch * a.ld * 4, a.rows + i * 8, a.batch))
        apart = np.float64(highest) - np.float64(z[target])
        rows[0, i] = np.float64(log(np.float32(rows[0, i]))) + apart


@cache
def _reduce_entry() -> int:
    # Sums may be reassociated, so that they are vectorised. Exponentials and logarithms may not, because they reduce
    # their arguments by sums whose rounding matters.
    return kernel("softmax-reduce", _reduce, 8, fastmath={"contract", "nsz", "reassoc"})


def _reduce(
    width: int, count: int, target: int, exponentials: int, z: int, block: int, rows: int, batch: int
) -> None:
    """Write Σ e to a row's first entry, and Σ e (dz_t - dz_t[target]) / Σ e to the others, which are `batch` apart."""
    e = carray(pointer(exponentials, np.float32), width)
    out = carray(pointer(rows, np.float64), count * batch + 1)
    total = np.float64(0)
    for n in range(width):
        total += np.float64(e[n])
    out[0] = total
    for t in range(count):
        dz = carray(pointer(z + (t + 1) * block, np.float32), width)
        # Relative to the target's tangent, so that the terms do not cancel if the row is well classified.
        own, dot = np.float64(dz[target]), np.float64(0)
        for n in range(width):
            dot += np.float64(e[n]) * (np.float64(dz[n]) - own)
        out[(t + 1) * batch] = dot / total
