"""SKELETON: product (1+T, B L, 2 Hp) [h~ | z] primal is overwritten: h~ stays, z activated."""

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
    count: int,
    product: Any,
    y: Images,
    state: Any,
) -> Operation:
    """product (1+T, B L, 2 Hp) [h~ | z] primal is overwritten: h~ stays, z activated."""
    raise NotImplementedError
