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

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import FORMULAS, STARTS, call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, lay_out, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, round_up
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import ELEMENT_WORK, PARTS_A_THREAD, heights, split
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
from fgnumba.kernels.ops.traces.window import CHUNK, Form, carrier, clearer, forgetter, gatherer
from fgnumba.kernels.shared.product.register_tiles import ONE_SEGMENT, tile_table
from fgnumba.validation.launcher import launcher

_OWN = 2
"""The most parameters beside the weight."""

_ARGUMENTS = record(
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "length", "units", "inputs", "panels", "window", "carried", "fresh"),
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
    fresh: bool = False,
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
        Whether traces are carried from position to position. If not, a gradient has the immediate derivatives alone.
    fresh : bool
        Whether the traces before the first position are zeros, whatever `traces` hold. By default False.

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
        "fresh": fresh,
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
    form = Form(isa, recurrence, symbols)
    width, state_parts = form.width, form.parts
    clear, forget = clearer(form), forgetter(form)
    gather, carry = gatherer(form), carrier(form)
    write_constants = constants_of(recurrence)

    def traces(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _ARGUMENTS), 1)[0]
        begin, end = split(a.panels * PANEL // width, parts, part)
        apart = (a.window + 1) * width
        rows = carray(pointer(a.scratch + a.at_rows, np.float32), 2 * state_parts * apart)
        for p in range(state_parts):
            for lane in range(width):
                # The signal of the step before a window's first one.
                rows[(state_parts + p) * apart + lane] = np.float32(0)
        for block in range(begin, end):
            clear(a, block)
        constants = a.scratch + a.at_constants
        for b in range(a.batch):
            for chunk in range(0, a.length, CHUNK):
                rest = min(CHUNK, a.length - chunk)
                gather(a, b, chunk, rest, begin, end)
                for block in range(begin, end):
                    if a.fresh and chunk == 0:
                        forget(a, block, b)
                    write_constants(a.own0, a.own1, block * width, a.panels * PANEL, width, constants)
                    for t0 in range(chunk, chunk + rest, a.window):
                        n = min(a.window, chunk + rest - t0)
                        padded = (n + STARTS - 1) // STARTS * STARTS
                        carry(a, n, padded, block, begin, b, t0, chunk)

    kind = "symbols" if symbols else "numbers"
    return kernel(f"traces-{recurrence}-{kind}-{isa.vectors}", traces, 3)


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
