"""What a block of threads computes of a matrix product, and what it sums.

A thread's sums are in registers, so that a tile's size is what registers and shared memory have room for.
"""

from dataclasses import dataclass
from typing import NamedTuple

THREADS = 256
"""Of a block."""


class Sums(NamedTuple):
    """What a kernel sums: X W, dX W, X V. Without any of them it is rank-1 directions at a first layer."""

    primal: bool
    tangent: bool
    entries: bool


@dataclass(frozen=True)
class Tile:
    """How a block computes.

    Parameters
    ----------
    rows, columns, depth : of the tile, and of a step along K.
    teams : of threads, which share the depth of a step and add their sums up at the end.
    stages : steps in shared memory.
    padding : floats between rows of W in shared memory, beside its columns.
    """

    name: str
    rows: int
    columns: int
    depth: int
    teams: int
    stages: int
    padding: int = 0

    @property
    def width(self) -> int:
        """Bytes from one row of W to the next."""
        return 4 * (self.columns + self.padding)


LARGE = Tile("large", 128, 64, 16, 1, 2)
"""8 x 4 sums a thread and product: as many fused multiply-adds a load from shared memory as registers allow."""

SMALL = Tile("small", 32, 32, 32, 4, 3)
"""4 x 4 sums a thread, four teams: enough blocks for a whole GPU from small layers."""

TENSOR = {"tf32": Tile("tensor", 64, 64, 16, 1, 2, 8), "bf16": Tile("tensor", 64, 64, 16, 1, 2, 4)}
"""Tensor cores: a warp computes 32 x 16. Rows of W are so far apart that a warp reads from different banks."""
