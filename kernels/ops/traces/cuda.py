"""Real-time recurrent learning on a GPU: a window of positions of the traces of one recurrent layer; see ``cpu``.

E_t = D_t E_(t-1) + a_t x_t        G = Σ_t d_t E_t        for every weight; x_t = 1 for what is added to each step

A thread takes an element of a parameter through all streams, one after the other, and holds its trace in a register:
on a GPU there are enough elements to go through the positions as the formula does. Neighbouring threads take
neighbouring units. D and a are written to memory before (``steps_cuda``), since each is read once for each input.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import BlockImages, element, elementwise, images
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import Address, Size, divide, load_f32, store_f32
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import Images
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.ops.traces import BLOCK_NUMBERS, BLOCK_SYMBOLS, GATES, PARAMETERS, PARTS
from fgnumba.kernels.ops.traces.steps_cuda import STEPS, Window
from fgnumba.validation.launcher import launcher

ONES, SYMBOLS, NUMBERS = 0, 1, 2
"""What an element's immediate derivative is multiplied by: 1, whether its symbol occurred, or its input."""

_ZERO, _ONE = np.float32(0), np.float32(1)


class Steps(NamedTuple):
    """What the traces read of each position.

    Parameters
    ----------
    address : Address
        Address of the sets of factors and immediate derivatives, (sets, B L, Hp).
    set : Size
        Elements from one set to the next.
    signals : Address
        Address of ∂f/∂c, in panels of units.
    signal_panel : Size
        Elements from one panel of them to the next.
    batch, length, padded, units : Size
        Numbers of streams B, of positions L, of units with padding Hp, and of units H.
    """

    address: Address
    set: Size
    signals: Address
    signal_panel: Size
    batch: Size
    length: Size
    padded: Size
    units: Size


class Traced(NamedTuple):
    """A parameter and its traces.

    Parameters
    ----------
    number : Size
        Threads: rows of all gates, of Hp units each.
    inputs : Size
        Rows of each gate, K or V; 1 for a vector.
    kind : Size
        What the immediate derivative is multiplied by: ONES, SYMBOLS or NUMBERS.
    derivative : Size
        Number of the set with the immediate derivative of the first gate.
    width : Size
        Units of a block of traces.
    rows : Size
        Rows of a block of traces.
    fresh : Size
        Whether the traces before the first position are zeros.
    traces, gradient : Address
        Addresses of the traces and of the gradient.
    """

    number: Size
    inputs: Size
    kind: Size
    derivative: Size
    width: Size
    rows: Size
    fresh: Size
    traces: Address
    gradient: Address


@launcher
def bind(
    isa: object,
    threads: int,
    *,
    recurrence: str,
    batch: int,
    units: int,
    x: Images,
    symbols: int,
    y: Images,
    gates: DeviceArray,
    first: DeviceArray,
    signals: DeviceArray,
    parameters: Mapping[str, DeviceArray],
    traces: Mapping[str, DeviceArray],
    gradients: Mapping[str, DeviceArray],
    carried: bool = True,
    fresh: bool = False,
) -> list[Operation]:
    """Bind a window of the traces of one layer, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    recurrence : str
        A key of ``kernels.ops.traces.PARAMETERS``.
    batch, units : int
        Numbers of streams B and of units H; Hp is H rounded up to whole panels.
    x : Images
        The layer's input, (L, 1, K), or (1, 1, L) symbols.
    symbols : int
        Number of symbols V, or 0 if the input is not one of symbols.
    y : Images
        The states, (L, 1, H), or (L, 1, 2 H) if they are complex.
    gates : DeviceArray
        (B L, at least G Hp) float32, the gates of all positions.
    first : DeviceArray
        (B, at least Hp or 2 Hp) float32, the states before the first position.
    signals : DeviceArray
        (panels, at least B L, 32) float32, ∂f/∂c of all positions, in panels of units.
    parameters, traces, gradients : dict of str to DeviceArray
        The layer's parameters, packed; their traces, which are taken to the end; and their gradients, written.
    carried : bool
        Whether traces are carried from position to position.
    fresh : bool
        Whether the traces before the first position are zeros, whatever `traces` hold.

    Returns
    -------
    list of Operation
        One operation: the factors and immediate derivatives, then the traces of each parameter.

    Notes
    -----
    Cost: 2 multiply-adds for each element of a parameter and each position, 6 of complex traces; each reads the factor,
    the immediate derivative and the signal, which threads of other inputs read as well, from caches. Traces are read
    and written once.
    """
    length = x.shape[2] if symbols else x.shape[0]
    padded, rows = -(-units // PANEL) * PANEL, batch * length
    steps, sets, derivatives = STEPS[recurrence]
    parts = PARTS[recurrence]
    work = DeviceArray.zeros(gates.driver, (sets, rows, padded))
    own = [parameters[name] for name in PARAMETERS[recurrence]]
    window = Window(
        number=rows * units,
        units=units,
        padded=padded,
        length=length,
        carried=int(carried),
        gates=address(gates),
        gate_row=gates.shape[1],
        before=address(first),
        before_row=first.shape[1],
        out=address(work),
        out_set=rows * padded,
    )
    arguments = {
        "w": window,
        "y": images(BlockImages, y),
        "own": address(own[0]),
        "other": address(own[-1]),
    }
    launches = [elementwise(steps, rows * units, arguments)]
    common = Steps(
        address=address(work),
        set=rows * padded,
        signals=address(signals),
        signal_panel=signals.shape[1] * PANEL,
        batch=batch,
        length=length,
        padded=padded,
        units=units,
    )
    for name in ("weight", *PARAMETERS[recurrence]):
        kind = ONES if name != "weight" else SYMBOLS if symbols else NUMBERS
        inputs = parameters[name].shape[1] if name == "weight" else 1
        _, _, trace_rows, width = traces[name].shape
        # One complex trace serves both columns of a complex weight.
        number = inputs * padded * (1 if parts == 2 else trace_rows // inputs)
        assert width == (BLOCK_SYMBOLS if symbols else BLOCK_NUMBERS)
        traced = Traced(
            number=number,
            inputs=inputs,
            kind=kind,
            derivative=derivatives[name],
            width=width,
            rows=trace_rows,
            fresh=int(fresh),
            traces=address(traces[name]),
            gradient=address(gradients[name]),
        )
        launches.append(_launch(parts, traced, common, x))
    products = 0 if symbols else 2 * rows * x.shape[2] * units * GATES[recurrence]
    keeps = (x.memory, y.memory, gates, first, signals, dict(parameters), dict(traces), dict(gradients), work)
    return [Operation("traces", tuple(launches), multiply_adds=products, keeps=keeps)]


def _launch(parts: int, traced: Traced, steps: Steps, x: Images) -> Launch:
    arguments = {"traced": traced, "steps": steps, "x": images(BlockImages, x)}
    return elementwise(_complex if parts == 2 else _real, traced.number, arguments)


@device_function
def _times(traced: Traced, x: int, k: int) -> np.float32:
    """Return the factor of input `k`'s immediate derivative; `x` is the address of the position's input."""
    if traced.kind == ONES:
        return _ONE
    if traced.kind == NUMBERS:
        return load_f32(x + 4 * k)
    return _ONE if load_f32(x) == np.float32(k) else _ZERO


@device_function
def _trace(traced: Traced, steps: Steps, b: int, row: int, h: int) -> int:
    """Return the address of a trace of a stream, given its row and its unit."""
    block, lane = divide(h, traced.width)
    return traced.traces + 4 * (((block * steps.batch + b) * traced.rows + row) * traced.width + lane)


@device_function
def _gradient(traced: Traced, steps: Steps, g: int, k: int, h: int) -> int:
    """Return the address of an element of the gradient, which is packed."""
    panel = (g * steps.padded + h) >> 5
    return traced.gradient + 4 * ((panel * traced.inputs + k) * 32 + (h & 31))


@device_function
def _signal(steps: Steps, h: int) -> int:
    """Return the address of the signal of a unit at the first position."""
    return steps.signals + 4 * ((h >> 5) * steps.signal_panel + (h & 31))


@kernel("traces")
def _real(traced: Traced, steps: Steps, x: BlockImages) -> None:
    e = element()
    if e >= traced.number:
        return
    row, h = divide(e, steps.padded)
    g, k = divide(row, traced.inputs)
    out = _gradient(traced, steps, g, k, h)
    if h >= steps.units:
        store_f32(out, _ZERO)
        return
    step = x.row if traced.kind == NUMBERS else 1
    factor, signal = steps.address + 4 * h, _signal(steps, h)
    derivative = factor + 4 * (traced.derivative + g) * steps.set
    total = _ZERO
    for b in range(steps.batch):
        kept, given = _trace(traced, steps, b, row, h), x.address + 4 * b * x.image
        trace = _ZERO if traced.fresh else load_f32(kept)
        sum_of_stream = _ZERO
        for _t in range(steps.length):
            trace = load_f32(factor) * trace + load_f32(derivative) * _times(traced, given, k)
            sum_of_stream = sum_of_stream + load_f32(signal) * trace
            factor += 4 * steps.padded
            derivative += 4 * steps.padded
            signal += 4 * 32
            given += 4 * step
        store_f32(kept, trace)
        total = total + sum_of_stream
    store_f32(out, total)


@kernel("traces-complex")
def _complex(traced: Traced, steps: Steps, x: BlockImages) -> None:
    e = element()
    if e >= traced.number:
        return
    k, h = divide(e, steps.padded)
    out = _gradient(traced, steps, 0, k, h)
    both = traced.kind != ONES
    if h >= steps.units:
        store_f32(out, _ZERO)
        if both:
            store_f32(_gradient(traced, steps, 1, k, h), _ZERO)
        return
    step = x.row if traced.kind == NUMBERS else 1
    factor, signal = steps.address + 4 * h, _signal(steps, h)
    derivative, part = factor + 4 * traced.derivative * steps.set, 4 * steps.set
    signal_part = 4 * (steps.padded >> 5) * steps.signal_panel
    total, other_total = _ZERO, _ZERO
    for b in range(steps.batch):
        kept, kept_part = _trace(traced, steps, b, k, h), _trace(traced, steps, b, traced.inputs + k, h)
        given = x.address + 4 * b * x.image
        real = _ZERO if traced.fresh else load_f32(kept)
        imaginary = _ZERO if traced.fresh else load_f32(kept_part)
        first, second = _ZERO, _ZERO
        for _t in range(steps.length):
            a, c, times = load_f32(factor), load_f32(factor + part), _times(traced, given, k)
            of_real = load_f32(derivative) * times
            of_imaginary = _ZERO if both else load_f32(derivative + part)
            real, imaginary = (
                a * real - c * imaginary + of_real,
                a * imaginary + c * real + of_imaginary,
            )
            d, d_part = load_f32(signal), load_f32(signal + signal_part)
            first = first + (d * real + d_part * imaginary)
            second = second + (d_part * real - d * imaginary)
            factor += 4 * steps.padded
            derivative += 4 * steps.padded
            signal += 4 * 32
            given += 4 * step
        store_f32(kept, real)
        store_f32(kept_part, imaginary)
        total, other_total = total + first, other_total + second
    store_f32(out, total)
    if both:
        store_f32(_gradient(traced, steps, 1, k, h), other_total)


@launcher
def bind_turned(
    isa: object,
    threads: int,
    *,
    weight: DeviceArray,
    first: int,
    units: int,
    turned: DeviceArray,
) -> Operation:
    """Bind the transposition of some rows of a packed weight, as ``cpu.bind_turned`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    weight : DeviceArray
        (panels, K, 32) float32, the packed weight (K, N) of a readout.
    first, units : int
        The first of its rows that are read, and their number H.
    turned : DeviceArray
        (ceil(H / 32), N rounded up to panels, 32) float32, written: the transposed rows (N, H), packed.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads and writes each element once.
    """
    columns = weight.shape[0] * PANEL
    arguments = {
        "weight": weight,
        "rows": weight.shape[1],
        "offset": first,
        "units": units,
        "columns": columns,
        "turned": turned,
        "turned_panel": turned.shape[1] * PANEL,
    }
    return Operation("turned", (elementwise(_turn, columns * units, arguments),), keeps=(weight, turned))


@kernel("traces-turned")
def _turn(
    weight: Address,
    rows: Size,
    offset: Size,
    units: Size,
    columns: Size,
    turned: Address,
    turned_panel: Size,
) -> None:
    e = element()
    if e >= columns * units:
        return
    n, h = divide(e, units)
    source = weight + 4 * (((n >> 5) * rows + offset + h) * 32 + (n & 31))
    store_f32(turned + 4 * ((h >> 5) * turned_panel + 32 * n + (h & 31)), load_f32(source))
