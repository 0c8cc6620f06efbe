"""How a block of threads computes a matrix product: its tile, what it sums, and where things lie in shared memory.

A thread's sums are in registers, so that a tile's size is what registers and shared memory have room for.
"""

from dataclasses import dataclass
from typing import NamedTuple

THREADS = 256
"""Number of threads in a block."""


class Sums(NamedTuple):
    """The products that a kernel sums. Without any of them, it computes rank-1 directions at a first layer.

    Parameters
    ----------
    primal : bool
        X W.
    tangent : bool
        dX W.
    entries : bool
        X V, for directions V that are not of rank 1.
    """

    primal: bool
    tangent: bool
    entries: bool


@dataclass(frozen=True)
class Tile:
    """The part of a product that a block computes, and how its threads share the work.

    Parameters
    ----------
    name : str
        Name of the tile, part of a kernel's name.
    rows : int
        Rows of X, which are rows of the result.
    columns : int
        Columns of W, which are columns of the result.
    depth : int
        Rows of W that are multiplied between two barriers: a step along K.
    teams : int
        Number of teams of threads. Teams share the depth of a step and add their sums up at the end.
    stages : int
        Number of steps that shared memory has room for.
    padding : int
        Floats of shared memory between two rows of W, beside its columns.
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
        """Bytes from one row of W to the next in shared memory."""
        return 4 * (self.columns + self.padding)


LARGE = Tile("large", 128, 64, 16, 1, 2)
"""8 x 4 sums a thread and product: as many fused multiply-adds a load from shared memory as registers allow."""

SMALL = Tile("small", 32, 32, 32, 4, 3)
"""4 x 4 sums a thread, four teams: enough blocks for a whole GPU from small layers."""

TENSOR = {"tf32": Tile("tensor", 64, 64, 16, 1, 2, 8), "bf16": Tile("tensor", 64, 64, 16, 1, 2, 4)}
"""Tensor cores: a warp computes 32 x 16. Rows of W are so far apart that a warp reads from different banks."""


class Plan:
    """The numbers that a kernel's machine code is made from; all of them are known when it is compiled.

    Places are bytes from the beginning of a stage while tiles are loaded and multiplied, and bytes from the beginning
    of shared memory when the sums are finished.

    Parameters
    ----------
    tile : Tile
        The block's tile.
    precision : str
        ``float32``, or ``tf32`` or ``bf16`` on tensor cores.
    sums : Sums
        The products that are summed.
    wide : bool
        Whether X is loaded 16 bytes at a time: its channels are a multiple of 4, or the kernel has one tap.

    Attributes
    ----------
    any_tangent : bool
        Whether tangents are summed.
    chunks, quads : int
        Chunks of 16 bytes in a row of X's tile, and in a row of W's.
    at_dx, at_w, at_v : int
        Places of dX, W and V in a stage.
    w_bytes, stage_bytes : int
        Bytes of W's tile, and of a stage.
    high : int
        Rows of the result that a thread sums, four columns of each.
    swizzled_rows : int
        Rows of X that have one swizzle: those that a thread, or a pair of lanes, reads at once.
    parts : int
        Number of threads that share the product x · u of a row.
    halves, half_rows : int
        Number of turns in which the sums are finished, and the rows of each.
    at_dz, at_dots : int
        Places of the tangents' sums, and of the products x · u, when the sums are finished.
    shared_bytes : int
        Bytes of shared memory.
    """

    def __init__(self, tile: Tile, precision: str, sums: Sums, wide: bool) -> None:
        assert tile.depth * tile.columns // 4 == THREADS
        self.tile, self.precision, self.sums, self.wide = tile, precision, sums, wide
        self.exact = precision == "float32"
        self.any_tangent = sums.tangent or sums.entries
        self.chunks, self.quads = tile.depth // 4, tile.columns // 4
        x_bytes, self.w_bytes = 4 * tile.rows * tile.depth, tile.depth * tile.width
        self.at_dx = x_bytes
        self.at_w = self.at_dx + x_bytes * sums.tangent
        self.at_v = self.at_w + self.w_bytes
        self.stage_bytes = self.at_v + self.w_bytes * sums.entries
        self.high = tile.rows // 16 if tile.teams == 1 else 4
        self.swizzled_rows = self.high if self.exact else 2
        self.parts = THREADS // tile.rows
        self.halves = 2 if tile.teams == 1 and tile.rows == 128 else 1
        self.half_rows = tile.rows // self.halves
        sums_bytes = 4 * tile.teams * self.half_rows * tile.columns
        self.at_dz = sums_bytes * sums.primal
        self.at_dots = self.at_dz + sums_bytes * self.any_tangent
        self.shared_bytes = max(tile.stages * self.stage_bytes, self.at_dots + 4 * tile.rows * self.parts)
