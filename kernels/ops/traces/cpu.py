"""Real-time recurrent learning on the CPU: a window of steps of the traces of one recurrent layer.

    E_t = D_t E_(t-1) + a_t x_t        G = Σ_t d_t E_t        for every weight; x_t = 1 for what is added to each step

D_t = ∂c_t/∂c_(t-1) and a_t, the immediate derivative, follow from gates and states (``emit.recurrence``), and
d_t = ∂f/∂c_t. A unit's state depends on its own column of weights alone, so that E has the size of the weights for each
stream.

Steps are taken n at a time. Within such a window, p_(t'+1) is the product of the factors after step t', and λ_(t'+1)
sums d_t times the products since t'. Then, with p_0 and λ_0 of what came in before,

    G += λ_0 E + Σ_t' a_t' x_t' λ_(t'+1)        E ← p_0 E + Σ_t' a_t' x_t' p_(t'+1)

Nothing runs backwards, and no step before the window is kept. If x_t are symbols, only one row of the sums is touched
in a step. Otherwise the sums are matrix products with the window's inputs, on the register tile.

Sources: R. J. Williams, D. Zipser, Neural Computation 1 (1989); K. Irie et al., arXiv 2305.19044.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import (
    FORMULAS,
    STARTS,
    call,
    carried_rows,
    one_row,
    pointer,
    recurrence_steps,
    summed_row,
    weighed_rows,
    window_products,
)
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, PARTS_A_THREAD, heights, split, tile_count, tile_rows
from fgnumba.kernels.ops.example_panels.cpu import transpose
from fgnumba.kernels.ops.traces import (
    BLOCK_NUMBERS,
    BLOCK_SYMBOLS,
    GATES,
    PARAMETERS,
    PARTS,
    WINDOW_NUMBERS,
    WINDOW_SYMBOLS,
)
from fgnumba.kernels.ops.traces.constants import constants_of
from fgnumba.kernels.shared.product.register_tiles import LAST, ONE_SEGMENT, TILE_KINDS, tile_table
from fgnumba.validation.launcher import launcher

CHUNK = 64
"""The number of steps, a multiple of the windows, whose gates are brought to the second-level cache at a time."""

_OWN = 2
"""The most parameters beside the weight."""

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "length", "units", "inputs", "panels", "window", "carried"),
    *("gates", "gate_row", "first", "first_row", "signals", "signal_part"),
    *("weight_traces", "weight_gradient", "turned"),
    *(f"{name}{i}" for i in range(_OWN) for name in ("own", "traces", "gradient")),
    *(
        "at_constants",
        "at_rows",
        "at_products",
        "at_sums",
        "at_scaled",
        "at_gathered",
        "tiles",
        "tallest",
        "offsets",
    ),
)


@launcher
def bind(
    isa: InstructionSet,
    threads: int,
    *,
    recurrence: str,
    batch: int,
    units: int,
    x: Images,
    symbols: int,
    y: Images,
    gates: npt.NDArray[np.float32],
    first: npt.NDArray[np.float32],
    signals: npt.NDArray[np.float32],
    parameters: dict[str, npt.NDArray[np.float32]],
    traces: dict[str, npt.NDArray[np.float32]],
    gradients: dict[str, npt.NDArray[np.float32]],
    carried: bool = True,
) -> list[Operation]:
    """Bind a window of the traces of one layer: L steps of B streams.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    recurrence : str
        A key of ``kernels.ops.traces.PARAMETERS``.
    batch : int
        Number of streams B.
    units : int
        Number of units H; Hp is H rounded up to whole panels.
    x : Images
        The layer's input, (L, 1, K), or (1, 1, L) symbols.
    symbols : int
        Number of symbols V, or 0 if the input is not one of symbols. A symbol that is none of 0 ... V - 1 adds nothing.
    y : Images
        The states, (L, 1, H), or (L, 1, 2 H) if they are complex.
    gates : array, (B L, at least G Hp) float32
        The gates of all positions. Those of position t of stream b are in row b L + t, each gate's from a panel on.
    first : array, (B, at least Hp or 2 Hp) float32
        The states before the first step.
    signals : array, (panels, at least B L, PANEL) float32
        ∂f/∂c of all positions, in panels of units; those of imaginary parts come after those of real parts.
    parameters : dict of str to array
        The layer's parameters, packed.
    traces : dict of str to array
        The traces of each parameter (``kernels.ops.traces.trace_shapes``), which are taken to the end of the L steps.
    gradients : dict of str to array
        Written: the gradient of each parameter, packed.
    carried : bool
        Whether traces are carried from step to step. If not, a gradient has the immediate derivatives alone.

    Notes
    -----
    Cost, for one position, one vector of units and windows of n steps: n for p and λ; for symbols 2 G V (V is their
    number) over n for the traces and 2 G for the row of the symbol; otherwise 2 G K over n and 2 G K. Four times as
    many of the complex ones. Reads and writes the traces of all streams once, and reads gates, states and signals once.
    """
    width, window = (BLOCK_SYMBOLS, WINDOW_SYMBOLS) if symbols else (BLOCK_NUMBERS, WINDOW_NUMBERS)
    length = x.shape[2] if symbols else x.shape[0]
    inputs = symbols or x.shape[2]
    window = min(window, round_up(length, STARTS))
    parts, gate_count = PARTS[recurrence], GATES[recurrence]
    panels, blocks = round_up(units, PANEL) // PANEL, traces["weight"].shape[0]
    sharing = min(blocks, PARTS_A_THREAD * threads) if threads > 1 else 1
    values, memory = operands(x=x, y=y)
    constant_count, immediate_count = FORMULAS[recurrence][3:]
    rows = (window + 1) * width * 4
    places, end = lay_out(
        [
            ("at_constants", max(1, constant_count) * width * 4),
            ("at_rows", (2 * parts + immediate_count) * rows),
            ("at_products", parts * rows),
            ("at_sums", parts * rows),
            ("at_scaled", 0 if symbols else rows),
            ("at_gathered", -(-blocks // sharing) * CHUNK * (gate_count + parts) * width * 4),
        ]
    )
    own: dict[str, int] = {}
    for i, name in enumerate(PARAMETERS[recurrence]):
        own |= {
            f"own{i}": address(parameters[name]),
            f"traces{i}": address(traces[name]),
            f"gradient{i}": address(gradients[name]),
        }
    operations = []
    turned, tiles = None, None
    if not symbols:
        windows = -(-length // window)
        turned = np.zeros((batch * windows, inputs, window), np.float32)
        tiles = tile_table(isa, heights(inputs, isa.max_rows), 1, True, None)
        operations.append(_bind_turn(isa, threads, batch, length, inputs, window, x, turned))
    fields = {
        **values,
        **own,
        **places,
        "batch": batch,
        "length": length,
        "units": units,
        "inputs": inputs,
        "panels": panels,
        "window": window,
        "carried": carried,
        "gates": address(gates),
        "gate_row": gates.shape[1],
        "first": address(first),
        "first_row": first.shape[1],
        "signals": address(signals),
        "signal_part": panels * signals.shape[1] * PANEL,
        "weight_traces": address(traces["weight"]),
        "weight_gradient": address(gradients["weight"]),
        "turned": address(turned),
        "tiles": address(tiles),
        "tallest": isa.max_rows,
        "offsets": address(ONE_SEGMENT),
    }
    memory["keeps"] = (
        *(memory["keeps"], gates, first, signals, turned, tiles),
        *(dict(parameters), dict(traces), dict(gradients)),
    )
    if not symbols:
        memory["external"] = ()
    products = 0 if symbols else 2 * batch * length * inputs * units * gate_count
    operations.append(
        Operation(
            "traces",
            _entry(isa, recurrence, bool(symbols)),
            filled(_ARGUMENTS, fields),
            sharing,
            scratch_bytes=end,
            multiply_adds=products,
            **memory,
        )
    )
    return operations


@cache
def _entry(isa: InstructionSet, recurrence: str, symbols: bool) -> int:
    width = BLOCK_SYMBOLS if symbols else BLOCK_NUMBERS
    parts, gate_count, own_count = PARTS[recurrence], GATES[recurrence], len(PARAMETERS[recurrence])
    is_complex = parts == 2
    own_rows = 1 if parts == 2 or recurrence == "linear" else gate_count
    # The first immediate derivatives of each parameter beside the weight.
    own_first = {
        "elementwise_lstm": (2, 0),
        "min_gru": (0, 0),
        "linear": (1, 0),
        "complex_linear": (2, 4),
    }[recurrence]
    steps = recurrence_steps(isa, width, recurrence)
    multiply = window_products(isa, width, parts)
    carry = carried_rows(isa, width, parts)
    carry_own = carried_rows(isa, width, 1)
    add_symbol, add_all = one_row(isa, width), summed_row(isa, width, parts)
    weigh, write_constants = weighed_rows(isa, width), constants_of(recurrence)
    row_bytes = width * 4

    @register_jitable
    def own_parameter(a: Any, i: int) -> tuple[int, int, int]:
        if i == 0:
            return a.own0, a.traces0, a.gradient0
        return a.own1, a.traces1, a.gradient1

    @register_jitable
    def carry_window(
        a: Any, n: int, steps_padded: int, block: int, first_block: int, b: int, t0: int, chunk: int
    ) -> None:
        """Take the traces of one block of one stream through a window of n steps."""
        unit = block * width
        panel, lane = unit // PANEL, unit % PANEL
        apart = (a.window + 1) * width
        rows, products, sums = a.scratch + a.at_rows, a.scratch + a.at_products, a.scratch + a.at_sums
        immediates = rows + 2 * parts * apart * 4
        at = b * a.length + t0
        each = (gate_count + parts) * width
        gates = a.scratch + a.at_gathered + ((block - first_block) * CHUNK + t0 - chunk) * each * 4
        states = gates + gate_count * row_bytes
        before, before_part = states - each * 4, width
        if t0 == chunk and t0 > 0:
            before, before_part = a.y + (b * a.y_image + (t0 - 1) * a.y_row + unit) * 4, a.units
        if t0 == 0:
            before, before_part = a.first + (b * a.first_row + unit) * 4, a.panels * PANEL
        signals = a.signals + (panel * (a.signal_part // a.panels) + at * PANEL + lane) * 4
        steps(
            *(n, a.carried, gates, width, each, before, before_part, states, width, each),
            *(signals, a.signal_part, PANEL, a.scratch + a.at_constants, rows, apart),
        )
        if steps_padded > n:
            pad(a, n, steps_padded, apart)
        multiply(steps_padded, rows, rows + parts * apart * 4, apart, products, sums)
        weight = a.weight_traces + (block * a.batch + b) * gate_count * a.inputs * row_bytes
        gate_apart = a.panels * a.inputs * PANEL
        gradient = a.weight_gradient + (panel * a.inputs * PANEL + lane) * 4
        if is_complex:
            carry(a.inputs, weight, a.inputs * width, gradient, gate_apart, products, sums, apart)
        else:
            for g in range(gate_count):
                e = weight + g * a.inputs * row_bytes
                carry(a.inputs, e, 0, gradient + g * gate_apart * 4, 0, products, sums, apart)
        for i in range(own_count):
            _, own_traces, own_gradient = own_parameter(a, i)
            e = own_traces + (block * a.batch + b) * own_rows * parts * row_bytes
            for r in range(own_rows):
                out = own_gradient + (r * a.panels * PANEL + unit) * 4
                at_immediate = immediates + (own_first[i] + r) * apart * 4
                if is_complex:
                    carry_complex_own(e, out, products, sums, apart)
                else:
                    carry_own(1, e + r * row_bytes, 0, out, 0, products, sums, apart)
                add_all(
                    *(n, e + r * row_bytes, width, out, at_immediate),
                    *(products + row_bytes, sums + row_bytes, apart),
                )
        if symbols:
            scatter(a, n, b, t0, weight, gradient, gate_apart, immediates, products, sums, apart)
        else:
            add_products(a, n, b, t0, weight, gradient, gate_apart, immediates, products, sums, apart)

    @register_jitable
    def gather(a: Any, b: int, t0: int, n: int, begin: int, end: int) -> None:
        """Copy gates and states of n steps of a stream, row by row, to where each block has its own side by side."""
        for t in range(n):
            at = b * a.length + t0 + t
            for k in range(gate_count + parts):
                source = a.gates + (at * a.gate_row + k * a.panels * PANEL) * 4
                if k >= gate_count:
                    source = a.y + (b * a.y_image + (t0 + t) * a.y_row + (k - gate_count) * a.units) * 4
                row = carray(pointer(source + begin * row_bytes, np.float32), (end - begin) * width)
                for block in range(end - begin):
                    out = (
                        a.scratch
                        + a.at_gathered
                        + ((block * CHUNK + t) * (gate_count + parts) + k) * row_bytes
                    )
                    to = carray(pointer(out, np.float32), width)
                    for lane in range(width):
                        to[lane] = row[block * width + lane]

    @register_jitable
    def carry_complex_own(e: int, out: int, products: int, sums: int, apart: int) -> None:
        """Carry the trace of a real parameter of a complex recurrence: G += Re(λ E), E ← p E."""
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
    def pad(a: Any, n: int, end: int, apart: int) -> None:
        """Fill a window up with steps that change nothing: factors of 1, and no signals."""
        rows = carray(pointer(a.scratch + a.at_rows, np.float32), 2 * parts * apart)
        for part in range(parts):
            for k in range(n * width, end * width):
                rows[part * apart + k] = np.float32(1 - part)
                rows[(parts + part) * apart + k + width] = np.float32(0)

    @register_jitable
    def scatter(
        a: Any,
        n: int,
        b: int,
        t0: int,
        weight: int,
        gradient: int,
        gate_apart: int,
        immediates: int,
        products: int,
        sums: int,
        apart: int,
    ) -> None:
        """Add each step's immediate derivative to the rows of its symbol."""
        given = carray(pointer(a.x + (b * a.x_image + t0) * 4, np.float32), n)
        for t in range(n):
            if not (given[t] >= np.float32(0) and given[t] < np.float32(a.inputs)):
                continue
            symbol = np.int64(given[t])
            for g in range(gate_count):
                part = g if is_complex else 0
                to_traces = immediates + ((0 if is_complex else g) * apart + t * width) * 4
                to_gradient = immediates + (g * apart + t * width) * 4
                row = (part * apart + (t + 1) * width) * 4
                add_symbol(
                    *(weight + (g * a.inputs + symbol) * row_bytes,),
                    *(gradient + (g * gate_apart + symbol * PANEL) * 4,),
                    *(to_traces, products + row, to_gradient, sums + row),
                )

    @register_jitable
    def add_products(
        a: Any,
        n: int,
        b: int,
        t0: int,
        weight: int,
        gradient: int,
        gate_apart: int,
        immediates: int,
        products: int,
        sums: int,
        apart: int,
    ) -> None:
        """Add the products of the window's inputs with a p and a λ."""
        scaled = a.scratch + a.at_scaled
        windows = (a.length + a.window - 1) // a.window
        x = a.turned + (b * windows + t0 // a.window) * a.inputs * a.window * 4
        for g in range(gate_count):
            part = (g if is_complex else 0) * apart * 4 + row_bytes
            weigh(n, immediates + (0 if is_complex else g) * apart * 4, products + part, scaled)
            multiply_rows(a, n, x, scaled, weight + g * a.inputs * row_bytes)
            weigh(n, immediates + g * apart * 4, sums + part, scaled)
            multiply_rows(a, n, x, scaled, gradient + g * gate_apart * 4)

    @register_jitable
    def multiply_rows(a: Any, n: int, x: int, scaled: int, out: int) -> None:
        addresses = carray(pointer(a.tiles, np.int64), TILE_KINDS * (a.tallest + 1))
        count = tile_count(a.inputs, a.tallest)
        row = 0
        for tile in range(count):
            height = tile_rows(a.inputs, count, tile)
            entry, left = addresses[TILE_KINDS * height + LAST], x + row * a.window * 4
            call(
                entry,
                (1, a.offsets, n, left, 0, a.window, scaled, 0, 0, 0, out + row * PANEL * 4, 1),
            )
            row += height

    @register_jitable
    def clear(a: Any, block: int) -> None:
        unit = block * width
        for g in range(gate_count):
            at = a.weight_gradient + ((g * a.panels + unit // PANEL) * a.inputs * PANEL + unit % PANEL) * 4
            rows = carray(pointer(at, np.float32), a.inputs * PANEL)
            for k in range(a.inputs):
                for lane in range(width):
                    rows[k * PANEL + lane] = np.float32(0)
        for i in range(own_count):
            for r in range(own_rows):
                at = own_parameter(a, i)[2] + (r * a.panels * PANEL + unit) * 4
                row = carray(pointer(at, np.float32), width)
                for lane in range(width):
                    row[lane] = np.float32(0)

    def traces(arguments: int, part: int, parts_in_all: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        begin, end = split(a.panels * PANEL // width, parts_in_all, part)
        apart = (a.window + 1) * width
        rows = carray(pointer(a.scratch + a.at_rows, np.float32), 2 * parts * apart)
        for p in range(parts):
            for lane in range(width):
                rows[(parts + p) * apart + lane] = np.float32(0)
        for block in range(begin, end):
            clear(a, block)
        for b in range(a.batch):
            for chunk in range(0, a.length, CHUNK):
                rest = min(CHUNK, a.length - chunk)
                gather(a, b, chunk, rest, begin, end)
                for block in range(begin, end):
                    write_constants(
                        a.own0, a.own1, block * width, a.panels * PANEL, width, a.scratch + a.at_constants
                    )
                    for t0 in range(chunk, chunk + rest, a.window):
                        n = min(a.window, chunk + rest - t0)
                        carry_window(a, n, (n + STARTS - 1) // STARTS * STARTS, block, begin, b, t0, chunk)

    kind = "symbols" if symbols else "numbers"
    return kernel(f"traces-{recurrence}-{kind}-{isa.name}", traces, 3)


_TURN = record(*images.fields("x"), "batch", "length", "inputs", "window", "turned", "transpose")


def _bind_turn(
    isa: InstructionSet,
    threads: int,
    batch: int,
    length: int,
    inputs: int,
    window: int,
    x: Images,
    turned: npt.NDArray[np.float32],
) -> Operation:
    """Bind the transposition of each window of the input, to (B windows, K, n)."""
    values, memory = operands(x=x)
    fields = {
        **values,
        "batch": batch,
        "length": length,
        "inputs": inputs,
        "window": window,
        "turned": address(turned),
        "transpose": transpose(isa),
    }
    memory["keeps"] = (memory["keeps"], turned)
    windows = turned.shape[0]
    parts = min(windows, 1 if batch * length * inputs * ELEMENT_WORK < 500_000 else 4 * threads)
    return Operation("windows", kernel("traces-turn", _turn, 3), filled(_TURN, fields), parts, **memory)


def _turn(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _TURN), 1)[0]
    windows = (a.length + a.window - 1) // a.window
    begin, end = split(a.batch * windows, parts, part)
    for i in range(begin, end):
        b, t0 = i // windows, i % windows * a.window
        x = a.x + (b * a.x_image + t0 * a.x_row) * 4
        out = a.turned + i * a.inputs * a.window * 4
        call(a.transpose, (min(a.window, a.length - t0), a.inputs, x, a.x_row, out, a.window))


_TURNED = record("weight", "rows", "weight_panels", "first", "units", "turned", "turned_rows", "transpose")


@launcher
def bind_turned(
    isa: InstructionSet,
    threads: int,
    *,
    weight: npt.NDArray[np.float32],
    first: int,
    units: int,
    turned: npt.NDArray[np.float32],
) -> Operation:
    """Bind the transposition of some rows of a packed weight, so that its product takes errors back to states.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    threads : int
        Number of threads that may share the work.
    weight : array, (panels, K, PANEL) float32
        The packed weight (K, N) of a readout.
    first, units : int
        The first of its rows that are read, and their number H.
    turned : array, (ceil(H / PANEL), N rounded up to panels, PANEL) float32
        Written: the transposed rows (N, H), packed. Its padding of units must be zeros, and stays as it is.

    Notes
    -----
    Cost: reads and writes each element once.
    """
    fields = {
        "weight": address(weight),
        "rows": weight.shape[1],
        "weight_panels": weight.shape[0],
        "first": first,
        "units": units,
        "turned": address(turned),
        "turned_rows": turned.shape[1],
        "transpose": transpose(isa),
    }
    return Operation(
        "turned", kernel("traces-turned", _turned, 3), filled(_TURNED, fields), keeps=(weight, turned)
    )


def _turned(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _TURNED), 1)[0]
    for unit in range(0, a.units, PANEL):
        for panel in range(a.weight_panels):
            source = a.weight + (panel * a.rows + a.first + unit) * PANEL * 4
            out = a.turned + (unit * a.turned_rows + panel * PANEL * PANEL) * 4
            call(a.transpose, (min(PANEL, a.units - unit), PANEL, source, PANEL, out, PANEL))
