"""SKELETON: vectors: nu, theta (complex) or nu alone; product (1+T, B L, 2 Hp or Hp), its primal is left; y (L, 1, 2 H or H); state (1 or 1+T, B, 2 Hp or Hp)."""

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
    """vectors: nu, theta (complex) or nu alone; product (1+T, B L, 2 Hp or Hp), its primal is left; y (L, 1, 2 H or H); state (1 or 1+T, B, 2 Hp or Hp)."""
    raise NotImplementedError
