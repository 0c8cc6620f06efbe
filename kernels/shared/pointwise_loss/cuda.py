"""Losses that are a mean over outputs of a rule of one output and its target, on a GPU; see ``cpu``.

f_i  = mean_n φ(z_in, y_in)
d_ti = mean_n φ'(z_in, y_in) dz_tin
"""

import numpy as np

from fgnumba.kernels.cuda.kernel import Kernel, kernel
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    block_y,
    load_f32,
    load_f64,
    store_f32,
    store_f64,
    thread,
)
from fgnumba.kernels.cuda.sums import warp_sum_f64
from fgnumba.kernels.rules.losses import Rule
from fgnumba.kernels.shared.loss.cuda import (
    TANGENTS,
    example,
    store_tangents,
    tangents_at,
)

_ZERO, _ONE = np.float64(0), np.float64(1)


def rows_kernel(name: str, rule: Rule) -> Kernel:
    """Return the kernel in which a warp reduces an example to its loss and four of its tangents.

    Parameters
    ----------
    name : str
        Unique name of the kernel.
    rule : callable
        The rule φ, one of ``kernels.rules.losses``.
    """

    @kernel(name)
    def rows(
        z: Address,
        block: Size,
        ld: Size,
        batch: Size,
        width: Size,
        count: Size,
        targets: Address,
        stride: Size,
        constants: Address,
        rows: Address,
    ) -> None:
        i, lane, t = example(), thread() % WARP, TANGENTS * block_y()
        if i >= batch:
            return
        left, at, y, out = count - t, z + 4 * i * ld, targets + 4 * i * stride, rows + 8 * i
        dz = at + 4 * (t + 1) * block
        constant = load_f64(constants) if constants != 0 else _ZERO
        total, first, second, third, fourth = _ZERO, _ZERO, _ZERO, _ZERO, _ZERO
        for n in range(lane, width, WARP):
            value, slope = rule(load_f32(at + 4 * n), load_f32(y + 4 * n), constant)
            d = tangents_at(dz + 4 * n, block, left)
            total = total + value
            first, second = first + slope * np.float64(d[0]), second + slope * np.float64(d[1])
            third, fourth = third + slope * np.float64(d[2]), fourth + slope * np.float64(d[3])
        total = warp_sum_f64(total)
        first, second = warp_sum_f64(first), warp_sum_f64(second)
        third, fourth = warp_sum_f64(third), warp_sum_f64(fourth)
        if lane == 0:
            scale = _ONE / np.float64(width)
            if t == 0:
                store_f64(out, total * scale)
            derivatives = (scale * first, scale * second, scale * third, scale * fourth)
            store_tangents(out + 8 * (t + 1) * batch, batch, left, derivatives)

    return rows


def residual_kernel(name: str, rule: Rule) -> Kernel:
    """Return the kernel in which a warp writes the mean's derivative in each output; of a slope, the second one.

    Parameters
    ----------
    name : str
        Unique name of the kernel.
    rule : callable
        The rule φ, one of ``kernels.rules.losses``.
    """

    @kernel(name)
    def residuals(
        z: Address,
        ld: Size,
        batch: Size,
        width: Size,
        targets: Address,
        stride: Size,
        weights: Address,
        constants: Address,
        residual: Address,
    ) -> None:
        i = example()
        if i >= batch:
            return
        constant = load_f64(constants) if constants != 0 else _ZERO
        factor = _ONE / np.float64(width)
        if weights != 0:
            factor = factor * np.float64(load_f32(weights + 4 * i * stride))
        for n in range(thread() % WARP, width, WARP):
            slope = rule(load_f32(z + 4 * (i * ld + n)), load_f32(targets + 4 * (i * stride + n)), constant)[
                1
            ]
            store_f32(residual + 4 * (i * width + n), np.float32(factor * slope))

    return residuals
