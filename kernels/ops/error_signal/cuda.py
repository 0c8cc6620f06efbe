"""Signals on a GPU: δ, the estimate of B ∂f/∂z that each pre-activation of a layer is told, times a scale; see ``cpu``.

δ_i = a'(z) ⊙ h_i + Σ_t r_it u_it                  the second term where a'(z) ≠ 0
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.kernel import Kernel, kernel
from fgnumba.kernels.cuda.layout import element, elementwise, images, offset
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Size,
    barrier,
    block_x,
    divide,
    load_f32,
    load_f64,
    load_i64,
    shared,
    shared_load_f32,
    shared_store_f32,
    store_f32,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.activations.rules import RULES, Rule
from fgnumba.kernels.rules.directions.cuda import pick, turned
from fgnumba.kernels.shared.perturbed_units import cuda as sites
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.validation.launcher import launcher

_ZERO, _ONE, _NO_SIGN = np.float32(0), np.float32(1), np.uint32(0)


@launcher
def bind(
    isa: object,
    threads: int,
    *,
    site: Perturbed,
    out: Any,
    scale: DeviceArray,
    known: DeviceArray | None = None,
    cells: npt.NDArray[np.int64] | None = None,
    noise: DeviceArray | None = None,
    bias: DeviceArray | None = None,
    onto: bool = False,
) -> Operation:
    """Bind the signal of one layer, as ``cpu.bind`` does; of the border, its own channels are filled with zeros.

    Parameters
    ----------
    cells : on the host; they go to the device when the operation is bound.

    Cost: reads y once a slot and h once, writes δ once a slot, and reads it again for a bias; a thread draws the signs
    of four elements and slot.
    """
    rows, channels = sites.rows_of(site), site.y.shape[2]
    if isinstance(out, Images):
        memory, at = out.memory, images(out=out)
        del at["out_block"]
        layout = {**at, "out_panel": PANEL, "out_rows": rows, "out_channels": channels}
    else:
        memory = out
        at = {"out": out, "out_image": PANEL, "out_row": 0, "out_pixel": 0, "out_panel": out.shape[1] * PANEL}
        layout = {**at, "out_rows": out.shape[1], "out_channels": site.panels * PANEL}
    placed = None if cells is None else sites.uploaded(cells, scale.driver)
    n = sites.quads(layout["out_rows"]) * layout["out_channels"]
    arguments = {
        **sites.perturbed(site),
        "slots": 0 if noise is None else site.slots,
        **layout,
        "n": n,
        "rows": rows,
        "scale": scale,
        "known": address(known),
        "known_row": 0 if known is None else known.shape[1],
        "cells": address(placed),
        "noise": address(noise),
        "noise_row": 0 if noise is None else noise.shape[1],
    }
    launches = [elementwise(_KERNELS[site.activation_name], n, arguments)]
    if isinstance(out, Images):
        launches += _clear(site.batch, out)
    if bias is not None:
        names = ("out", "out_image", "out_row", "out_pixel", "out_panel", "pixels", "width", "channels")
        sums = {name: arguments[name] for name in names} | {"rows": rows, "bias": bias, "onto": int(onto)}
        launches.append(Launch(_sum_rows, (site.panels, 1, 1), sums))
    keeps = (site.y.memory, site.stream, memory, scale, known, placed, noise, bias)
    return Operation("signal", tuple(launches), keeps=keeps)


def _kernel(name: str, rule: Rule) -> Kernel:
    @kernel(f"signal-{name}")
    def signal(
        y: Address,
        y_block: Size,
        y_image: Size,
        y_row: Size,
        y_pixel: Size,
        pixels: Size,
        width: Size,
        channels: Size,
        first_panel: Size,
        slot: Size,
        slots: Size,
        parameter: Size,
        stream: Address,
        out: Address,
        out_image: Size,
        out_row: Size,
        out_pixel: Size,
        out_panel: Size,
        out_rows: Size,
        out_channels: Size,
        n: Size,
        rows: Size,
        scale: Address,
        known: Address,
        known_row: Size,
        cells: Address,
        noise: Address,
        noise_row: Size,
    ) -> None:
        e = element()
        if e >= n:
            return
        quad, c = divide(e, out_channels)
        factor = np.float32(load_f64(scale))
        four = (_NO_SIGN, _NO_SIGN, _NO_SIGN, _NO_SIGN)
        # What the slots before have added up to stays in the output, as on the CPU: there mostly is but one.
        for t in range(max(1, slots)):
            if t < slots:
                four = sites.signs(stream, quad, c, first_panel, slot + t, parameter)
            for q in range(4 * quad, min(4 * quad + 4, out_rows)):
                i, p, h, w = sites.place(q, pixels, width)
                place = out + offset(i, h, w, (c >> 5) * out_panel + (c & 31), out_image, out_row, out_pixel)
                total = _ZERO
                if q < rows and c < channels:
                    slope = rule(load_f32(y + offset(i, h, w, c, y_image, y_row, y_pixel)))[1]
                    if t > 0:
                        total = load_f32(place)
                    elif known != 0:
                        cell = load_i64(cells + 8 * p) if cells != 0 else 0
                        total = factor * slope * load_f32(known + 4 * (i * known_row + cell * channels + c))
                    if t < slots and slope != _ZERO:
                        r = factor * load_f32(noise + 4 * ((slot + t) * noise_row + i))
                        total = total + turned(r, pick(four, q & 3), c & 31)
                store_f32(place, total)

    return signal


_KERNELS = {name: _kernel(name, rule) for name, rule in RULES.items()}


def _clear(batch: int, out: Images) -> list[Launch]:
    """Return the launch that fills the border below images and to their right with zeros; none without one."""
    height, width, channels = out.shape
    bottom, right = out.border.bottom, out.border.right
    n = batch * (height * right + bottom * (width + right)) * channels
    if n == 0:
        return []
    arguments = {
        **images(out=out),
        "n": n,
        "height": height,
        "width": width,
        "channels": channels,
        "bottom": bottom,
        "right": right,
    }
    del arguments["out_block"]
    return [elementwise(_border, n, arguments)]


@kernel("signal-border")
def _border(
    out: Address,
    out_image: Size,
    out_row: Size,
    out_pixel: Size,
    n: Size,
    height: Size,
    width: Size,
    channels: Size,
    bottom: Size,
    right: Size,
) -> None:
    e = element()
    if e >= n:
        return
    pixel, c = divide(e, channels)
    i, p = divide(pixel, height * right + bottom * (width + right))
    if p < height * right:
        h, w = divide(p, right)
        w += width
    else:
        h, w = divide(p - height * right, width + right)
        h += height
    store_f32(out + offset(i, h, w, c, out_image, out_row, out_pixel), _ZERO)


@kernel("signal-bias")
def _sum_rows(
    out: Address,
    out_image: Size,
    out_row: Size,
    out_pixel: Size,
    out_panel: Size,
    pixels: Size,
    width: Size,
    channels: Size,
    rows: Size,
    bias: Address,
    onto: Size,
) -> None:
    # A block sums a panel: eight threads a channel, then the eight sums in a fixed order.
    sums = shared(1024)
    lane, strip = thread() & 31, thread() >> 5
    c = 32 * block_x() + lane
    total = _ZERO
    if c < channels:
        for q in range(strip, rows, 8):
            i, _, h, w = sites.place(q, pixels, width)
            at = offset(i, h, w, block_x() * out_panel + lane, out_image, out_row, out_pixel)
            total = total + load_f32(out + at)
    shared_store_f32(sums + 4 * thread(), total)
    barrier()
    if strip == 0 and c < channels:
        for other in range(1, 8):
            total = total + shared_load_f32(sums + 4 * (32 * other + lane))
        if onto:
            total = total + load_f32(bias + 4 * c)
        store_f32(bias + 4 * c, total)
