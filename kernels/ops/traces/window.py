"""The steps of ``traces.cpu``: a block of units of one stream, taken through a window of its positions.

Each function here makes another one, for a recurrence and the width of a block, which a kernel calls with its arguments
`a`. The rows that they hand on lie in scratch memory: sets of `window` + 1 rows each, the factors, the signals and the
immediate derivatives (``emit.recurrence_steps``), then the products p and the sums λ (``emit.window_products``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import (
    call,
    carried_rows,
    one_row,
    pointer,
    recurrence_steps,
    summed_rows,
    weighed_rows,
    window_products,
)
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout.geometry import clear
from fgnumba.kernels.machine.work import tile_count, tile_rows
from fgnumba.kernels.ops.traces import (
    BLOCK_NUMBERS,
    BLOCK_SYMBOLS,
    GATES,
    PARAMETERS,
    PARTS,
)
from fgnumba.kernels.shared.product.register_tiles import LAST, TILE_KINDS

CHUNK = 64
"""The number of steps, a multiple of the windows, whose gates are brought to the second-level cache at a time."""

_OWN_FIRST = {
    "elementwise_lstm": (2, 0),
    "min_gru": (0, 0),
    "linear": (1, 0),
    "complex_linear": (2, 4),
}
"""The first immediate derivatives of each parameter beside the weight, in the order of ``PARAMETERS``."""


@dataclass(frozen=True)
class Form:
    """The sizes of a recurrence that kernels know when they are compiled.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set.
    recurrence : str
        The recurrence, a key of ``PARAMETERS``.
    symbols : bool
        Whether the input is one of symbols.
    """

    isa: InstructionSet
    recurrence: str
    symbols: bool

    @property
    def width(self) -> int:
        """The number of units of a block."""
        return BLOCK_SYMBOLS if self.symbols else BLOCK_NUMBERS

    @property
    def parts(self) -> int:
        """The number of parts of a state: 2 if it is complex."""
        return PARTS[self.recurrence]

    @property
    def gates(self) -> int:
        """The number of gates G."""
        return GATES[self.recurrence]

    @property
    def own(self) -> int:
        """The number of parameters beside the weight."""
        return len(PARAMETERS[self.recurrence])

    @property
    def own_rows(self) -> int:
        """The number of rows of each of them: one for each gate, or one."""
        return self.gates if self.recurrence in ("elementwise_lstm", "min_gru") else 1


@register_jitable
def own_parameter(a: Any, i: int) -> tuple[int, int]:
    """Return the addresses of the traces and of the gradient of a parameter beside the weight."""
    if i == 0:
        return a.traces0, a.gradient0
    return a.traces1, a.gradient1


def gatherer(form: Form) -> Callable[..., None]:
    """Return a function that copies gates and states of n steps of a stream, row by row, to each block's own memory.

    Blocks that read them where they lie would wait for memory at each step, since a row is a page of memory. It was
    measured at 2.8 µs a symbol with the copies and 3.9 without (65 symbols, 512 units, 32 streams, a busy machine).
    """
    width, gates, parts = form.width, form.gates, form.parts

    @register_jitable
    def gather(a: Any, b: int, t0: int, n: int, begin: int, end: int) -> None:
        for t in range(n):
            at = b * a.length + t0 + t
            for k in range(gates + parts):
                source = a.gates + (at * a.gate_row + k * a.panels * PANEL) * 4
                if k >= gates:
                    source = a.y + (b * a.y_image + (t0 + t) * a.y_row + (k - gates) * a.units) * 4
                row = carray(pointer(source + begin * width * 4, np.float32), (end - begin) * width)
                for block in range(end - begin):
                    out = a.scratch + a.at_gathered + ((block * CHUNK + t) * (gates + parts) + k) * width * 4
                    to = carray(pointer(out, np.float32), width)
                    for lane in range(width):
                        to[lane] = row[block * width + lane]

    return gather


def _padder(form: Form) -> Callable[..., None]:
    """Return a function that fills a window up with steps that change nothing: factors of 1, and no signals."""
    width, parts = form.width, form.parts

    @register_jitable
    def pad(a: Any, n: int, end: int, apart: int) -> None:
        rows = carray(pointer(a.scratch + a.at_rows, np.float32), 2 * parts * apart)
        for part in range(parts):
            for k in range(n * width, end * width):
                rows[part * apart + k] = np.float32(1 - part)
                rows[(parts + part) * apart + k + width] = np.float32(0)

    return pad


def _stepper(form: Form) -> Callable[..., None]:
    """Return a function that computes factors, signals, immediate derivatives, products and sums of a window."""
    width, parts, gate_count = form.width, form.parts, form.gates
    steps, multiply = (
        recurrence_steps(form.isa, width, form.recurrence),
        window_products(form.isa, width, parts),
    )
    pad = _padder(form)

    @register_jitable
    def step(a: Any, n: int, padded: int, block: int, first_block: int, b: int, t0: int, chunk: int) -> None:
        unit, row, apart = block * width, (gate_count + parts) * width, (a.window + 1) * width
        rows = a.scratch + a.at_rows
        gates = a.scratch + a.at_gathered + ((block - first_block) * CHUNK + t0 - chunk) * row * 4
        states = gates + gate_count * width * 4
        before, before_part = states - row * 4, width
        if t0 == 0:
            before, before_part = a.first + (b * a.first_row + unit) * 4, a.panels * PANEL
        elif t0 == chunk:
            before, before_part = a.y + (b * a.y_image + (t0 - 1) * a.y_row + unit) * 4, a.units
        at = (b * a.length + t0) * PANEL + unit % PANEL
        signals = a.signals + (unit // PANEL * (a.signal_part // a.panels) + at) * 4
        steps(
            *(n, a.carried, gates, width, row, before, before_part, states, width, row),
            *(signals, a.signal_part, PANEL, a.scratch + a.at_constants, rows, apart),
        )
        if padded > n:
            pad(a, n, padded, apart)
        told = rows + parts * apart * 4
        multiply(padded, rows, told, apart, a.scratch + a.at_products, a.scratch + a.at_sums)

    return step


def _own_carrier(form: Form) -> Callable[..., None]:
    """Return a function that carries the traces of the parameters beside the weight."""
    width, parts, own_rows, own_count = form.width, form.parts, form.own_rows, form.own
    is_complex, own_first = parts == 2, _OWN_FIRST[form.recurrence]
    carry, add = carried_rows(form.isa, width, 1), summed_rows(form.isa, width, parts, own_rows)

    @register_jitable
    def carry_complex(e: int, out: int, products: int, sums: int, apart: int) -> None:
        """G += Re(λ E), E ← p E."""
        traces = carray(pointer(e, np.float32), (2, width))
        g = carray(pointer(out, np.float32), width)
        p = carray(pointer(products, np.float32), apart + width)
        total = carray(pointer(sums, np.float32), apart + width)
        for lane in range(width):
            real, imaginary = traces[0, lane], traces[1, lane]
            g[lane] += total[lane] * real - total[apart + lane] * imaginary
            traces[0, lane] = p[lane] * real - p[apart + lane] * imaginary
            traces[1, lane] = p[lane] * imaginary + p[apart + lane] * real

    @register_jitable
    def carry_own(a: Any, n: int, block: int, b: int, products: int, sums: int) -> None:
        apart = (a.window + 1) * width
        for i in range(own_count):
            traces, gradient = own_parameter(a, i)
            e = traces + (block * a.batch + b) * own_rows * parts * width * 4
            out, out_apart = gradient + block * width * 4, a.panels * PANEL
            immediates = a.scratch + a.at_rows + (2 * parts + own_first[i]) * apart * 4
            if is_complex:
                carry_complex(e, out, products, sums, apart)
            else:
                for r in range(own_rows):
                    carry(1, e + r * width * 4, 0, out + r * out_apart * 4, 0, products, sums, apart)
            add(n, e, out, out_apart, immediates, products + width * 4, sums + width * 4, apart)

    return carry_own


def _scatterer(form: Form) -> Callable[..., None]:
    """Return a function that adds each step's immediate derivative to the rows of its symbol."""
    width, gate_count, is_complex = form.width, form.gates, form.parts == 2
    add = one_row(form.isa, width)

    @register_jitable
    def scatter(
        a: Any, n: int, b: int, t0: int, weight: int, gradient: int, products: int, sums: int
    ) -> None:
        apart, gate_apart = (a.window + 1) * width, a.panels * a.inputs * PANEL
        immediates = a.scratch + a.at_rows + (4 if is_complex else 2) * apart * 4
        given = carray(pointer(a.x + (b * a.x_image + t0) * 4, np.float32), n)
        for t in range(n):
            if not (given[t] >= np.float32(0) and given[t] < np.float32(a.inputs)):
                continue
            symbol = np.int64(given[t])
            for g in range(gate_count):
                to_traces = immediates + ((0 if is_complex else g) * apart + t * width) * 4
                to_gradient = immediates + (g * apart + t * width) * 4
                row = ((g if is_complex else 0) * apart + (t + 1) * width) * 4
                e = weight + (g * a.inputs + symbol) * width * 4
                out = gradient + (g * gate_apart + symbol * PANEL) * 4
                add(e, out, to_traces, products + row, to_gradient, sums + row)

    return scatter


def _multiplier(form: Form) -> Callable[..., None]:
    """Return a function that adds the products of the window's inputs with a p and a λ."""
    width, gate_count, is_complex = form.width, form.gates, form.parts == 2
    weigh = weighed_rows(form.isa, width)

    @register_jitable
    def multiply_rows(a: Any, n: int, x: int, out: int) -> None:
        addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
        count, right, row = tile_count(a.inputs, a.tallest), a.scratch + a.at_scaled, 0
        for tile in range(count):
            height = tile_rows(a.inputs, count, tile)
            left = x + row * a.window * 4
            to = out + row * PANEL * 4
            call(
                addresses[TILE_KINDS * height + LAST],
                (1, a.offsets, n, left, 0, a.window, right, 0, 0, 0, to, 1),
            )
            row += height

    @register_jitable
    def multiply(
        a: Any, n: int, b: int, t0: int, weight: int, gradient: int, products: int, sums: int
    ) -> None:
        apart, gate_apart = (a.window + 1) * width, a.panels * a.inputs * PANEL
        immediates = a.scratch + a.at_rows + (4 if is_complex else 2) * apart * 4
        windows = (a.length + a.window - 1) // a.window
        x = a.turned + (b * windows + t0 // a.window) * a.inputs * a.window * 4
        scaled = a.scratch + a.at_scaled
        for g in range(gate_count):
            part = ((g if is_complex else 0) * apart + width) * 4
            weigh(n, immediates + (0 if is_complex else g) * apart * 4, products + part, scaled)
            multiply_rows(a, n, x, weight + g * a.inputs * width * 4)
            weigh(n, immediates + g * apart * 4, sums + part, scaled)
            multiply_rows(a, n, x, gradient + g * gate_apart * 4)

    return multiply


def carrier(form: Form) -> Callable[..., None]:
    """Return a function that takes the traces of one block of one stream through a window of n steps.

    It takes ``(a, n, padded, block, first_block, b, t0, chunk)``: the arguments; n, and n rounded up to ``STARTS``; the
    number of the block, and of the part's first; the stream; the window's first step, and that of its chunk.
    """
    width, gate_count, is_complex = form.width, form.gates, form.parts == 2
    step, carry_own = _stepper(form), _own_carrier(form)
    add = _scatterer(form) if form.symbols else _multiplier(form)
    carry = carried_rows(form.isa, width, form.parts)

    @register_jitable
    def carry_window(
        a: Any, n: int, padded: int, block: int, first_block: int, b: int, t0: int, chunk: int
    ) -> None:
        step(a, n, padded, block, first_block, b, t0, chunk)
        unit, apart = block * width, (a.window + 1) * width
        products, sums = a.scratch + a.at_products, a.scratch + a.at_sums
        size, gate_apart = a.inputs * width, a.panels * a.inputs * PANEL
        weight = a.weight_traces + (block * a.batch + b) * gate_count * size * 4
        gradient = a.weight_gradient + (unit // PANEL * a.inputs * PANEL + unit % PANEL) * 4
        if is_complex:
            carry(a.inputs, weight, size, gradient, gate_apart, products, sums, apart)
        else:
            for g in range(gate_count):
                out = gradient + g * gate_apart * 4
                carry(a.inputs, weight + g * size * 4, 0, out, 0, products, sums, apart)
        carry_own(a, n, block, b, products, sums)
        add(a, n, b, t0, weight, gradient, products, sums)

    return carry_window


def clearer(form: Form) -> Callable[..., None]:
    """Return a function that fills the gradients of a block with zeros."""
    width, gate_count, own_count, own_rows = form.width, form.gates, form.own, form.own_rows

    @register_jitable
    def clear_gradients(a: Any, block: int) -> None:
        unit = block * width
        for g in range(gate_count):
            at = (g * a.panels + unit // PANEL) * a.inputs * PANEL + unit % PANEL
            rows = carray(pointer(a.weight_gradient + at * 4, np.float32), a.inputs * PANEL)
            for k in range(a.inputs):
                for lane in range(width):
                    rows[k * PANEL + lane] = np.float32(0)
        for i in range(own_count):
            for r in range(own_rows):
                at = own_parameter(a, i)[1] + (r * a.panels * PANEL + unit) * 4
                row = carray(pointer(at, np.float32), width)
                for lane in range(width):
                    row[lane] = np.float32(0)

    return clear_gradients


def forgetter(form: Form) -> Callable[..., None]:
    """Return a function that fills the traces of a block of one stream with zeros."""
    size, own_size = form.gates * form.width, form.own_rows * form.parts * form.width
    own_count = form.own

    @register_jitable
    def forget(a: Any, block: int, b: int) -> None:
        at = block * a.batch + b
        clear(a.weight_traces + at * a.inputs * size * 4, a.inputs * size)
        for i in range(own_count):
            clear(own_parameter(a, i)[0] + at * own_size * 4, own_size)

    return forget
