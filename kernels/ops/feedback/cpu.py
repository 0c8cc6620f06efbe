"""Feedback matrices on the CPU: B (A N, C), which says how C observed outputs respond to a layer's N channels.

An image is divided into A *cells*, rectangles of pixels; all pixels of a cell share the same N rows of B.

    gather     w_t = Σ over a cell's pixels of a'(z) u_t           (T B, A N), the noise that was put in
    subtract   ε_t = ȯ_t - w_t B                                   the response that B does not predict
    weigh      k and c ε                                           for B ← k B + c wᵀ ε
    turn       Bᵀ                                                  for h = e Bᵀ

The products are those of ``kernels.ops.dense`` and ``kernels.ops.example_panels``, and B is packed like a weight.

Source: F. Bacho, D. Chu, arXiv 2212.07282, where B is a running mean of u ⊗ ȯ. With ε in place of ȯ it is a
least-mean-squares filter (B. Widrow, M. E. Hoff, 1960), whose noise goes to zero with the response that it does not
predict.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.images import operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for, split
from fgnumba.kernels.ops.example_panels.cpu import transpose
from fgnumba.kernels.ops.feedback import COEFFICIENTS
from fgnumba.kernels.rules.activations.rules import rule_of
from fgnumba.kernels.shared.perturbed_units import cpu as sites
from fgnumba.validation.launcher import launcher

_GATHER = record(
    *sites.FIELDS, "cells", "number", "out", "out_row", "out_slot", "power", "at_slopes", "at_squares"
)
_SUBTRACT = record("predicted", "predicted_row", "response", "batch", "slot", "slots", "classes")
_WEIGH = record(
    *("response", "response_block", "response_row", "batch", "slot", "slots", "classes"),
    *("out", "out_rows", "feedback", "size", "coefficients"),
)
_TURN = record("feedback", "rows", "out", "out_rows", "classes", "transpose")


@launcher
def bind_gather(
    isa: InstructionSet,
    threads: int,
    *,
    site: sites.Perturbed,
    cells: npt.NDArray[np.int64],
    out: npt.NDArray[np.float32],
    power: npt.NDArray[np.float32],
) -> Operation:
    """Bind the sums of the noise that was put into a layer, cell by cell.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    site : Perturbed
        The layer's units.
    cells : array, (H W,) int64
        The cell of each pixel.
    out : array, (slots B, at least A N) float32
        Written: w, at row t B + i and column cell N + n.
    power : array, (B,) float32
        Σ a'(z)² of each example is added to it.

    Notes
    -----
    Cost: reads y once for each slot, and writes out once; one random bit for each element.
    """
    values, memory = operands(y=site.y)
    places, end = lay_out([("words", sites.WORD_BYTES), ("at_slopes", PANEL * 4), ("at_squares", PANEL * 4)])
    more = {
        "cells": address(cells),
        "number": int(cells.max()) + 1,
        "out": address(out),
        "out_row": out.shape[1],
        "out_slot": site.batch * out.shape[1],
        "power": address(power),
        "at_slopes": places["at_slopes"],
        "at_squares": places["at_squares"],
    }
    memory["keeps"] = (memory["keeps"], site.stream, cells, out, power)
    return Operation(
        "gather",
        _gather_entry(site.activation_name),
        filled(_GATHER, values | site.fields(isa) | more),
        parts_for(site.elements * site.slots * ELEMENT_WORK, site.batch, threads),
        scratch_bytes=end,
        **memory,
    )


def _gather_entry(activation_name: str) -> int:
    rule, zero = rule_of(activation_name), np.float32(0)

    def gather(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _GATHER), 1)[0]
        first, last = sites.examples(a, part, parts, False)
        pixels = a.height * a.width
        begin, end = (a.example + first) * pixels, (a.example + last) * pixels
        origin = sites.origin(a, a.y, a.y_part, a.y_image, part, first)
        words = carray(pointer(a.scratch, np.uint32), sites.BLOCK)
        cells = carray(pointer(a.cells, np.int64), pixels)
        slopes = carray(pointer(a.scratch + a.at_slopes, np.float32), PANEL)
        squares = carray(pointer(a.scratch + a.at_squares, np.float32), PANEL)
        for t in range(a.slots):
            for i in range(a.example + first, a.example + last):
                row = carray(
                    pointer(a.out + (t * a.out_slot + i * a.out_row) * 4, np.float32), a.number * a.channels
                )
                for j in range(a.number * a.channels):
                    row[j] = zero
            for block in range(begin // 4 * 4, end, sites.BLOCK):
                rows = min(sites.BLOCK, end - block)
                for panel in range(a.panels):
                    lanes = min(PANEL, a.channels - panel * PANEL)
                    sites.draw(a, t, block, rows, panel, a.scratch)
                    for q in range(max(block, begin), block + rows):
                        at = sites.unit(a, origin, q, first, panel)
                        y = carray(pointer(at, np.float32), PANEL)
                        example = q // pixels
                        column = cells[q - example * pixels] * a.channels + panel * PANEL
                        at = a.out + (t * a.out_slot + example * a.out_row + column) * 4
                        w = carray(pointer(at, np.float32), PANEL)
                        word = words[q - block]
                        if lanes == PANEL:
                            for lane in range(PANEL):
                                slopes[lane] = rule(y[lane])[1]
                            for lane in range(PANEL):
                                w[lane] += sites.signed(slopes[lane], word, lane)
                        else:
                            for lane in range(lanes):
                                slopes[lane] = rule(y[lane])[1]
                                w[lane] += sites.signed(slopes[lane], word, lane)
                            for lane in range(lanes, PANEL):
                                slopes[lane] = zero
                        if t == 0:
                            # Added vector by vector, in an order that does not depend on the number of threads.
                            for lane in range(PANEL):
                                squares[lane] = slopes[lane] * slopes[lane]
                            for lane in range(16):
                                squares[lane] += squares[lane + 16]
                            for lane in range(8):
                                squares[lane] += squares[lane + 8]
                            for lane in range(4):
                                squares[lane] += squares[lane + 4]
                            power = carray(pointer(a.power + example * 4, np.float32), 1)
                            power[0] += (squares[0] + squares[1]) + (squares[2] + squares[3])

    return kernel(f"feedback-gather-{activation_name}", gather, 3)


@launcher
def bind_subtract(
    *, predicted: npt.NDArray[np.float32], response: npt.NDArray[np.float32], slot: int, slots: int
) -> Operation:
    """Bind ε_t ← ε_t - `predicted` for the slots of one layer.

    Parameters
    ----------
    predicted : array, (slots B, at least C) float32
        w_t B.
    response : array, (S, B, C) float32
        ε of all slots of the pass.
    slot, slots : int
        The layer's first slot, and the number of its slots.

    Notes
    -----
    Cost: reads both arrays once, and writes the response once.
    """
    fields = {
        "predicted": address(predicted),
        "predicted_row": predicted.shape[1],
        "response": address(response),
        "batch": response.shape[1],
        "slot": slot,
        "slots": slots,
        "classes": response.shape[2],
    }
    return Operation(
        "subtract",
        kernel("feedback-subtract", _subtract, 3),
        filled(_SUBTRACT, fields),
        keeps=(predicted, response),
    )


def _subtract(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _SUBTRACT), 1)[0]
    for row in range(a.slots * a.batch):
        at = a.response + (a.slot * a.batch + row) * a.classes * 4
        response = carray(pointer(at, np.float32), a.classes)
        predicted = carray(pointer(a.predicted + row * a.predicted_row * 4, np.float32), a.classes)
        for c in range(a.classes):
            response[c] -= predicted[c]


@launcher
def bind_weigh(
    *,
    response: npt.NDArray[np.float32],
    classes: int,
    slot: int,
    slots: int,
    coefficients: npt.NDArray[Any],
    feedback: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
) -> Operation:
    """Bind B ← k B, and c r in panels of outputs.

    Parameters
    ----------
    response : array, (S, B, at least C) float32
        r of all slots of the pass.
    classes : int
        C.
    slot, slots : int
        The layer's first slot, and the number of its slots.
    coefficients : array, (1,) ``COEFFICIENTS``
        k and c, read when the operation runs.
    feedback : array, (ceil(C / PANEL), A N, PANEL) float32
        B, updated in place.
    out : array, (ceil(C / PANEL), slots B rounded up, PANEL) float32
        Written: c r, with zeros in the padding.

    Notes
    -----
    Cost: reads the response and writes out once; reads and writes B once if k is not 1.
    """
    batch = response.shape[1]
    fields = {
        "response": address(response),
        "response_block": response.strides[0] // 4,
        "response_row": response.strides[1] // 4,
        "batch": batch,
        "slot": slot,
        "slots": slots,
        "classes": classes,
        "out": address(out),
        "out_rows": out.shape[1],
        "feedback": address(feedback),
        "size": feedback.size,
        "coefficients": address(coefficients),
    }
    keeps = (response, coefficients, feedback, out)
    return Operation("weigh", kernel("feedback-weigh", _weigh, 3), filled(_WEIGH, fields), keeps=keeps)


def _weigh(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _WEIGH), 1)[0]
    coefficients = carray(pointer(a.coefficients, COEFFICIENTS), 1)[0]
    keep, gain = np.float32(coefficients.keep), np.float32(coefficients.gain)
    if keep != np.float32(1):
        b = carray(pointer(a.feedback, np.float32), a.size)
        for j in range(a.size):
            b[j] *= keep
    panels = (a.classes + PANEL - 1) // PANEL
    out = carray(pointer(a.out, np.float32), (panels, a.out_rows, PANEL))
    for panel in range(panels):
        for row in range(a.out_rows):
            for lane in range(PANEL):
                out[panel, row, lane] = np.float32(0)
    for t in range(a.slots):
        for i in range(a.batch):
            at = a.response + ((a.slot + t) * a.response_block + i * a.response_row) * 4
            r = carray(pointer(at, np.float32), a.classes)
            for c in range(a.classes):
                out[c // PANEL, t * a.batch + i, c % PANEL] = gain * r[c]


@launcher
def bind_turn(
    isa: InstructionSet,
    threads: int,
    *,
    feedback: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    classes: int | None = None,
) -> Operation:
    """Bind the transposition of B.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    feedback : array, (ceil(C / PANEL), A N, PANEL) float32
        B.
    out : array, (ceil(A N / PANEL), at least C, PANEL) float32
        Written: Bᵀ. Rows after row C are left alone.
    classes : int, optional
        C. By default all rows of `out`.

    Notes
    -----
    Cost: reads B once, and writes Bᵀ once.
    """
    fields = {
        "feedback": address(feedback),
        "rows": feedback.shape[1],
        "out": address(out),
        "classes": classes or out.shape[1],
        "out_rows": out.shape[1],
        "transpose": transpose(isa),
    }
    parts = parts_for(feedback.size * ELEMENT_WORK, out.shape[0], threads)
    return Operation(
        "turn", kernel("feedback-turn", _turn, 3), filled(_TURN, fields), parts, keeps=(feedback, out)
    )


def _turn(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _TURN), 1)[0]
    low, high = split((a.rows + PANEL - 1) // PANEL, parts, part)
    for panel in range(low, high):
        rows = min(PANEL, a.rows - panel * PANEL)
        for c in range(0, a.classes, PANEL):
            columns = min(PANEL, a.classes - c)
            source = a.feedback + (c * a.rows + panel * PANEL * PANEL) * 4
            target = a.out + (panel * a.out_rows + c) * PANEL * 4
            call(a.transpose, (rows, columns, source, PANEL, target, PANEL))
