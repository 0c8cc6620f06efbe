"""SKELETON: One position; vectors: recurrent_bias."""

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
    position: int,
    product: Any,
    recurrent: Any,
    y: Images,
    state: Any,
    vectors: Vectors,
) -> Operation:
    """One position; vectors: recurrent_bias."""
    raise NotImplementedError
