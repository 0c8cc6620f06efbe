"""How a block finishes its sums: biases, rank-1 directions and activations, then the outputs and their tangents.

Sums go through shared memory, so that neighbouring threads write neighbouring columns of a row.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.layout import DualImages
from fgnumba.kernels.cuda.primitives import (
    Floats,
    barrier,
    divide,
    load_f32x4,
    shared_store_f32,
    thread,
    zeros,
)
from fgnumba.kernels.rules.directions import RANK1
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, RIGHT
from fgnumba.kernels.shared.product.cuda import epilogue
from fgnumba.kernels.shared.product.cuda.block_tile import THREADS, Plan
from fgnumba.kernels.shared.product.cuda.load import Block
from fgnumba.kernels.shared.product.cuda.operands import Directions, PackedWeights
from fgnumba.kernels.shared.product.cuda.pixels import Taps


def finishing(plan: Plan, store: Callable[..., Any]) -> Callable[..., Any]:
    """Return the device function that finishes the sums of a kernel.

    Parameters
    ----------
    plan : Plan
        The kernel's numbers.
    store : callable
        Writes a thread's sums to shared memory, see ``multiply``.

    Returns
    -------
    callable
        Takes the operands, the block, the thread's sums and the address of shared memory; returns nothing.
    """
    primal, teams, columns, quads = plan.sums.primal, plan.tile.teams, plan.tile.columns, plan.quads
    any_tangent, parts, at_dz, at_dots = plan.any_tangent, plan.parts, plan.at_dz, plan.at_dots
    halves, half_rows = plan.halves, plan.half_rows
    visits = half_rows * quads // THREADS

    @device_function
    def vectors(
        weights: PackedWeights,
        directions: Directions,
        v_bias_block: int,
        first: int,
        has_dy: int,
        block: Block,
        n: int,
    ) -> tuple[Floats, Floats, Floats]:
        """Return four columns' biases, entries of w, and tangents of biases."""
        at_n = block.group * weights.panels * 32 + n
        rights, shifts = zeros(4), zeros(4)
        if has_dy and directions.kind == RANK1:
            rights = epilogue.four_signs_of_vector(directions.stream, at_n, RIGHT, block.c2)
        if has_dy and directions.bias_parameter >= 0:
            bias_c2 = ((first + block.slot) << DIRECTION_SHIFT) + directions.bias_parameter
            shifts = epilogue.four_of_bias(directions, block.slot * v_bias_block + at_n, at_n, bias_c2)
        return load_f32x4(weights.bias + 4 * at_n), rights, shifts

    @device_function
    def finish(
        y: DualImages,
        dy: int,
        weights: PackedWeights,
        directions: Directions,
        taps: Taps,
        v_bias_block: int,
        first: int,
        has_dy: int,
        m_rows: int,
        outputs: int,
        wide_stores: int,
        alpha: np.float32,
        block: Block,
        own: Any,
        total: Floats,
        d_total: Floats,
        dot: np.float32,
        at: int,
    ) -> None:
        """Finish the sums of a tile, and write outputs and tangents."""
        t = thread()
        n = block.column + 4 * (t % quads)
        biases, rights, shifts = zeros(4), zeros(4), zeros(4)
        if n < outputs:
            biases, rights, shifts = vectors(weights, directions, v_bias_block, first, has_dy, block, n)
        shared_store_f32(at + at_dots + 4 * t, dot)
        for half in range(halves):
            store(own, total, d_total, half, at)
            barrier()
            for visit in range(visits):
                row = (t + visit * THREADS) // quads
                m = block.row + half * half_rows + row
                if m < m_rows and n < outputs:
                    i, pixel = divide(m, taps.out_high * taps.out_wide)
                    h, w = divide(pixel, taps.out_wide)
                    to = 4 * (i * y.image + h * y.row + w * y.pixel + block.group * outputs + n)
                    count = min(4, outputs - n)
                    place = at + 4 * (row * columns + 4 * (t % quads))
                    slopes = zeros(4)
                    if primal:
                        z = epilogue.plus(epilogue.summed(place, 4 * half_rows * columns, teams), biases)
                        value, slopes = epilogue.activated(z, alpha)
                        epilogue.write(y.address + to, value, count, wide_stores)
                    if has_dy:
                        if not primal:
                            slopes = epilogue.activated(epilogue.read(y.address + to, count), alpha)[1]
                        dots = np.float32(0)
                        if directions.kind == RANK1:
                            place_dots = at + at_dots + 4 * (half * half_rows + row) * parts
                            dots = epilogue.added(place_dots, parts)
                        dz = epilogue.scaled(dots, rights, shifts)
                        if any_tangent:
                            dz = epilogue.plus(
                                epilogue.summed(place + at_dz, 4 * half_rows * columns, teams), dz
                            )
                        epilogue.write(
                            dy + 4 * block.slot * y.block + to,
                            epilogue.times(slopes, dz),
                            count,
                            wide_stores,
                        )
            barrier()

    return finish
