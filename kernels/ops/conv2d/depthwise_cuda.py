"""Depthwise convolution on a GPU: every channel is a group of its own, a thread computes an element of the output.

    z[p, c]  = Σ_k x[p + k, c] W[k, c] + b[c]
    dz[p, c] = Σ_k dx[p + k, c] W[k, c] + x[p + k, c] V[k, c] + v[c]

The kernel's taps are few, so that a tangent's thread computes the primal again for its slope: it reads what others have
just read.
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import element, elements, elementwise, images, position
from fgnumba.kernels.cuda.primitives import Address, Real, Size, block_y, fma, load_f32, store_f32
from fgnumba.kernels.cuda.program import Operation
from fgnumba.kernels.layout.geometry import Geometry
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
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

    Cost: KH KW (2 + T) multiply-adds an element and tangent; reads x and its tangents once from memory.
    """
    height, width, _ = x.shape
    out_high, out_wide, channels = y.shape
    count = weights.count
    arguments = {
        **images(x=x, y=y),
        "weight": weights.weight,
        "bias": weights.bias,
        "v": address(weights.v),
        "v_bias": address(weights.v_bias),
        "stream": address(weights.stream),
        "n": elements(batch, y),
        "has_tangent": int(x.has_tangent and count > 0),
        "kind": weights.kind,
        "first": weights.first,
        "parameter": weights.parameter,
        "bias_parameter": weights.bias_parameter,
        "k_rows": weights.inputs,
        "panels": weights.panels,
        "height": height,
        "width": width,
        "channels": channels,
        "out_high": out_high,
        "out_wide": out_wide,
        "taps_wide": geometry.kernel_size[1],
        "stride_high": geometry.stride[0],
        "stride_wide": geometry.stride[1],
        "dilation_high": geometry.dilation[0],
        "dilation_wide": geometry.dilation[1],
        "top": geometry.padding.top,
        "left": geometry.padding.left,
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
    x: Address,
    x_block: Size,
    x_image: Size,
    x_row: Size,
    x_pixel: Size,
    y: Address,
    y_block: Size,
    y_image: Size,
    y_row: Size,
    y_pixel: Size,
    weight: Address,
    bias: Address,
    v: Address,
    v_bias: Address,
    stream: Address,
    n: Size,
    has_tangent: Size,
    kind: Size,
    first: Size,
    parameter: Size,
    bias_parameter: Size,
    k_rows: Size,
    panels: Size,
    height: Size,
    width: Size,
    channels: Size,
    out_high: Size,
    out_wide: Size,
    taps_wide: Size,
    stride_high: Size,
    stride_wide: Size,
    dilation_high: Size,
    dilation_wide: Size,
    top: Size,
    left: Size,
    alpha: Real,
) -> None:
    e = element()
    if e >= n:
        return
    # 0 is the primal, t tangent t.
    t = block_y()
    i, h, w, c = position(e, out_high, out_wide, channels)
    panel, lane = c >> 5, c & 31
    c2 = ((first + t - 1) << DIRECTION_SHIFT) + parameter
    right = np.float32(0)
    if t > 0 and kind == RANK1:
        right = sign_of_vector(stream, c, RIGHT, c2)
    z, dz = load_f32(bias + 4 * c), np.float32(0)
    row, first_column = h * stride_high - top, w * stride_wide - left
    column, tap = first_column, 0
    for k in range(k_rows):
        if 0 <= row < height and 0 <= column < width:
            at = x + 4 * (i * x_image + row * x_row + column * x_pixel + c)
            place = 4 * ((panel * k_rows + k) * 32 + lane)
            value, factor = load_f32(at), load_f32(weight + place)
            z = fma(value, factor, z)
            if t > 0:
                entry = np.float32(0)
                if kind == RANK1:
                    entry = sign_of_vector(stream, k, LEFT, c2) * right
                elif kind == RADEMACHER:
                    entry = signed_one(pick(sign_words(stream, k >> 2, panel, ENTRY, c2), k & 3), lane)
                elif kind == GAUSSIAN:
                    entry = gaussian(stream, k, panel, lane, ENTRY, c2)
                elif kind == EXPLICIT:
                    entry = load_f32(v + 4 * (t - 1) * panels * k_rows * 32 + place)
                dz = fma(value, entry, dz)
                if has_tangent:
                    dz = fma(load_f32(at + 4 * t * x_block), factor, dz)
        column, tap = column + dilation_wide, tap + 1
        if tap == taps_wide:
            row, column, tap = row + dilation_high, first_column, 0
    value, slope = leaky(z, np.float32(alpha))
    out = y + 4 * (i * y_image + h * y_row + w * y_pixel + c)
    if t == 0:
        store_f32(out, value)
        return
    if bias_parameter >= 0:
        bias_c2 = ((first + t - 1) << DIRECTION_SHIFT) + bias_parameter
        if kind == EXPLICIT:
            dz = dz + load_f32(v_bias + 4 * ((t - 1) * panels * 32 + c))
        elif kind == GAUSSIAN:
            dz = dz + gaussian_of_vector(stream, c, ENTRY, bias_c2)
        else:
            dz = dz + sign_of_vector(stream, c, ENTRY, bias_c2)
    store_f32(out + 4 * t * y_block, slope * dz)
