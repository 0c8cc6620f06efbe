"""Activation and slope over a scratch tile: the part of a layer's epilogue that depends on the activation."""

import numpy as np
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.rules.activations.rules import RULES


def activation(name: str, slope: bool) -> int:
    """Address of ``(rows, columns, stride, z, bias, y, ld_y, slopes)``: y = a(z + bias), slopes = a'(z + bias).

    Rows of z and slopes are `stride` apart, y's `ld_y`; `columns` of each are read and written. Without `slope`,
    `slopes` is not touched.
    """
    rule = RULES[name]

    if slope:

        def activate(
            rows: int, columns: int, stride: int, z: int, bias: int, y: int, ld_y: int, slopes: int
        ) -> None:
            biases = carray(pointer(bias, np.float32), columns)
            product = carray(pointer(z, np.float32), (rows, stride))
            derivative = carray(pointer(slopes, np.float32), (rows, stride))
            out = carray(pointer(y, np.float32), (rows, ld_y))
            for i in range(rows):
                for n in range(columns):
                    out[i, n], derivative[i, n] = rule(product[i, n] + biases[n])

    else:

        def activate(
            rows: int, columns: int, stride: int, z: int, bias: int, y: int, ld_y: int, slopes: int
        ) -> None:
            biases = carray(pointer(bias, np.float32), columns)
            product = carray(pointer(z, np.float32), (rows, stride))
            out = carray(pointer(y, np.float32), (rows, ld_y))
            for i in range(rows):
                for n in range(columns):
                    out[i, n] = rule(product[i, n] + biases[n])[0]

    return kernel(f"activation-{name}-{'dual' if slope else 'primal'}", activate, 8)
