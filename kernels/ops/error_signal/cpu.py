"""Error signals on the CPU: δ, the estimate of ∂f/∂z for every unit of a layer, times the batch size and a scale.

    δ_i = a'(z) ⊙ h_i + Σ_t r_it u_it                  the second term only where a'(z) ≠ 0

h is what is known of the gradient with respect to the layer's output: the loss's own gradient e for the units that the
loss reads, or e Bᵀ with a feedback matrix B, or nothing. r_it is what noise t says of the rest
(``kernels.ops.noise_response``), and u_it are its signs, which are drawn again.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for
from fgnumba.kernels.rules.activations.rules import rule_of
from fgnumba.kernels.shared.perturbed_units import cpu as sites
from fgnumba.validation.launcher import launcher

_ARGUMENTS = record(
    *sites.FIELDS,
    *images.fields("out"),
    *("out_panel", "examples", "bottom", "right", "bias", "onto", "scale"),
    *("known", "known_row", "cells", "noise", "noise_row", "at_sums", "at_zeros"),
)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    site: sites.Perturbed,
    out: Images | npt.NDArray[np.float32],
    scale: npt.NDArray[np.float64],
    known: npt.NDArray[np.float32] | None = None,
    cells: npt.NDArray[np.int64] | None = None,
    noise: npt.NDArray[np.float32] | None = None,
    bias: npt.NDArray[np.float32] | None = None,
    onto: bool = False,
) -> Operation:
    """Bind the error signal of one layer.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    site : Perturbed
        The layer's units. Their noise is used only with `noise`.
    out : Images or array
        Written: δ. Either images like those of `site`, with a border at most below and to the right, which is filled
        with zeros; or an array (ceil(N / PANEL), B rounded up, PANEL), panels of features, whose padding is filled
        with zeros.
    scale : array, (1,) float64
        A factor.
    known : array, (B, at least A N) float32, or None
        h: row i, column cell N + n. None: there is no such term.
    cells : array, (H W,) int64, or None
        The cell of each pixel, one of A; see ``kernels.ops.feedback``. None: all pixels are in one cell.
    noise : array, (slots of the pass, B) float32, or None
        r. None: there is no such term.
    bias : array, (at least N,) float32, or None
        Written: Σ_i δ_i. Only possible with panels of features.
    onto : bool
        Whether Σ_i δ_i is added to what `bias` holds.

    Notes
    -----
    Cost: reads y and h once for each slot, and writes δ once; one random bit for each element and slot.
    """
    slots = site.slots if noise is not None else 0
    border = (0, 0)
    if isinstance(out, Images):
        values, memory = operands(y=site.y, out=out)
        layout = {"out_panel": PANEL, "examples": 0}
        border = out.border.bottom, out.border.right
    else:
        values, memory = operands(y=site.y)
        layout = {
            "out": address(out),
            "out_panel": out.shape[1] * PANEL,
            "out_image": PANEL,
            "examples": out.shape[1],
        }
        memory["keeps"] = (memory["keeps"], out)
    places, end = lay_out([("words", sites.WORD_BYTES), ("at_sums", PANEL * 4), ("at_zeros", PANEL * 4)])
    more = {
        **layout,
        "slots": slots,
        "bottom": border[0],
        "right": border[1],
        "bias": address(bias),
        "onto": onto,
        "scale": address(scale),
        "known": address(known),
        "known_row": 0 if known is None else known.shape[1],
        "cells": address(cells),
        "noise": address(noise),
        "noise_row": 0 if noise is None else noise.shape[1],
        "at_sums": places["at_sums"],
        "at_zeros": places["at_zeros"],
    }
    memory["keeps"] = (memory["keeps"], site.stream, scale, known, noise, cells, bias)
    return Operation(
        "signal",
        _entry(site.activation_name),
        filled(_ARGUMENTS, values | site.fields(isa) | more),
        parts_for(site.elements * ELEMENT_WORK * (1 + slots), site.panels, threads),
        scratch_bytes=end,
        **memory,
    )


def _entry(activation_name: str) -> int:
    rule, zero, one = rule_of(activation_name), np.float32(0), np.float32(1)

    def signal(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        first, last = sites.examples(a, part, parts, True)
        low, high = sites.panels(a, part, parts, True)
        pixels = a.height * a.width
        begin, end = (a.example + first) * pixels, (a.example + last) * pixels
        source = sites.origin(a, a.y, a.y_part, a.y_image, part, first)
        target = sites.origin(a, a.out, a.out_part, a.out_image, part, first)
        words = carray(pointer(a.scratch, np.uint32), sites.BLOCK)
        zeros = carray(pointer(a.scratch + a.at_zeros, np.float32), PANEL)
        sums = carray(pointer(a.scratch + a.at_sums, np.float32), PANEL)
        scale = np.float32(carray(pointer(a.scale, np.float64), 1)[0])
        for lane in range(PANEL):
            zeros[lane] = zero
        if a.bottom or a.right:
            _clear(a, target, last - first)
        if a.slots == 0 and a.known != 0 and a.bias == 0 and a.examples == 0 and high - low == a.panels:
            # All channels of a pixel in one loop: a loop over the lanes of a panel is not made vector code.
            for i in range(last - first):
                for p in range(pixels):
                    row, column = p // a.width, p % a.width
                    at = source + (i * a.y_image + row * a.y_row + column * a.y_pixel) * 4
                    y = carray(pointer(at, np.float32), a.channels)
                    at = target + (i * a.out_image + row * a.out_row + column * a.out_pixel) * 4
                    out = carray(pointer(at, np.float32), a.channels)
                    known = carray(pointer(_known(a, a.example + first + i, p, 0), np.float32), a.channels)
                    for c in range(a.channels):
                        out[c] = scale * rule(y[c])[1] * known[c] + zero
            return
        for panel in range(low, high):
            lanes = min(PANEL, a.channels - panel * PANEL)
            for lane in range(PANEL):
                sums[lane] = zero
            for block in range(begin // 4 * 4, end, sites.BLOCK):
                rows = min(sites.BLOCK, end - block)
                for t in range(max(1, a.slots)):
                    if a.slots > 0:
                        sites.draw(a, t, block, rows, panel, a.scratch)
                    for q in range(max(block, begin), block + rows):
                        at = sites.unit(a, source, q, first, panel)
                        y = carray(pointer(at, np.float32), PANEL)
                        at = target + sites.place(a, q, first, a.out_image, a.out_row, a.out_pixel)
                        out = carray(pointer(at + panel * a.out_panel * 4, np.float32), PANEL)
                        example = q // pixels
                        # In the first slot this is what is known; in later slots, the sum of the slots before.
                        known, factor = out, one
                        if t == 0:
                            known = carray(
                                pointer(_known(a, example, q - example * pixels, panel), np.float32), PANEL
                            )
                            factor = scale
                        word, r = np.uint32(0), zero
                        if a.slots > 0:
                            at = a.noise + ((a.slot + t) * a.noise_row + example) * 4
                            word, r = words[q - block], scale * carray(pointer(at, np.float32), 1)[0]
                        if lanes == PANEL:
                            for lane in range(PANEL):
                                slope = rule(y[lane])[1]
                                active = one if slope != zero else zero
                                there = factor * (slope if t == 0 else one) * known[lane]
                                out[lane] = there + r * sites.signed(active, word, lane)
                        else:
                            for lane in range(lanes):
                                slope = rule(y[lane])[1]
                                active = one if slope != zero else zero
                                there = factor * (slope if t == 0 else one) * known[lane]
                                out[lane] = there + r * sites.signed(active, word, lane)
                            if a.examples > 0:
                                for lane in range(lanes, PANEL):
                                    out[lane] = zero
                        if a.bias and t == max(1, a.slots) - 1:
                            for lane in range(lanes):
                                sums[lane] += out[lane]
            for i in range(a.batch, a.examples):
                out = carray(pointer(a.out + (panel * a.out_panel + i * PANEL) * 4, np.float32), PANEL)
                for lane in range(PANEL):
                    out[lane] = zero
            if a.bias:
                bias = carray(pointer(a.bias + panel * PANEL * 4, np.float32), PANEL)
                for lane in range(lanes):
                    bias[lane] = sums[lane] + (bias[lane] if a.onto else zero)

    return kernel(f"signal-{activation_name}", signal, 3)


@register_jitable
def _known(a: Any, example: int, pixel: int, panel: int) -> int:
    """Return the address of what is known of the gradient with respect to the layer's output, or of zeros."""
    if a.known == 0:
        return int(a.scratch + a.at_zeros)
    cell = carray(pointer(a.cells, np.int64), a.height * a.width)[pixel] if a.cells else 0
    return int(a.known + (example * a.known_row + cell * a.channels + panel * PANEL) * 4)


@register_jitable
def _clear(a: Any, target: int, n: int) -> None:
    """Fill the border below and to the right of n images with zeros, in these channels."""
    for i in range(n):
        image = target + i * a.out_image * 4
        for row in range(a.height + a.bottom):
            for column in range(a.width if row < a.height else 0, a.width + a.right):
                at = image + (row * a.out_row + column * a.out_pixel) * 4
                # The neighbouring channels belong to another group.
                rest = carray(pointer(at, np.float32), a.channels)
                for c in range(a.channels):
                    rest[c] = np.float32(0)
