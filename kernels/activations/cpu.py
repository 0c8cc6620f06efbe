"""Activation and slope over a scratch tile: the part of a layer's epilogue that depends on the activation."""

from functools import cache

import numpy as np
from numba import carray

from fgnumba.kernels.activations.rules import RULES
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import pointer


@cache
def activation(name: str, slope: bool) -> int:
    """Address of ``(rows, columns, z, bias, y, ld_y, slopes)``: y = a(z + bias), slopes = a'(z + bias).

    z and slopes are (rows, columns) float32, contiguous; y's rows are `ld_y` apart. z is overwritten. Without
    `slope`, `slopes` is not touched.
    """
    rule = RULES[name]

    if slope:

        def activate(rows: int, columns: int, z: int, bias: int, y: int, ld_y: int, slopes: int) -> None:
            biases = carray(pointer(bias, np.float32), columns)
            derivative = carray(pointer(slopes, np.float32), rows * columns)
            flat = carray(pointer(z, np.float32), rows * columns)
            for row in range(rows):
                for n in range(columns):
                    flat[row * columns + n] += biases[n]
            for i in range(rows * columns):
                flat[i], derivative[i] = rule(flat[i])
            out = carray(pointer(y, np.float32), (rows, ld_y))
            for row in range(rows):
                for n in range(columns):
                    out[row, n] = flat[row * columns + n]

    else:

        def activate(rows: int, columns: int, z: int, bias: int, y: int, ld_y: int, slopes: int) -> None:
            biases = carray(pointer(bias, np.float32), columns)
            flat = carray(pointer(z, np.float32), rows * columns)
            for row in range(rows):
                for n in range(columns):
                    flat[row * columns + n] += biases[n]
            for i in range(rows * columns):
                flat[i] = rule(flat[i])[0]
            out = carray(pointer(y, np.float32), (rows, ld_y))
            for row in range(rows):
                for n in range(columns):
                    out[row, n] = flat[row * columns + n]

    return kernel(f"activation-{name}-{'dual' if slope else 'primal'}", activate, 7)
