"""Losses that are a mean over outputs of a rule of one output and its target, on the CPU.

    f_i  = mean_n φ(z_in, y_in)
    d_ti = mean_n φ'(z_in, y_in) dz_tin

The rule runs once an output, and its values and slopes wait in scratch memory for the sums over outputs. Sums may be
reassociated, so that they are vectorised; rules may not, because their exponentials reduce arguments by sums whose
rounding matters.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.rules.losses import Rule
from fgnumba.kernels.shared.loss.cpu import RESIDUAL, ROWS, bind_loss, bind_loss_residual
from fgnumba.validation.launcher import launcher

_SCRATCH_ITEMSIZE = 16
"""Bytes of scratch memory for an output: its value and its slope."""


@launcher
def bind_pointwise(
    name: str,
    entry: int,
    threads: int,
    z: npt.NDArray[np.float32],
    width: int,
    targets: npt.NDArray[np.float32],
    result: npt.NDArray[Any],
    values: npt.NDArray[np.float64],
    weighted: bool,
    constants: npt.NDArray[np.float64] | None = None,
) -> list[Operation]:
    """Bind a loss of a rule, and the mean over its rows.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : int
        Address of the kernel that :func:`rows_kernel` made.
    threads : int
        Number of threads that may share the work.
    z : array, (1 + T, B, ld) float32
        A dual buffer of outputs.
    width : int
        Number of its columns that are read.
    targets : array, (B, width) float32, C-contiguous
        The targets y; where `weighted`, (B, 1 + width), each example's weight before its targets.
    result : array, (1,) ``RESULT``
        Written: whether the values are finite.
    values : array, (1 + T,) float64
        Written: the loss, then the directional derivatives.
    weighted : bool
        Whether the examples have weights.
    constants : array, (1,) float64, or None
        The rule's own number, if it has one.
    """
    return bind_loss(
        name,
        entry,
        threads,
        z,
        width,
        targets,
        result,
        values,
        _reduce_entry(),
        weighted,
        constants,
        _SCRATCH_ITEMSIZE,
    )


@launcher
def bind_pointwise_residual(
    name: str,
    entry: int,
    threads: int,
    z: npt.NDArray[np.float32],
    targets: npt.NDArray[np.float32],
    residual: npt.NDArray[np.float32],
    weighted: bool,
    constants: npt.NDArray[np.float64] | None = None,
) -> Operation:
    """Bind e_i = w_i φ'(z_i, y_i) / N, the gradient of an example's own loss in its outputs.

    Parameters
    ----------
    name : str
        Name of the operation.
    entry : int
        Address of the kernel that :func:`residual_kernel` made.
    threads : int
        Number of threads that may share the work.
    z : array, (B, ld) float32
        The outputs.
    targets : array, (B, N) float32, C-contiguous
        The targets y; where `weighted`, (B, 1 + N), each example's weight w_i before its targets.
    residual : array, (B, N) float32
        Written: e.
    weighted : bool
        Whether the examples have weights.
    constants : array, (1,) float64, or None
        The rule's own number, if it has one.
    """
    return bind_loss_residual(name, entry, threads, z, targets, residual, weighted, constants)


@cache
def rows_kernel(name: str, rule: Rule) -> int:
    """Return the address of the kernel that reduces each example to its loss and its tangents.

    Parameters
    ----------
    name : str
        Name of the kernel.
    rule : callable
        The rule φ, one of ``kernels.rules.losses``.
    """

    def rows(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, ROWS), 1)[0]
        constant = carray(pointer(a.constants, np.float64), 1)[0] if a.constants != 0 else np.float64(0)
        values = carray(pointer(a.scratch, np.float64), a.width)
        slopes = carray(pointer(a.scratch + a.width * 8, np.float64), a.width)
        for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
            at = a.z + i * a.ld * 4
            z = carray(pointer(at, np.float32), a.width)
            y = carray(pointer(a.targets + i * a.stride * 4, np.float32), a.width)
            for n in range(a.width):
                values[n], slopes[n] = rule(z[n], y[n], constant)
            call(a.reduce, (a.width, a.count, a.scratch, at, a.batch * a.ld * 4, a.rows + i * 8, a.batch))

    return kernel(name, rows, 3)


@cache
def residual_kernel(name: str, rule: Rule) -> int:
    """Return the address of the kernel that writes the gradient of each example's loss in its outputs.

    Parameters
    ----------
    name : str
        Name of the kernel.
    rule : callable
        The rule φ, one of ``kernels.rules.losses``.
    """

    def residual(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, RESIDUAL), 1)[0]
        constant = carray(pointer(a.constants, np.float64), 1)[0] if a.constants != 0 else np.float64(0)
        weights = carray(pointer(a.weights, np.float32), a.batch * a.stride)
        # A division in the loop is not moved out of it: the width might be among what the loop writes.
        scale = 1.0 / a.width
        for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
            z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
            y = carray(pointer(a.targets + i * a.stride * 4, np.float32), a.width)
            e = carray(pointer(a.residual + i * a.width * 4, np.float32), a.width)
            factor = scale
            if a.weights != 0:
                factor *= np.float64(weights[i * a.stride])
            for n in range(a.width):
                e[n] = factor * rule(z[n], y[n], constant)[1]

    return kernel(name, residual, 3)


@cache
def _reduce_entry() -> int:
    return kernel("pointwise-reduce", _reduce, 7, fastmath={"contract", "nsz", "reassoc"})


def _reduce(width: int, count: int, scratch: int, z: int, block: int, rows: int, batch: int) -> None:
    """Write the mean of the values to a row's first entry, and of slopes times tangents to the others."""
    values = carray(pointer(scratch, np.float64), width)
    slopes = carray(pointer(scratch + width * 8, np.float64), width)
    out = carray(pointer(rows, np.float64), count * batch + 1)
    scale = 1.0 / width
    total = np.float64(0)
    for n in range(width):
        total += values[n]
    out[0] = total * scale
    for t in range(count):
        dz = carray(pointer(z + (t + 1) * block, np.float32), width)
        dot = np.float64(0)
        for n in range(width):
            dot += slopes[n] * np.float64(dz[n])
        out[(t + 1) * batch] = dot * scale
