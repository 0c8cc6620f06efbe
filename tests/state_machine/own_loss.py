"""A loss as a user may define it: with a parameter, and a kernel of its own."""

from typing import Any

import numpy as np
from numba import carray

import fgnumba as fg
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation

SCALED = record("values", "count", "factor")
RESIDUAL = record("z", "ld", "batch", "width", "targets", "residual", "factor")


def _scale(arguments, part, parts):
    a = carray(pointer(arguments, SCALED), 1)[0]
    values = carray(pointer(a.values, np.float64), a.count)
    factor = carray(pointer(a.factor, np.float64), 1)[0]
    for i in range(a.count):
        values[i] *= factor


def _residual(arguments, part, parts):
    a = carray(pointer(arguments, RESIDUAL), 1)[0]
    targets = carray(pointer(a.targets, np.float32), (a.batch, a.width))
    residual = carray(pointer(a.residual, np.float32), (a.batch, a.width))
    factor = np.float32(carray(pointer(a.factor, np.float64), 1)[0]) * np.float32(2) / np.float32(a.width)
    for i in range(a.batch):
        z = carray(pointer(a.z + i * a.ld * 4, np.float32), a.width)
        for n in range(a.width):
            residual[i, n] = factor * (z[n] - targets[i, n])


class Scaled(fg.MeanSquaredError):
    """The mean squared error times a factor. Two of them are equal where they are the same object, as by default."""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def bind(self, device: Any, z, outputs, targets, result, values):
        """Return the mean squared error, then the factor."""
        factor = np.array([float(self.factor)])
        fields = {"values": address(values), "count": len(values), "factor": address(factor)}
        return [
            *super().bind(device, z, outputs, targets, result, values),
            Operation(
                "scale", kernel("tests-scale", _scale, 3), filled(SCALED, fields), keeps=(factor, values)
            ),
        ]

    def bind_residual(self, device: Any, z, targets, residual):
        """Return the factor times the residual."""
        factor = np.array([float(self.factor)])
        fields = {
            "z": address(z),
            "ld": z.shape[1],
            "batch": len(residual),
            "width": residual.shape[1],
            "targets": address(targets),
            "residual": address(residual),
            "factor": address(factor),
        }
        entry = kernel("tests-scaled-residual", _residual, 3)
        return Operation(
            "scaled residual", entry, filled(RESIDUAL, fields), keeps=(factor, z, targets, residual)
        )

    def value(self, outputs, targets):
        """Return the factor times the mean squared error."""
        return self.factor * super().value(outputs, targets)
