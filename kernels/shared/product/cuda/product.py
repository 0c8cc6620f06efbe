"""The product of dense layers and convolutions on a GPU: primal and tangent in one pass.

    z[m, n]  = Σ_k X[m, k] W[k, n] + b[n]                       y  = a(z)
    dz[m, n] = Σ_k dX[m, k] W[k, n] + X[m, k] V[k, n] + c[n]    dy = a'(z) dz

Row m is an output pixel of an example, and column k of X an element of the input pixels under the taps of the
convolution's kernel, read where it lies in the image: the matrix of patches exists in no memory. A dense layer is a
convolution of an image of one pixel. a is (leaky) relu or the identity: a(z) = z for z > 0, else alpha z. Any other
activation is an operation after the product.

A block of 256 threads computes a tile, in steps along K. Each step has a stage of shared memory, and passes through
device functions: ``load`` copies the step's tiles of X, dX and W, one or two steps ahead, and draws V where it is not
given; ``multiply`` adds the products to the threads' sums. ``finish`` applies bias and activation at the end. Rank-1
directions need no V: X V = (X u) wᵀ, and ``dot`` sums X u from the tile of X, a few elements a thread.

What the loop over K counts has 32 bits, which takes half the instructions of 64. Kernels differ in the products that
they sum (``Sums``), in precision and tile, and in whether they load X 16 bytes at once.
Source: arXiv 2202.08587, section 3; rank-1 signs have E[v vᵀ] = I.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel
from fgnumba.kernels.cuda.layout import DualImages
from fgnumba.kernels.cuda.primitives import (
    Address,
    Real,
    Size,
    barrier,
    block_x,
    block_z,
    commit_copies,
    divide,
    narrow,
    shared,
    wait_copies,
    zeros,
)
from fgnumba.kernels.rules.directions import RANK1
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT
from fgnumba.kernels.shared.product.cuda.block_tile import LARGE, SMALL, TENSOR, THREADS, Plan, Sums, Tile
from fgnumba.kernels.shared.product.cuda.finish import finishing
from fgnumba.kernels.shared.product.cuda.load import Block, loading
from fgnumba.kernels.shared.product.cuda.multiply import dotting, multiplying, multiplying_on_tensor_cores
from fgnumba.kernels.shared.product.cuda.operands import Directions, PackedWeights
from fgnumba.kernels.shared.product.cuda.pixels import Taps

__all__ = ["KERNELS", "LARGE", "SMALL", "TENSOR", "Sums", "Tile"]

_RESIDENT = {
    ("large", Sums(primal=False, tangent=False, entries=True)): 2,
    ("large", Sums(primal=False, tangent=True, entries=True)): 2,
    ("small", Sums(primal=True, tangent=True, entries=False)): 2,
}
"""Blocks that a processor is to hold at once, where the assembler takes a few registers too many unless it is told."""


def _tile_kernel(tile: Tile, precision: str, sums: Sums, wide: bool) -> Kernel:
    """Return the kernel of a combination.

    Parameters
    ----------
    tile : Tile
        What a block computes.
    precision : str
        Precision of the products: ``float32``, ``tf32`` or ``bf16``.
    sums : Sums
        What is summed.
    wide : bool
        Whether X is loaded 16 bytes at a time: its channels are a multiple of 4, or there is one tap.

    Returns
    -------
    Kernel
        The kernel, listed.
    """
    plan = Plan(tile, precision, sums, wide)
    rows, columns, depth, stages = tile.rows, tile.columns, tile.depth, tile.stages
    stage_bytes, shared_bytes, sums_of_thread = plan.stage_bytes, plan.shared_bytes, 4 * plan.high
    under_way, ahead, last_stage = stages - 2, (stages - 1) * depth, (stages - 1) * stage_bytes
    begin, load = loading(plan)
    dot = dotting(plan)
    own, multiply, store = multiplying(plan) if plan.exact else multiplying_on_tensor_cores(plan)
    finish = finishing(plan, store)

    def product(
        x: DualImages,
        dx: Address,
        y: DualImages,
        dy: Address,
        weights: PackedWeights,
        directions: Directions,
        taps: Taps,
        v_block: Size,
        v_bias_block: Size,
        first: Size,
        has_dy: Size,
        m_rows: Size,
        outputs: Size,
        column_blocks: Size,
        group_tiles: Size,
        channels: Size,
        wide_stores: Size,
        alpha: Real,
    ) -> None:
        at, slot = shared(shared_bytes), block_z()
        row_tile, column_block = divide(block_x(), column_blocks)
        group, column_tile = divide(column_block, group_tiles)
        c2 = ((first + slot) << DIRECTION_SHIFT) + directions.parameter
        block = Block(row_tile * rows, column_tile * columns, group, slot, c2)
        v = directions.v + 4 * slot * v_block
        fixed, moving = begin(x, dx + 4 * slot * x.block, weights, v, taps, block, channels)
        mine, total, d_total = own(), zeros(sums_of_thread), zeros(sums_of_thread)
        dots, left_words = np.float32(0), (np.uint32(0), np.uint32(0), np.uint32(0), np.uint32(0))
        load_stage, read_stage = narrow(0), narrow(0)
        k0 = narrow(-ahead)
        while k0 < weights.rows:
            if k0 >= 0:
                # After this, the step's tiles are there, and those of the step before have been read by all.
                wait_copies(under_way)
                barrier()
            if k0 < narrow(weights.rows - ahead):
                stage = at + load_stage
                moving = load(x, directions, taps, m_rows, channels, block, fixed, moving, stage)
            commit_copies()
            load_stage = narrow(load_stage + stage_bytes if load_stage < last_stage else 0)
            if k0 >= 0:
                stage = at + read_stage
                read_stage = narrow(read_stage + stage_bytes if read_stage < last_stage else 0)
                if directions.kind == RANK1:
                    left_words, dots = dot(directions.stream, c2, k0, left_words, dots, stage)
                total, d_total = multiply(mine, total, d_total, stage)
            k0 = narrow(k0 + depth)
        # No copies are under way: the last steps began none.
        barrier()
        finish(
            y,
            dy,
            weights,
            directions,
            taps,
            v_bias_block,
            first,
            has_dy,
            m_rows,
            outputs,
            wide_stores,
            np.float32(alpha),
            block,
            mine,
            total,
            d_total,
            dots,
            at,
        )

    size, loader = tile.name, "wide" if wide else "single"
    names = [name for name, summed in zip(("primal", "tangent", "entries"), sums, strict=True) if summed]
    opcode = ("FFMA.FTZ",) if plan.exact else ("HMMA",)
    return Kernel(
        f"product-{size}-{precision}-{'-'.join(names) or 'dots'}-{loader}",
        product,
        THREADS,
        _RESIDENT.get((tile.name, sums), 1),
        opcodes=("LDGSTS", *opcode) if names else ("LDGSTS",),
    )


_DUAL = [Sums(p, t, e) for p in (True, False) for t in (False, True) for e in (False, True)]

KERNELS = {
    (precision, tile.name, sums, wide): _tile_kernel(tile, precision, sums, wide)
    for precision, tile, wide in (
        ("float32", LARGE, True),
        ("float32", SMALL, True),
        ("float32", SMALL, False),
        ("tf32", TENSOR["tf32"], True),
        ("bf16", TENSOR["bf16"], True),
    )
    for sums in _DUAL
    # A kernel that sums no products is the same in every precision.
    if any(sums) or precision == "float32"
}
"""Kernels by precision, name of the tile, sums, and whether X is loaded 16 bytes at once."""
