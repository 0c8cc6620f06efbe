"""The cotangent of a dense layer's input for few examples: dx = dz Wᵀ, one example at a time.

A panel of 32 examples would be mostly padding. Here, the rows of a register tile are rows of W, and its columns are the
lanes of a panel: dx[b, k] = Σ_lane Σ_q W[q, k, lane] dz[b, q, lane]. The inner sum stays in registers, and each product
costs one multiply-add. Factors are float32 in every precision: reading W takes longer than multiplying it.
"""

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import heights, parts_for, range_sizes, split, tile_count, tile_rows
from fgnumba.kernels.shared.product.register_tiles import SINGLE, TILE_KINDS, tile_table
from fgnumba.validation.launcher import launcher

EXAMPLES = 12
"""The most examples this is used for. For more, a panel of examples, half of it or all, costs less."""

_FEW = record(
    *("weight", "dz", "dx", "panels", "rows", "batch", "examples", "offsets", "tiles", "tallest", "at_dz"),
)


@launcher
def bind_input_gradient(
    isa: InstructionSet,
    threads: int,
    *,
    weight: npt.NDArray[np.float32],
    dz: npt.NDArray[np.float32],
    dx: npt.NDArray[np.float32],
    batch: int,
    features: int,
    multiply_adds: int,
) -> Operation:
    """Bind dx = dz Wᵀ.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    weight : array, (Q, K, PANEL) float32
        W, packed.
    dz : array, (Q, at least B, PANEL) float32
        dz in panels of features, with zeros in the padding.
    dx : array, (1, at least K, PANEL) float32
        Written: example panels, of which the first B columns are written.
    batch : int
        Number of examples B.
    features : int
        K.
    multiply_adds : int
        Number of multiply-adds, for plans and benchmarks.

    Notes
    -----
    Cost: B K N multiply-adds; reads W once, and a tile of its rows again from the first-level cache for each example.
    """
    parts = parts_for(multiply_adds, -(-features // isa.max_rows), threads)
    tile_heights = set().union(*(heights(n, isa.max_rows) for n in range_sizes(features, parts)))
    tiles = tile_table(isa, tile_heights, 1, True, None, channelwise=True)
    offsets = np.arange(weight.shape[0], dtype=np.int64) * weight.shape[1] * PANEL
    at_dz = isa.max_rows * PANEL * 4
    fields = {
        "weight": address(weight),
        "dz": address(dz),
        "dx": address(dx),
        "panels": weight.shape[0],
        "rows": features,
        "batch": batch,
        "examples": dz.shape[1],
        "offsets": address(offsets),
        "tiles": address(tiles),
        "tallest": isa.max_rows,
        "at_dz": at_dz,
    }
    return Operation(
        "input-gradient",
        # The sum over a panel's lanes may be reassociated, so that it is vectorised.
        kernel("reverse-few", _few, 3, fastmath={"contract", "nsz", "reassoc"}),
        filled(_FEW, fields),
        parts,
        scratch_bytes=at_dz + batch * weight.shape[0] * PANEL * 4,
        multiply_adds=multiply_adds,
        keeps=(weight, dz, dx, tiles, offsets),
    )


def _few(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _FEW), 1)[0]
    first, last = split(a.rows, parts, part)
    count = tile_count(last - first, a.tallest)
    addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
    sums = carray(pointer(a.scratch, np.float32), (a.tallest, PANEL))
    dz = carray(pointer(a.dz, np.float32), (a.panels, a.examples, PANEL))
    packed = carray(pointer(a.scratch + a.at_dz, np.float32), (a.batch, a.panels, PANEL))
    dx = carray(pointer(a.dx, np.float32), (a.rows, PANEL))
    for b in range(a.batch):
        for q in range(a.panels):
            for lane in range(PANEL):
                packed[b, q, lane] = dz[q, b, lane]
    row = first
    for tile in range(count):
        height = tile_rows(last - first, count, tile)
        entry = addresses[TILE_KINDS * height + SINGLE]
        for b in range(a.batch):
            w = a.scratch + a.at_dz + b * a.panels * PANEL * 4
            weight = a.weight + row * PANEL * 4
            call(entry, (a.panels, a.offsets, 1, weight, 0, PANEL, w, 0, 0, 0, a.scratch, 0))
            for i in range(height):
                total = np.float32(0)
                for lane in range(PANEL):
                    total += sums[i, lane]
                dx[row + i, b] = total
        row += height
