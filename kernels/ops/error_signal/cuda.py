"""Error signals on a GPU: δ, the estimate of B ∂f/∂z for each pre-activation of a layer, times a scale; see ``cpu``.

δ_i = a'(z) ⊙ h_i + Σ_t r_it u_it                  the second term where a'(z) ≠ 0
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.kernel import Kernel, kernel
from fgnumba.kernels.cuda.layout import BlockImages, element, elementwise, images, place
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
from fgnumba.kernels.rules.activations.cuda import Members
from fgnumba.kernels.rules.activations.rules import Rule
from fgnumba.kernels.rules.directions.cuda import pick, turned
from fgnumba.kernels.shared.perturbed_units import cuda as sites
from fgnumba.kernels.shared.perturbed_units.cpu import Perturbed
from fgnumba.kernels.shared.perturbed_units.cuda import Units
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
    """Bind the error signal of one layer, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    site : Perturbed
        The layer's units, and their noise, which counts where `noise` is given.
    out : Images or DeviceArray
        δ, written: images like y, whose border (below and to the right) is filled with zeros in their own channels; or
        panels of features (ceil(N / 32), B rounded up, 32), whose padding is filled with zeros.
    scale : DeviceArray
        (1,) float64, a factor of δ.
    known : DeviceArray or None
        (B, at least A N) float32, h: row i, column cell N + n. None: there is no such term.
    cells : ndarray or None
        (H W,) int64 on the host, the cell of each pixel; they are copied to the GPU when the operation is bound. None:
        there is one cell.
    noise : DeviceArray or None
        (slots of the pass, B) float32, r. None: there is no such term.
    bias : DeviceArray or None
        Σ_i δ_i, written, of panels of features.
    onto : bool
        Whether the sum is added to what `bias` holds.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads y once a slot and h once, writes δ once a slot, and reads it again for a bias. A thread draws the signs
    of four elements and a slot.
    """
    rows, channels = sites.rows_of(site), site.y.shape[2]
    if isinstance(out, Images):
        memory, at = out.memory, images(BlockImages, out)
        layout = {"out": at, "out_panel": PANEL, "out_rows": rows, "out_channels": channels}
    else:
        memory, at = out, BlockImages(address(out), image=PANEL, row=0, pixel=0)
        layout = {
            "out": at,
            "out_panel": out.shape[1] * PANEL,
            "out_rows": out.shape[1],
            "out_channels": site.panels * PANEL,
        }
    placed = None if cells is None else sites.uploaded(cells, scale.driver)
    n = sites.quads(layout["out_rows"]) * layout["out_channels"]
    units = sites.perturbed(site)._replace(slots=0 if noise is None else site.slots)
    arguments = {
        "units": units,
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
        sums = {
            "out": at,
            "out_panel": layout["out_panel"],
            "pixels": units.pixels,
            "width": units.width,
            "channels": units.channels,
            "rows": rows,
            "bias": bias,
            "onto": int(onto),
        }
        launches.append(Launch(_sum_rows, (site.panels, 1, 1), sums))
    keeps = (site.y.memory, site.stream, memory, scale, known, placed, noise, bias)
    return Operation("signal", tuple(launches), keeps=keeps)


def _kernel(name: str, rule: Rule) -> Kernel:
    @kernel(f"signal-{name}", family="signal-{activation}")
    def signal(
        units: Units,
        out: BlockImages,
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
        # The sum over earlier slots is read from the output again, as on the CPU: mostly there is one slot.
        for t in range(max(1, units.slots)):
            if t < units.slots:
                four = sites.signs(units, quad, c, units.slot + t)
            for q in range(4 * quad, min(4 * quad + 4, out_rows)):
                i, p, h, w = sites.row_place(q, units.pixels, units.width)
                at = place(out, i, h, w, (c >> 5) * out_panel + (c & 31))
                total = _ZERO
                if q < rows and c < units.channels:
                    slope = rule(load_f32(place(units.y, i, h, w, c)))[1]
                    if t > 0:
                        total = load_f32(at)
                    elif known != 0:
                        cell = load_i64(cells + 8 * p) if cells != 0 else 0
                        total = (
                            factor * slope * load_f32(known + 4 * (i * known_row + cell * units.channels + c))
                        )
                    if t < units.slots and slope != _ZERO:
                        r = factor * load_f32(noise + 4 * ((units.slot + t) * noise_row + i))
                        total = total + turned(r, pick(four, q & 3), c & 31)
                store_f32(at, total)

    return signal


_KERNELS = Members(_kernel)


def _clear(batch: int, out: Images) -> list[Launch]:
    """Return the launch that fills the border below images and to their right with zeros, if there is a border."""
    height, width, channels = out.shape
    bottom, right = out.border.bottom, out.border.right
    n = batch * (height * right + bottom * (width + right)) * channels
    if n == 0:
        return []
    arguments = {
        "out": images(BlockImages, out),
        "n": n,
        "height": height,
        "width": width,
        "channels": channels,
        "bottom": bottom,
        "right": right,
    }
    return [elementwise(_border, n, arguments)]


@kernel("signal-border")
def _border(
    out: BlockImages,
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
    store_f32(place(out, i, h, w, c), _ZERO)


@kernel("signal-bias")
def _sum_rows(
    out: BlockImages,
    out_panel: Size,
    pixels: Size,
    width: Size,
    channels: Size,
    rows: Size,
    bias: Address,
    onto: Size,
) -> None:
    # A block sums a panel: eight threads sum a channel, then one adds up their sums in a fixed order.
    sums = shared(1024)
    lane, strip = thread() & 31, thread() >> 5
    c = 32 * block_x() + lane
    total = _ZERO
    if c < channels:
        for q in range(strip, rows, 8):
            i, _, h, w = sites.row_place(q, pixels, width)
            total = total + load_f32(place(out, i, h, w, block_x() * out_panel + lane))
    shared_store_f32(sums + 4 * thread(), total)
    barrier()
    if strip == 0 and c < channels:
        for other in range(1, 8):
            total = total + shared_load_f32(sums + 4 * (32 * other + lane))
        if onto:
            total = total + load_f32(bias + 4 * c)
        store_f32(bias + 4 * c, total)
