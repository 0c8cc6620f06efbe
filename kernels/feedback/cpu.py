"""Feedback matrices on the CPU: B (cells, N, C), how C observed outputs respond to a layer's N pre-activations.

    predict    ε_t ← ε_t - Σ_n w_tn B_n           w = a'(z) u, the noise that was put in; ε begins as the response ȯ
    learn      B ← k B + c Σ_it w_it ⊗ r_it       r the response, or what of it was not predicted

The pixels of an image share B cell by cell: one cell is the whole image, or each pixel is one.

Source: F. Bacho, D. Chu, arXiv 2212.07282 (B a running mean of u ⊗ ȯ); with r = ε it is a least-mean-squares filter
(B. Widrow, M. E. Hoff, 1960), whose noise goes to zero with what it does not predict.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels import sites
from fgnumba.kernels.activations.rules import RULES
from fgnumba.kernels.arguments import filled, lay_out, record
from fgnumba.kernels.compile import kernel
from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.images import Images, operands
from fgnumba.kernels.memory import address
from fgnumba.kernels.program import Operation
from fgnumba.kernels.tiling import parts_for
from fgnumba.kernels.vector import PANEL, InstructionSet

COEFFICIENTS = np.dtype([("keep", np.float64), ("gain", np.float64)])
"""k and c of a step of learning."""

_ARGUMENTS = record(
    *sites.FIELDS,
    *("classes", "cells", "feedback", "response", "response_block", "response_row", "power"),
    *("coefficients", "reduce", "at_noise"),
)
_ELEMENT_WORK = 2


def bind(
    learn: bool,
    isa: InstructionSet,
    threads: int,
    *,
    batch: int,
    images_a_part: int,
    y: Images,
    slot: int,
    slots: int,
    parameter: int,
    stream: npt.NDArray[Any],
    activation_name: str,
    feedback: npt.NDArray[np.float32],
    cells: npt.NDArray[np.int64],
    response: npt.NDArray[np.float32],
    power: npt.NDArray[np.float32] | None = None,
    coefficients: npt.NDArray[Any] | None = None,
    first_channel: int = 0,
) -> Operation:
    """Bind the prediction, or with `learn` the step of learning.

    Parameters
    ----------
    y, slot, slots, parameter, stream, first_channel : see ``sites.fields``.
    feedback : (cells, ceil(N / PANEL), C, PANEL).
    cells : (H W,), the cell of each pixel.
    response : (slots of the pass, B, at least C): ε, which a prediction is taken from; or what is learned.
    power : (B,), the prediction adds Σ a'(z)² of each example to it.
    coefficients : (1,) ``COEFFICIENTS``, read when it learns.

    Cost: N C multiply-adds an example and slot; reads y once, B once an example.
    """
    values, memory = operands(y=y)
    place = sites.fields(
        isa,
        batch=batch,
        images_a_part=images_a_part,
        y=y,
        slot=slot,
        slots=slots,
        parameter=parameter,
        stream=stream,
        first_channel=first_channel,
    )
    places, end = lay_out([("words", sites.word_bytes(1)), ("at_noise", PANEL * 4)])
    classes = feedback.shape[2]
    more = {
        "classes": classes,
        "cells": address(cells),
        "feedback": address(feedback),
        "response": address(response),
        "response_block": response.strides[0] // 4,
        "response_row": response.strides[1] // 4,
        "power": address(power),
        "coefficients": address(coefficients),
        "reduce": 0 if learn else _reduce_entry(),
        "at_noise": places["at_noise"],
    }
    memory["keeps"] = (memory["keeps"], stream, feedback, cells, response, power, coefficients)
    products = batch * int(np.prod(y.shape)) * classes * slots
    limit = place["panels"] if learn else batch
    return Operation(
        "feedback-learned" if learn else "feedback-predicted",
        _learn_entry(activation_name) if learn else _predict_entry(activation_name),
        filled(_ARGUMENTS, values | place | more),
        parts_for(products * _ELEMENT_WORK, limit, threads),
        scratch_bytes=end,
        **memory,
    )


@cache
def _reduce_entry() -> int:
    # Sums of 32 terms may be reassociated: they vectorise, and are the same however the work is cut.
    return kernel("feedback-reduce", _reduce, 4, fastmath={"contract", "nsz", "reassoc"})


def _reduce(classes: int, noise: int, feedback: int, out: int) -> None:
    w = carray(pointer(noise, np.float32), PANEL)
    b = carray(pointer(feedback, np.float32), (classes, PANEL))
    e = carray(pointer(out, np.float32), classes)
    for c in range(classes):
        total = np.float32(0)
        for lane in range(PANEL):
            total += w[lane] * b[c, lane]
        e[c] -= total


@cache
def _predict_entry(activation_name: str) -> int:
    rule = RULES[activation_name]

    def predict(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        first, last = sites.examples(a, part, parts, False)
        pixels = a.height * a.width
        begin, end = (a.example + first) * pixels, (a.example + last) * pixels
        origin = sites.origin(a, a.y, a.y_part, a.y_image, part, first)
        words = carray(pointer(a.scratch, np.uint32), sites.ROWS)
        w = carray(pointer(a.scratch + a.at_noise, np.float32), PANEL)
        cells = carray(pointer(a.cells, np.int64), pixels)
        for block in range(begin // 4 * 4, end, sites.ROWS):
            rows = min(sites.ROWS, end - block)
            for panel in range(a.panels):
                lanes = min(PANEL, a.channels - panel * PANEL)
                for lane in range(lanes, PANEL):
                    w[lane] = np.float32(0)
                for t in range(a.slots):
                    sites.draw(a, t, block, rows, panel, a.scratch)
                    for q in range(max(block, begin), block + rows):
                        at = (
                            origin
                            + sites.place(a, q, first, a.y_image, a.y_row, a.y_pixel)
                            + panel * PANEL * 4
                        )
                        y = carray(pointer(at, np.float32), PANEL)
                        word = words[q - block]
                        if lanes == PANEL:
                            for lane in range(PANEL):
                                w[lane] = sites.signed(rule(y[lane])[1], word, lane)
                        else:
                            for lane in range(lanes):
                                w[lane] = sites.signed(rule(y[lane])[1], word, lane)
                        example = q // pixels
                        if t == 0 and a.power:
                            power = carray(pointer(a.power + example * 4, np.float32), 1)
                            total = np.float32(0)
                            for lane in range(PANEL):
                                total += w[lane] * w[lane]
                            power[0] += total
                        b = ((cells[q % pixels] * a.panels + panel) * a.classes) * PANEL * 4
                        out = ((a.slot + t) * a.response_block + example * a.response_row) * 4
                        call(
                            a.reduce,
                            (a.classes, a.scratch + a.at_noise, a.feedback + b, a.response + out),
                        )

    return kernel(f"feedback-predict-{activation_name}", predict, 3)


@cache
def _learn_entry(activation_name: str) -> int:
    rule = RULES[activation_name]

    def learn(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        low, high = sites.panels(a, part, parts, True)
        pixels = a.height * a.width
        end = a.batch * pixels
        words = carray(pointer(a.scratch, np.uint32), sites.ROWS)
        w = carray(pointer(a.scratch + a.at_noise, np.float32), PANEL)
        cells = carray(pointer(a.cells, np.int64), pixels)
        coefficients = carray(pointer(a.coefficients, COEFFICIENTS), 1)[0]
        keep, gain = np.float32(coefficients.keep), np.float32(coefficients.gain)
        number = np.int64(0)
        for p in range(pixels):
            number = max(number, cells[p] + 1)
        for panel in range(low, high):
            lanes = min(PANEL, a.channels - panel * PANEL)
            if keep != np.float32(1):
                for cell in range(number):
                    at = ((cell * a.panels + panel) * a.classes) * PANEL * 4
                    b = carray(pointer(a.feedback + at, np.float32), a.classes * PANEL)
                    for j in range(a.classes * PANEL):
                        b[j] *= keep
            for t in range(a.slots):
                for block in range(0, end, sites.ROWS):
                    rows = min(sites.ROWS, end - block)
                    sites.draw(a, t, block, rows, panel, a.scratch)
                    for q in range(block, block + rows):
                        at = a.y + sites.place(a, q, 0, a.y_image, a.y_row, a.y_pixel) + panel * PANEL * 4
                        y = carray(pointer(at, np.float32), PANEL)
                        word = words[q - block]
                        for lane in range(lanes):
                            w[lane] = gain * sites.signed(rule(y[lane])[1], word, lane)
                        for lane in range(lanes, PANEL):
                            w[lane] = np.float32(0)
                        out = ((a.slot + t) * a.response_block + q // pixels * a.response_row) * 4
                        r = carray(pointer(a.response + out, np.float32), a.classes)
                        at = ((cells[q % pixels] * a.panels + panel) * a.classes) * PANEL * 4
                        b = carray(pointer(a.feedback + at, np.float32), (a.classes, PANEL))
                        for c in range(a.classes):
                            for lane in range(PANEL):
                                b[c, lane] += r[c] * w[lane]

    return kernel(f"feedback-learn-{activation_name}", learn, 3)
