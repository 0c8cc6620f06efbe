"""What both dense kernels draw before their products: u and x·u for rank-1 directions, and the bias's direction."""

from typing import Any

from numba.extending import register_jitable

from fgnumba.kernels.emit.vector import InstructionSet
from fgnumba.kernels.machine.work import heights, range_sizes
from fgnumba.kernels.rules.directions import RANK1
from fgnumba.kernels.shared.product import dots, product


def dot_heights(isa: InstructionSet, batch: int, row_parts: int) -> set[int]:
    """Return the heights of the tiles that compute x·u of the examples of each row part."""
    return set().union(*(heights(size, isa.max_rows) for size in range_sizes(batch, row_parts)))


@register_jitable
def draw(a: Any, i: int, rows: int) -> None:
    """Draw every direction's vectors, and write x·u of examples i to i + rows."""
    if a.kind == RANK1:
        x = a.x + i * a.x_image * 4
        for block in range(dots.blocks(a)):
            u = dots.draw(a, block, product.draw_vector)
            dots.write(a, block, u, rows, 1, a.offsets, a.inputs, x, a.x_image, 0)
    for t in range(a.count):
        product.draw_right_and_shift(a, t)
