"""Descent along a forward gradient on a GPU: one pass over the parameters, the directions drawn again; see ``cpu``.

    g = (1 / T) Σ_t d_t v_t
    STORE      θ = g
    SGD        θ ← θ - η g
    MOMENTUM   m ← μ m + g,  θ ← θ - η m

A first kernel decides whether anything is updated, and writes d_t / T in float32. A second updates; there are three:

- rank 1: a block takes 128 rows of a panel. For 16 directions at a time, it draws u and d w / T into shared memory as
  numbers; a thread adds up the outer products of 4 rows and 4 lanes in registers, in 18 instructions a direction.
- signs: likewise, but for 8 directions at a time, words with the rows' signs are drawn, one draw a thread.
- Gaussian: a thread takes the 8 entries that one draw of Philox gives.
"""

from collections.abc import Sequence

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import THREADS, element
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Floats,
    Size,
    barrier,
    block_x,
    block_y,
    divide,
    finite,
    fma_outer,
    load_f32,
    load_f64,
    load_i64,
    shared,
    shared_load_f32x4,
    shared_load_u32,
    shared_store_f32,
    shared_store_u32,
    store_f32,
    store_i64,
    thread,
    zeros,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.cuda.sums import SLOT, block_sum
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.ops.descent import SGD
from fgnumba.kernels.ops.descent.moves_cuda import move_one, move_rows
from fgnumba.kernels.ops.optimizer.cuda import LEARNING_RATE, RATES
from fgnumba.kernels.rules.directions import GAUSSIAN, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions.cuda import pick, sign_words, signed_one, turned
from fgnumba.kernels.rules.philox import ENTRY, LEFT, RIGHT
from fgnumba.kernels.shared.drawn.cuda import PAIRS, counter, gaussian_quad, store_words
from fgnumba.kernels.shared.loss.cuda import FINITE
from fgnumba.validation.launcher import launcher

_ROWS = 128
"""Number of rows of a panel that a block takes: one draw of Philox holds their signs in u."""

_OUTER = 16  # directions at a time, of rank 1
_FACTORS = 4 * (_ROWS + PANEL)  # bytes of u and w
_DRAWN = 4 * 5  # bytes of their words
_OUTER_BYTES = _OUTER * (_FACTORS + _DRAWN)

_SIGNS = THREADS // (_ROWS // 4)  # directions at a time, of other signs
_SIGN_BYTES = _SIGNS * _ROWS * 4

_ZERO = np.float32(0)

_PARAMETER = np.dtype([(name, np.int64) for name in ("theta", "moment", "rows", "down", "work", "parameter")])
"""An entry of a launch's table of parameters: addresses, and how its panels are shared by blocks."""

_ENTRY = _PARAMETER.itemsize
_WORK = 4


@launcher
def bind(
    isa: object,
    threads: int,
    *,
    theta: DeviceArray,
    kind: int,
    count: int,
    parameter: int,
    stream: DeviceArray,
    values: DeviceArray,
    result: DeviceArray,
    rates: DeviceArray | None,
    rule: int = SGD,
    moment: DeviceArray | None = None,
    first: int = 0,
) -> Operation:
    """Bind the update of one parameter, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    theta : DeviceArray
        The parameter, packed, updated.
    kind, count, parameter, first : int
        The directions, as the dual pass drew them: kind, number T, index of the parameter and of the first direction.
    stream : DeviceArray
        (1,) ``philox.STREAM``.
    values : DeviceArray
        (1 + T,) float64, the loss and d_t.
    result : DeviceArray
        (1,) ``loss.RESULT``. Nothing is updated where `finite` is 0; it becomes 0 where an update were not finite.
    rates : DeviceArray or None
        (1,) ``optimizer.cpu.RATES``: learning rate and momentum; None for STORE.
    rule : int
        STORE, SGD or MOMENTUM.
    moment : DeviceArray or None
        m for MOMENTUM, packed like theta.

    Returns
    -------
    Operation
        The launches.

    Notes
    -----
    Cost: reads and writes theta (and moment) once; one multiply-add an entry and direction.
    """
    (operation,) = bind_all(
        isa,
        threads,
        thetas=[theta],
        kind=kind,
        count=count,
        parameters=[parameter],
        stream=stream,
        values=values,
        result=result,
        rates=rates,
        rule=rule,
        moments=None if moment is None else [moment],
        first=first,
    )
    return operation


@launcher
def bind_all(
    isa: object,
    threads: int,
    *,
    thetas: Sequence[DeviceArray],
    kind: int,
    count: int,
    parameters: Sequence[int],
    stream: DeviceArray,
    values: DeviceArray,
    result: DeviceArray,
    rates: DeviceArray | None,
    rule: int = SGD,
    moments: Sequence[DeviceArray] | None = None,
    first: int = 0,
) -> list[Operation]:
    """Bind the update of many parameters, as ``cpu.bind_all`` does: one launch for all that one kernel can update.

    Parameters are those of :func:`bind`, with a list of parameters, of their indices and of their moments.

    Cost: the sum of the parameters' costs, in two or three launches.
    """
    driver = thetas[0].driver
    rates = DeviceArray.zeros(driver, (1,), RATES) if rates is None else rates
    coefficients = DeviceArray.zeros(driver, (count,))
    arguments = {
        "count": count,
        "first": first,
        "stream": stream,
        "coefficients": coefficients,
        "result": result,
        "rates": rates,
        "rule": rule,
    }
    decide = {name: arguments[name] for name in ("count", "result", "rates", "coefficients")}
    launches = [Launch(_decide, (1, 1, 1), {"values": values, **decide})]
    rows: dict[int, list[tuple[int, ...]]] = {}
    for k, (theta, parameter) in enumerate(zip(thetas, parameters, strict=True)):
        one = RADEMACHER if theta.ndim == 1 and kind == RANK1 else kind
        moment = address(None if moments is None else moments[k])
        rows.setdefault(one, []).append((theta.address, moment, *_shares(theta, one), parameter))
    tables = []
    for one, found in rows.items():
        table = DeviceArray.zeros(driver, (len(found),), _PARAMETER)
        table.upload(np.array(found, _PARAMETER))
        tables.append(table)
        chosen = {RANK1: _outer, GAUSSIAN: _gaussians}.get(one, _signs)
        blocks = max(-(-row[_WORK] // (THREADS if one == GAUSSIAN else 1)) for row in found)
        launches.append(Launch(chosen, (blocks, len(found), 1), {"table": table, **arguments}))
    keeps = (*thetas, *(moments or ()), stream, values, result, rates, coefficients, *tables)
    return [Operation("descent", tuple(launches), keeps=keeps)]


def _shares(theta: DeviceArray, kind: int) -> tuple[int, int, int]:
    """Return the rows of a panel, their shares, and the number of blocks (of threads where it is Gaussian)."""
    panels, rows = (1, theta.size // PANEL) if theta.ndim == 1 else theta.shape[:2]
    if kind == GAUSSIAN:
        quads = -(-rows // 4)
        return rows, quads, panels * quads * PAIRS
    return rows, -(-rows // _ROWS), panels * -(-rows // _ROWS)


@kernel("descent-decide")
def _decide(values: Address, count: Size, result: Address, rates: Address, coefficients: Address) -> None:
    slot = shared(SLOT)
    rate, bad = np.float32(load_f64(rates + LEARNING_RATE)), np.float64(0)
    for t in range(thread(), count, THREADS):
        coefficient = np.float32(load_f64(values + 8 * (1 + t)) / np.float64(count))
        store_f32(coefficients + 4 * t, coefficient)
        if not finite(np.float64(rate * coefficient)):
            bad = np.float64(1)
    bad = block_sum(bad, slot)
    # Every block comes to the same decision: no parameter is updated.
    if thread() == 0 and bad > np.float64(0):
        store_i64(result + FINITE, 0)


@device_function
def _parameter(table: int) -> tuple[int, int, int, int, int, int]:
    """Return the address of the table's entry for a block's parameter, numbered along the grid's second axis."""
    entry = table + _ENTRY * block_y()
    return (
        load_i64(entry),
        load_i64(entry + 8),
        load_i64(entry + 16),
        load_i64(entry + 24),
        load_i64(entry + 32),
        load_i64(entry + 40),
    )


@kernel("descent-rank1", resident=4)
def _outer(
    table: Address,
    count: Size,
    first: Address,
    stream: Address,
    coefficients: Address,
    result: Address,
    rates: Address,
    rule: Size,
) -> None:
    factors = shared(_OUTER_BYTES)
    theta, moment, rows, down, blocks, parameter = _parameter(table)
    if block_x() >= blocks or load_i64(result + FINITE) == 0:
        return
    words = factors + _OUTER * _FACTORS
    panel, block = divide(block_x(), down)
    row, lane = thread() // 8 * 4, thread() % 8 * 4
    g = zeros(16)
    for start in range(0, count, _OUTER):
        directions = count - start if count - start < _OUTER else _OUTER
        # One warp draws: half of it u, half of it w.
        t = thread() % _OUTER
        if thread() < 2 * _OUTER and t < directions:
            right = thread() >= _OUTER
            quad, purpose = (panel >> 2, RIGHT) if right else (block, LEFT)
            four = sign_words(stream, quad, 0, purpose, counter(first, start + t, parameter))
            if right:
                shared_store_u32(words + t * _DRAWN + 16, pick(four, panel & 3))
            else:
                store_words(words + t * _DRAWN, four)
        barrier()
        for i in range(thread(), directions * (_ROWS + PANEL), THREADS):
            t, place = divide(i, _ROWS + PANEL)
            value = signed_one(shared_load_u32(words + t * _DRAWN + place // PANEL * 4), place % PANEL)
            if place >= _ROWS:
                value = value * load_f32(coefficients + 4 * (start + t))
            shared_store_f32(factors + t * _FACTORS + 4 * place, value)
        barrier()
        for t in range(directions):
            u = shared_load_f32x4(factors + t * _FACTORS + 4 * row)
            w = shared_load_f32x4(factors + t * _FACTORS + 4 * (_ROWS + lane))
            g = fma_outer(g, u, w)
    at = 4 * ((panel * rows + block * _ROWS + row) * PANEL + lane)
    left = rows - block * _ROWS - row
    move_rows(rule, rates, theta, moment, at, left, g[0:4], g[4:8], g[8:12], g[12:16])


@device_function
def _added(g: Floats, coefficient: np.float32, word: np.uint32, lane: int) -> Floats:
    """Return four entries of g, after those of one more direction of signs are added."""
    return (
        g[0] + turned(coefficient, word, lane),
        g[1] + turned(coefficient, word, lane + 1),
        g[2] + turned(coefficient, word, lane + 2),
        g[3] + turned(coefficient, word, lane + 3),
    )


@kernel("descent-signs", resident=5)
def _signs(
    table: Address,
    count: Size,
    first: Address,
    stream: Address,
    coefficients: Address,
    result: Address,
    rates: Address,
    rule: Size,
) -> None:
    words = shared(_SIGN_BYTES)
    theta, moment, rows, down, blocks, parameter = _parameter(table)
    if block_x() >= blocks or load_i64(result + FINITE) == 0:
        return
    panel, block = divide(block_x(), down)
    row, lane = thread() // 8 * 4, thread() % 8 * 4
    a, b, c, d = zeros(4), zeros(4), zeros(4), zeros(4)
    for start in range(0, count, _SIGNS):
        directions = count - start if count - start < _SIGNS else _SIGNS
        quad, t = thread() % (_ROWS // 4), thread() // (_ROWS // 4)
        if t < directions and block * _ROWS + 4 * quad < rows:
            c2 = counter(first, start + t, parameter)
            four = sign_words(stream, block * (_ROWS // 4) + quad, panel, ENTRY, c2)
            store_words(words + 4 * (t * _ROWS + 4 * quad), four)
        barrier()
        if block * _ROWS + row < rows:
            for t in range(directions):
                coefficient = load_f32(coefficients + 4 * (start + t))
                at = words + 4 * (t * _ROWS + row)
                a = _added(a, coefficient, shared_load_u32(at), lane)
                b = _added(b, coefficient, shared_load_u32(at + 4), lane)
                c = _added(c, coefficient, shared_load_u32(at + 8), lane)
                d = _added(d, coefficient, shared_load_u32(at + 12), lane)
        barrier()
    at = 4 * ((panel * rows + block * _ROWS + row) * PANEL + lane)
    left = rows - block * _ROWS - row
    move_rows(rule, rates, theta, moment, at, left, a, b, c, d)


@kernel("descent-gaussian", resident=5)
def _gaussians(
    table: Address,
    count: Size,
    first: Address,
    stream: Address,
    coefficients: Address,
    result: Address,
    rates: Address,
    rule: Size,
) -> None:
    e = element()
    theta, moment, rows, down, n, parameter = _parameter(table)
    if e >= n or load_i64(result + FINITE) == 0:
        return
    j = e % PAIRS
    panel, quad = divide(e // PAIRS, down)
    g = zeros(8)
    for t in range(count):
        drawn = gaussian_quad(stream, quad, panel, j, counter(first, t, parameter))
        g = fma_outer(g, (load_f32(coefficients + 4 * t),), drawn)
    row = 4 * quad
    at = 4 * ((panel * rows + row) * PANEL + j)
    half, line = 4 * PAIRS, 4 * PANEL
    move_one(rule, rates, theta, moment, at, g[0])
    move_one(rule, rates, theta, moment, at + half, g[1])
    if row + 1 < rows:
        move_one(rule, rates, theta, moment, at + line, g[2])
        move_one(rule, rates, theta, moment, at + line + half, g[3])
    if row + 2 < rows:
        move_one(rule, rates, theta, moment, at + 2 * line, g[4])
        move_one(rule, rates, theta, moment, at + 2 * line + half, g[5])
    if row + 3 < rows:
        move_one(rule, rates, theta, moment, at + 3 * line, g[6])
        move_one(rule, rates, theta, moment, at + 3 * line + half, g[7])
