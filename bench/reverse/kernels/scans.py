"""The reverse pass of elementwise recurrences: backpropagation through time over the gates and states that were kept.

A part of the work is a range of panels of units, which goes through all examples: no two parts write the same.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.bench.reverse.kernels.recurrences import RECURRENCES
from fgnumba.bench.reverse.kernels.scan_code import FRAME, reverse_scan
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, parts_for, split
from fgnumba.validation.launcher import launcher

_FRAME = np.dtype([(name, np.int64) for name in FRAME])
_WORK_AN_ELEMENT = 2 * ELEMENT_WORK
"""Multiply-adds that take as long as going one position back for one unit."""

ARGUMENTS = record(
    *images.fields("y"),
    *images.fields("dy"),
    *images.fields("symbols"),
    *("batch", "length", "units", "before", "carry", "state", "state_part"),
    *("gates", "gates_row", "gates_part", "rows", "rows_row", "panels", "panel_rows"),
    *("weight", "vocabulary", "onto", "first", "second", "d_first", "d_second", "at_sums"),
    *("at_frame", "at_zeros", "at_carried", "at_nowhere"),
)


@launcher
def bind_scan(
    isa: InstructionSet,
    threads: int,
    recurrence: str,
    *,
    batch: int,
    units: int,
    y: Images,
    dy: Images,
    gates: npt.NDArray[np.float32],
    before: npt.NDArray[np.float32] | None,
    carry: npt.NDArray[np.float32] | None,
    parameters: tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None],
    gradients: tuple[npt.NDArray[np.float32] | None, npt.NDArray[np.float32] | None],
    onto: bool,
    panels: npt.NDArray[np.float32] | None = None,
    rows: npt.NDArray[np.float32] | None = None,
    symbols: Images | None = None,
    weight: npt.NDArray[np.float32] | None = None,
) -> Operation:
    """Bind the way back through time of a recurrence of N units.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    recurrence : str
        Name of the recurrence in ``recurrences.RECURRENCES``.
    batch : int
        Number of examples B.
    units : int
        N.
    y, dy : Images
        The outputs (L, N) or, of a complex recurrence, (L, 2 N), which are the states; and their cotangents.
    gates : array, (B L, at least G * M) float32
        What the forward pass kept, M = N rounded up to whole panels columns a gate.
    before : array, (B, S * M) float32, or None
        The states before the first position. None: zeros.
    carry : array, (B, S * M) float32, or None
        The cotangents of the last states from what comes after; replaced by those of `before`. None: zeros, and
        nothing is written.
    parameters, gradients : two arrays, (at least N,) float32, or None
        For ``elementwise-lstm`` the recurrent weights; for the linear recurrences ν and, if it is complex, θ. Their
        gradients follow in the same order; for recurrences with a bias, its gradient comes second.
    onto : bool
        Whether gradients are added to what their arrays hold.
    panels : array, (G * M / PANEL, B L rounded up, PANEL) float32, or None
        Written: the cotangents of the gates' sums in panels, zeros in the padding.
    rows : array, (B L, at least G * M) float32, or None
        Written: the same by rows. None: nothing needs them.
    symbols : Images or None
        The inputs, B rows of L symbols. The weight's gradient is then summed here, and `panels` and `rows` are None.
    weight : array, (G * M / PANEL, V, PANEL) float32, or None
        Written: the gradient of the weight, if the inputs are symbols.

    Notes
    -----
    Cost: reads y, dy and the gates once, and writes the cotangents of the gates' sums once for each form.
    """
    step = RECURRENCES[recurrence]
    length, across = y.shape[0], -(-units // PANEL)
    values, memory = operands(y=y, dy=dy, **({"symbols": symbols} if symbols else {}))
    state = across * PANEL
    regions = (
        ("vectors", (step.parameters + step.sums) * state * 4),
        ("frame", _FRAME.itemsize),
        ("zeros", step.states * state * 4),
        ("carried", step.states * state * 4),
        ("nowhere", step.cotangents * state * 4),
    )
    offsets, end = lay_out(regions)
    fields = {
        **values,
        "batch": batch,
        "length": length,
        "units": units,
        "before": address(before),
        "carry": address(carry),
        "state": step.states * state,
        "state_part": state,
        "gates": address(gates),
        "gates_row": gates.shape[-1],
        "gates_part": state,
        "rows": address(rows),
        "rows_row": 0 if rows is None else rows.shape[-1],
        "panels": address(panels),
        "panel_rows": 0 if panels is None else panels.shape[1],
        "weight": address(weight),
        "vocabulary": 0 if weight is None else weight.shape[1],
        "onto": onto,
        "first": address(parameters[0]),
        "second": address(parameters[1]),
        "d_first": address(gradients[0]),
        "d_second": address(gradients[1]),
        "at_sums": step.parameters * state * 4,
        "at_frame": offsets["frame"],
        **{f"at_{name}": offsets[name] for name in ("zeros", "carried", "nowhere")},
    }
    kept = (gates, before, carry, *parameters, *gradients, panels, rows, weight)
    memory["keeps"] = (memory["keeps"], kept)
    return Operation(
        "through-time",
        _entry(isa, recurrence, symbols is not None),
        filled(ARGUMENTS, fields),
        parts_for(batch * length * units * step.gates * _WORK_AN_ELEMENT, across, threads),
        scratch_bytes=end,
        **memory,
    )


def _entry(isa: InstructionSet, recurrence: str, symbols: bool) -> int:
    scan = reverse_scan(isa, recurrence, symbols)
    prepare, finish = _ENDS[recurrence]
    step = RECURRENCES[recurrence]
    gates, sums, states = step.gates, step.sums, step.states

    def through_time(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, ARGUMENTS), 1)[0]
        first, last = split((a.units + PANEL - 1) // PANEL, parts, part)
        clear(a.scratch + a.at_zeros, states * a.state_part)
        clear(a.scratch + a.at_sums, sums * a.state_part)
        for q in range(first, last):
            prepare(a, q)
            _clear(a, q, gates)
        for b in range(a.batch):
            _fill_frame(a, first, last, b, states)
            scan(a.scratch + a.at_frame)
        total = carray(pointer(a.scratch + a.at_sums, np.float32), (sums, a.state_part))
        for q in range(first, last):
            finish(a, q, total[:, q * PANEL : (q + 1) * PANEL])

    return kernel(f"reverse-{recurrence}-{isa.vectors}-{symbols}", through_time, 3)


@register_jitable
def _clear(a: Any, q: int, gates: int) -> None:
    """Clear the gradients that are summed here, and the rows of panels that are padding."""
    for gate in range(gates):
        panel = gate * (a.state_part // PANEL) + q
        if a.panels:
            used = a.batch * a.length
            clear(a.panels + (panel * a.panel_rows + used) * PANEL * 4, (a.panel_rows - used) * PANEL)
        elif not a.onto:
            clear(a.weight + panel * a.vocabulary * PANEL * 4, a.vocabulary * PANEL)


@register_jitable
def _fill_frame(a: Any, q: int, q_end: int, b: int, states: int) -> None:
    """Write what the loop is told about panels q to q_end of example b."""
    frame = carray(pointer(a.scratch + a.at_frame, _FRAME), 1)[0]
    unit, first = q * PANEL * 4, b * a.length
    frame.length, frame.panels, frame.units = a.length, q_end - q, a.units - q * PANEL
    frame.y, frame.y_row = a.y + b * a.y_image * 4 + unit, a.y_row
    frame.dy, frame.dy_row = a.dy + b * a.dy_image * 4 + unit, a.dy_row
    frame.y_part, frame.state_part, frame.gates_part = a.units, a.state_part, a.state_part
    frame.before = (a.before + b * a.state * 4 if a.before else a.scratch + a.at_zeros) + unit
    frame.carry = (a.carry + b * a.state * 4 if a.carry else a.scratch + a.at_carried) + unit
    frame.gates, frame.gates_row = a.gates + first * a.gates_row * 4 + unit, a.gates_row
    frame.rows, frame.rows_row, frame.rows_part = a.scratch + a.at_nowhere, 0, a.state_part
    if a.rows:
        frame.rows, frame.rows_row = a.rows + first * a.rows_row * 4 + unit, a.rows_row
    frame.sheet = a.panel_rows * PANEL
    frame.sheets, frame.sheets_part = (
        a.panels + (q * a.panel_rows + first) * PANEL * 4,
        a.state_part * a.panel_rows,
    )
    frame.symbols, frame.vocabulary = a.symbols + b * a.symbols_image * 4, a.vocabulary
    frame.weight, frame.weight_part = a.weight + q * a.vocabulary * PANEL * 4, a.state_part * a.vocabulary
    frame.parameters, frame.vector_part = a.scratch + unit, a.state_part
    frame.sums = a.scratch + a.at_sums + unit
    if not a.carry:
        # The loop leaves the cotangent of the first state there.
        clear(a.scratch + a.at_carried, states * a.state_part)


@register_jitable
def clear(at: int, count: int) -> None:
    """Set so many elements to zero."""
    values = carray(pointer(at, np.float32), count)
    for i in range(count):
        values[i] = np.float32(0)


@register_jitable
def _leave(a: Any, at: int, q: int, sums: Any, onto: bool) -> None:
    """Write the sums of panel q to a gradient of N elements, or add them to it."""
    target = carray(pointer(at, np.float32), a.units)
    for lane in range(min(PANEL, a.units - q * PANEL)):
        unit = q * PANEL + lane
        target[unit] = sums[lane] + (target[unit] if onto else np.float32(0))


@register_jitable
def _prepare_nothing(a: Any, q: int) -> None:
    pass


@register_jitable
def _prepare_lstm(a: Any, q: int) -> None:
    parameters = carray(pointer(a.scratch, np.float32), (2, a.state_part))
    recurrent = carray(pointer(a.first, np.float32), (2, a.state_part))
    for gate in range(2):
        for lane in range(PANEL):
            parameters[gate, q * PANEL + lane] = recurrent[gate, q * PANEL + lane]


@register_jitable
def _finish_lstm(a: Any, q: int, sums: Any) -> None:
    for gate in range(2):
        _leave(a, a.d_first + gate * a.state_part * 4, q, sums[gate], a.onto)
        _leave(a, a.d_second + gate * a.state_part * 4, q, sums[2 + gate], a.onto)


@register_jitable
def _finish_min_gru(a: Any, q: int, sums: Any) -> None:
    for gate in range(2):
        _leave(a, a.d_second + gate * a.state_part * 4, q, sums[gate], a.onto)


@register_jitable
def _prepare_real(a: Any, q: int) -> None:
    parameters = carray(pointer(a.scratch, np.float32), (2, a.state_part))
    nu = carray(pointer(a.first, np.float32), a.state_part)
    for unit in range(q * PANEL, (q + 1) * PANEL):
        rate = math.exp(np.float64(nu[unit]))
        parameters[0, unit] = math.exp(-rate)
        parameters[1, unit] = math.sqrt(-math.expm1(-2.0 * rate))


@register_jitable
def _by_size(nu: float) -> tuple[float, float]:
    """Return the derivatives by ν of |λ|, over |λ|, and of γ."""
    rate = math.exp(nu)
    return -rate, rate * math.exp(-2.0 * rate) / math.sqrt(-math.expm1(-2.0 * rate))


@register_jitable
def _finish_real(a: Any, q: int, sums: Any) -> None:
    nu = carray(pointer(a.first, np.float32), a.state_part)
    for lane in range(min(PANEL, a.units - q * PANEL)):
        of_size, of_gamma = _by_size(np.float64(nu[q * PANEL + lane]))
        size = math.exp(of_size)
        total = np.float64(sums[0, lane]) * of_size * size + np.float64(sums[1, lane]) * of_gamma
        sums[0, lane] = np.float32(total)
    _leave(a, a.d_first, q, sums[0], a.onto)


@register_jitable
def _prepare_complex(a: Any, q: int) -> None:
    parameters = carray(pointer(a.scratch, np.float32), (3, a.state_part))
    nu, theta = (
        carray(pointer(a.first, np.float32), a.state_part),
        carray(pointer(a.second, np.float32), a.state_part),
    )
    for unit in range(q * PANEL, (q + 1) * PANEL):
        rate, angle = math.exp(np.float64(nu[unit])), np.float64(theta[unit])
        size = math.exp(-rate)
        parameters[0, unit], parameters[1, unit] = size * math.cos(angle), size * math.sin(angle)
        parameters[2, unit] = math.sqrt(-math.expm1(-2.0 * rate))


@register_jitable
def _finish_complex(a: Any, q: int, sums: Any) -> None:
    nu, theta = (
        carray(pointer(a.first, np.float32), a.state_part),
        carray(pointer(a.second, np.float32), a.state_part),
    )
    for lane in range(min(PANEL, a.units - q * PANEL)):
        of_size, of_gamma = _by_size(np.float64(nu[q * PANEL + lane]))
        size, angle = math.exp(of_size), np.float64(theta[q * PANEL + lane])
        real, imaginary = size * math.cos(angle), size * math.sin(angle)
        along, across = np.float64(sums[0, lane]), np.float64(sums[1, lane])
        by_nu = of_size * (along * real - across * imaginary) + np.float64(sums[2, lane]) * of_gamma
        sums[0, lane], sums[1, lane] = np.float32(by_nu), np.float32(-(along * imaginary + across * real))
    _leave(a, a.d_first, q, sums[0], a.onto)
    _leave(a, a.d_second, q, sums[1], a.onto)


_ENDS = {
    "elementwise-lstm": (_prepare_lstm, _finish_lstm),
    "min-gru": (_prepare_nothing, _finish_min_gru),
    "real-linear": (_prepare_real, _finish_real),
    "complex-linear": (_prepare_complex, _finish_complex),
}
