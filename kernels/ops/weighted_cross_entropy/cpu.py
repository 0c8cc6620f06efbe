"""Softmax cross-entropy on the CPU with smoothed labels, and with weights of classes and examples.

    f   = mean_i w_i (logsumexp(z_i) - q_i · z_i)
    d_t = mean_i w_i ((softmax(z_i) - q_i) · dz_ti)
    q_i = (1 - ε) onehot(y_i) + ε / C
    w_i = c[y_i], times the example's own weight where `weighted`

The largest logit of each row is subtracted first, so that nothing overflows for finite logits. Losses without any of
these options have kernels of their own, ``softmax_cross_entropy``.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

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
    targets: npt.NDArray[Any],
    result: npt.NDArray[Any],
    values: npt.NDArray[np.float64],
    constants: npt.NDArray[np.float64],
    weighted: bool = False,
) -> list[Operation]:
    """Bind the loss to its arrays.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    z : array, (1 + T, B, ld) float32
        A dual buffer of logits.
    classes : int
        Number C of its columns that are read.
    targets : array, (B,) int64; where `weighted`, (B, 2) float32
        The classes y_i, each at least 0 and below `classes`; where `weighted`, an example's weight, then its class.
    result : array, (1,) ``loss.RESULT``
        Written: whether the values are finite. A target that is no class makes the loss NaN.
    values : array, (1 + T,) float64
        Written: the loss, then the directional derivatives.
    constants : array, (1 + C,) float64
        ε, then the weights c of the classes.
    weighted : bool
        Whether the examples have weights.

    Notes
    -----
    Cost: one pass over z, with one exponential for each element.
    """
    return bind_loss(
        "weighted cross-entropy",
        _entry(),
        threads,
        z,
        classes,
        targets,
        result,
        values,
        _reduce_entry(),
        weighted,
        constants,
    )


@launcher
def bind_residual(
    threads: int,
    *,
    z: npt.NDArray[np.float32],
    targets: npt.NDArray[Any],
    residual: npt.NDArray[np.float32],
    constants: npt.NDArray[np.float64],
    weighted: bool = False,
) -> Operation:
    """Bind e_i = w_i (softmax(z_i) - q_i), the gradient of an example's own loss in its logits.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    z : array, (B, ld) float32
        The logits.
    targets : array, (B,) int64; where `weighted`, (B, 2) float32
        The classes y_i; where `weighted`, an example's weight, then its class. One that is no class makes e NaN.
    residual : array, (B, C) float32
        Written: e.
    constants : array, (1 + C,) float64
        ε, then the weights c of the classes.
    weighted : bool
        Whether the examples have weights.
    """
    return bind_loss_residual(
        "weighted residual", _residual_entry(), threads, z, targets, residual, weighted, constants
    )


@register_jitable(forceinline=True)
def class_of(targets: int, stride: int, weighted: bool, i: int, classes: int) -> int:
    """Return an example's class, or -1 if its target is none; beside weights, classes are float32."""
    if not weighted:
        target = carray(pointer(targets + i * stride * 8, np.int64), 1)[0]
        return target if target >= 0 and target < classes else -1
    label = carray(pointer(targets + i * stride * 4, np.float32), 1)[0]
    if not (label >= np.float32(0) and label < np.float32(classes)):
        return -1
    target = int(label)
    return target if np.float32(target) == label else -1


@cache
def _residual_entry() -> int:
    return kernel("weighted-softmax-residual", _residual, 3)


def _residual(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, RESIDUAL), 1)[0]
    constants = carray(pointer(a.constants, np.float64), 1 + a.width)
    weights = carray(pointer(a.weights, np.float32), a.batch * a.stride)
    share = constants[0] / a.width
    for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        e = carray(pointer(a.residual + i * a.width * 4, np.float32), a.width)
        target = class_of(a.targets, a.stride, a.weights != 0, i, a.width)
        if target < 0:
            for n in range(a.width):
                e[n] = np.float32(np.nan)
            continue
        factor = constants[1 + target]
        if a.weights != 0:
            factor *= np.float64(weights[i * a.stride])
        highest = z[0]
        for n in range(1, a.width):
            highest = max(highest, z[n])
        for n in range(a.width):
            e[n] = exp(z[n] - highest)
        total, others = np.float64(0), np.float64(0)
        for n in range(a.width):
            total += np.float64(e[n])
        for n in range(a.width):
            if n != target:
                e[n] = factor * (np.float64(e[n]) / total - share)
                others += np.float64(e[n])
        # The target's entry is minus the sum of the others, which is accurate even for a well-classified example.
        e[target] = -np.float32(others)
        if not total > np.float64(0):
            e[target] = np.float32(np.nan)


@cache
def _entry() -> int:
    return kernel("weighted-cross-entropy", _rows, 3)


def _rows(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, ROWS), 1)[0]
    constants = carray(pointer(a.constants, np.float64), 1 + a.width)
    rows = carray(pointer(a.rows, np.float64), (1 + a.count, a.batch))
    exponentials = carray(pointer(a.scratch, np.float32), a.width)
    smoothing = constants[0]
    for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
        target = class_of(a.targets, a.stride, a.weights != 0, i, a.width)
        if target < 0:
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
        share = smoothing / a.width
        call(
            a.reduce,
            (
                a.width,
                a.count,
                target,
                a.scratch,
                at,
                a.batch * a.ld * 4,
                a.rows + i * 8,
                a.batch,
                a.constants,
            ),
        )
        apart = (1 - smoothing) * (np.float64(highest) - np.float64(z[target]))
        # Every term is 0 or above, so that nothing cancels. Without smoothing, a logit of minus infinity is no matter.
        if smoothing > 0:
            for n in range(a.width):
                apart += share * (np.float64(highest) - np.float64(z[n]))
        rows[0, i] = np.float64(log(np.float32(rows[0, i]))) + apart
        for t in range(1 + a.count):
            rows[t, i] *= constants[1 + target]


@cache
def _reduce_entry() -> int:
    # As in `softmax_cross_entropy`: sums may be reassociated, exponentials and logarithms may not.
    return kernel("weighted-softmax-reduce", _reduce, 9, fastmath={"contract", "nsz", "reassoc"})


def _reduce(
    width: int,
    count: int,
    target: int,
    exponentials: int,
    z: int,
    block: int,
    rows: int,
    batch: int,
    constants: int,
) -> None:
    """Write Σ e to a row's first entry, and Σ (e / Σ e - ε / C) (dz_t - dz_t[target]) to the others."""
    e = carray(pointer(exponentials, np.float32), width)
    out = carray(pointer(rows, np.float64), count * batch + 1)
    share = carray(pointer(constants, np.float64), 1)[0] / width
    total = np.float64(0)
    for n in range(width):
        total += np.float64(e[n])
    out[0] = total
    for t in range(count):
        dz = carray(pointer(z + (t + 1) * block, np.float32), width)
        own, dot, apart = np.float64(dz[target]), np.float64(0), np.float64(0)
        for n in range(width):
            dot += np.float64(e[n]) * (np.float64(dz[n]) - own)
            apart += np.float64(dz[n]) - own
        out[(t + 1) * batch] = dot / total - share * apart
