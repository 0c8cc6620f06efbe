"""SKELETON: product (1+T, B L, 2 Hp) primal is overwritten by gates z, f; tangents are left; state (1 or 1+T, B, Hp) or None."""

from typing import Any

from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.shared.affine.cpu import Affine
from fgnumba.kernels.shared.product.product import Weights
from fgnumba.kernels.shared.recurrence.cpu import Vectors


def bind(
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    units: int,
    product: Any,
    y: Images,
    state: Any,
    vectors: Vectors,
) -> Operation:
    """product (1+T, B L, 2 Hp) primal is overwritten by gates z, f; tangents are left; state (1 or 1+T, B, Hp) or None."""
    raise NotImplementedError
