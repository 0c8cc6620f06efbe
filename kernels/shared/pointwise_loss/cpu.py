"""Losses that are a mean over outputs of a rule of one output and its target, on the CPU.

    f_i  = mean_n φ(z_in, y_in)
    d_ti = mean_n φ'(z_in, y_in) dz_tin

The rule runs once an output, and its values and slopes wait in scratch memory for the sums over outputs. Sums may be
reassociated, so that they are vectorised; rules may not, because their exponentials reduce arguments by sums whose
rounding matters.
"""

from functools import cache

import numpy as np
from numba import carray

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.rules.losses import Rule
from fgnumba.kernels.shared.loss.cpu import RESIDUAL, ROWS

SCRATCH_ITEMSIZE = 16
"""Bytes of scratch memory for an output: its value and its slope."""


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
    """Return the address of the kernel that writes the mean's derivative in each output; of a slope, the second one.

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
def reduce_entry() -> int:
    """Return the address of the kernel that sums an example's values and slopes over its outputs."""
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
