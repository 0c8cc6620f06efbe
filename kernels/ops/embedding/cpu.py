"""SKELETON: Rows of the weight plus the bias: y[b*L + l] = W[x[b, l]] + b, dy = V[x] + c. x: (1, 1, L), y: B L rows of one pixel."""

from typing import Any

from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.shared.affine.cpu import Affine
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.kernels.shared.recurrence.cpu import Vectors


def bind(
    isa: InstructionSet, threads: int, *, batch: int, x: Images, y: Images, weights: Weights
) -> Operation:
    """Rows of the weight plus the bias: y[b*L + l] = W[x[b, l]] + b, dy = V[x] + c. x: (1, 1, L), y: B L rows of one pixel."""
    raise NotImplementedError
