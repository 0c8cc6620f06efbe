"""Depthwise convolution on a GPU: every channel is a group of its own, and a thread computes an element of the output.

    z[p, c]  = Σ_k x[p + k, c] W[k, c] + b[c]
    dz[p, c] = Σ_k dx[p + k, c] W[k, c] + x[p + k, c] V[k, c] + v[c]

The kernel has few taps. So the thread of a tangent computes the primal again, whose slope it needs: what it reads for
that is in caches, for other threads have just read it.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import DualImages, element, elements, elementwise, images, place, position
from fgnumba.kernels.cuda.primitives import Real, Size, block_y, fma, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.ops.elementwise import cuda as elementwise_operation
from fgnumba.kernels.rules.activations.cuda import ALPHA, leaky
from fgnumba.kernels.rules.directions import EXPLICIT, GAUSSIAN, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions.cuda import (
    gaussian,
    gaussian_of_vector,
    pick,
    sign_of_vector,
    sign_words,
    signed_one,
)
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, ENTRY, LEFT, RIGHT
from fgnumba.kernels.shared.product.cuda.operands import Directions, PackedWeights, packed_weights
from fgnumba.kernels.shared.product.cuda.operands import directions as directions_of
from fgnumba.kernels.shared.product.cuda.pixels import Taps, taps_of, within
from fgnumba.kernels.shared.product.product import Weights


def bind(
    *,
    batch: int,
    x: Images,
    y: Images,
    geometry: Geometry,
    weights: Weights,
    activation_name: str,
) -> Operation:
    """Bind the convolution to its arrays.

    Parameters
    ----------
    batch : int
        Number of examples B.
    x : Images
        Input.
    y : Images
        Output, written.
    geometry : Geometry
        Size of the kernel, and how it moves.
    weights : Weights
        W and b, and the directions along which they move.
    activation_name : str
        Name of the activation a.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: KH KW (2 + T) multiply-adds an element and tangent; reads x and its tangents once from memory.
    """
    count = weights.count
    arguments = {
        "x": images(DualImages, x),
        "y": images(DualImages, y),
        "weights": packed_weights(weights, 1),
        "directions": directions_of(weights, weights.kind, 0),
        "taps": taps_of(geometry, x, y),
        "n": elements(batch, y),
        "channels": y.shape[2],
        "has_tangent": int(x.has_tangent and count > 0),
        "first": weights.first,
        "alpha": ALPHA.get(activation_name, 1.0),
    }
    launches = [elementwise(_depthwise, elements(batch, y), arguments, across=1 + count)]
    if activation_name not in ALPHA:
        applied = elementwise_operation.bind(
            batch=batch, images_a_part=0, count=count, x=y, y=y, activation_name=activation_name
        )
        launches += applied.launches
    products = 1 + count * (int(x.has_tangent) + (weights.kind > 0))
    return Operation(
        "conv2d",
        tuple(launches),
        multiply_adds=products * elements(batch, y) * weights.inputs,
        keeps=(x.memory, y.memory, weights),
    )


@kernel("conv2d-depthwise")
def _depthwise(
    x: DualImages,
    y: DualImages,
    weights: PackedWeights,
    directions: Directions,
    taps: Taps,
    n: Size,
    channels: Size,
    has_tangent: Size,
    first: Size,
    alpha: Real,
) -> None:
    e = element()
    if e >= n:
        return
    # 0 is the primal, t tangent t.
    t = block_y()
    i, h, w, c = position(e, taps.out_high, taps.out_wide, channels)
    panel, lane = c >> 5, c & 31
    c2 = ((first + t - 1) << DIRECTION_SHIFT) + directions.parameter
    right = np.float32(0)
    if t > 0 and directions.kind == RANK1:
        right = sign_of_vector(directions.stream, c, RIGHT, c2)
    z, dz = load_f32(weights.bias + 4 * c), np.float32(0)
    row, first_column = h * taps.stride_high - taps.top, w * taps.stride_wide - taps.left
    column, tap = first_column, 0
    for k in range(weights.rows):
        if within(row, column, taps):
            at = place(x, i, row, column, c)
            in_weight = 4 * ((panel * weights.rows + k) * 32 + lane)
            value, factor = load_f32(at), load_f32(weights.weight + in_weight)
            z = fma(value, factor, z)
            if t > 0:
                entry = np.float32(0)
                if directions.kind == RANK1:
                    entry = sign_of_vector(directions.stream, k, LEFT, c2) * right
                elif directions.kind == RADEMACHER:
                    entry = signed_one(
                        pick(sign_words(directions.stream, k >> 2, panel, ENTRY, c2), k & 3), lane
                    )
                elif directions.kind == GAUSSIAN:
                    entry = gaussian(directions.stream, k, panel, lane, ENTRY, c2)
                elif directions.kind == EXPLICIT:
                    entry = load_f32(
                        directions.v + 4 * (t - 1) * weights.panels * weights.rows * 32 + in_weight
                    )
                dz = fma(value, entry, dz)
                if has_tangent:
                    dz = fma(load_f32(at + 4 * t * x.block), factor, dz)
        column, tap = column + taps.dilation_wide, tap + 1
        if tap == taps.across:
            row, column, tap = row + taps.dilation_high, first_column, 0
    value, slope = leaky(z, np.float32(alpha))
    out = place(y, i, h, w, c)
    if t == 0:
        store_f32(out, value)
        return
    if directions.bias_parameter >= 0:
        bias_c2 = ((first + t - 1) << DIRECTION_SHIFT) + directions.bias_parameter
        if directions.kind == EXPLICIT:
            dz = dz + load_f32(directions.v_bias + 4 * ((t - 1) * weights.panels * 32 + c))
        elif directions.kind == GAUSSIAN:
            dz = dz + gaussian_of_vector(directions.stream, c, ENTRY, bias_c2)
        else:
            dz = dz + sign_of_vector(directions.stream, c, ENTRY, bias_c2)
    store_f32(out + 4 * t * y.block, slope * dz)
