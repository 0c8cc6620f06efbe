"""SKELETON: One position: pre = product[:, b L + position] + recurrent[:, b]; at position 0 without state recurrent is not read and counts as zero. cells (1+T, B, Hp): c, read (but at position 0: from state, or zeros) and written. At the last position state = [h | c]."""

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
    position: int,
    product: Any,
    recurrent: Any,
    y: Images,
    cells: Any,
    state: Any,
) -> Operation:
    """One position: pre = product[:, b L + position] + recurrent[:, b]; at position 0 without state recurrent is not read and counts as zero. cells (1+T, B, Hp): c, read (but at position 0: from state, or zeros) and written. At the last position state = [h | c]."""
    raise NotImplementedError
