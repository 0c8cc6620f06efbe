"""Applies an activation to a tile of pre-activations, and writes its slopes: part of every layer's epilogue."""

import numpy as np
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.rules.activations.rules import rule_of


def activation(name: str, slope: bool) -> int:
    """Return the address of a kernel that computes y = a(z + bias) and, with `slope`, slopes = a'(z + bias).

    The kernel takes ``(rows, columns, stride, z, bias, y, ld_y, slopes)``. Rows of z and slopes are `stride` elements
    apart, and rows of y `ld_y`. `columns` of each row are read and written.

    Parameters
    ----------
    name : str
        Name of the activation, as ``rule_of`` takes it.
    slope : bool
        Whether slopes are written. If not, the address `slopes` is not used.
    """
    rule = rule_of(name)

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
