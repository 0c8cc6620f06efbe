"""Gauss-Newton steps in the span of T directions, on a GPU; see the package and ``cpu``.

A block takes 16 x 16 pairs of directions, one pair a thread, and reads some entries of its rows at a time into shared
memory, where each serves 16 pairs. Sums over these entries are float32; they are added up in float64 and in order.
"""

import math
from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Double,
    Size,
    barrier,
    block_x,
    block_y,
    divide,
    load_f32,
    load_f64,
    load_i64,
    shared,
    shared_load_f32,
    shared_store_f32,
    store_f32,
    store_f64,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.ops.gauss_newton import CURVATURE, DEPENDENT, HIGHEST, LAMBDA, MEMORY, RATE, SLOPE
from fgnumba.kernels.ops.optimizer.cuda import LEARNING_RATE
from fgnumba.kernels.rules.damping import adapted, mean_with
from fgnumba.kernels.shared.cholesky import cuda as cholesky
from fgnumba.kernels.shared.loss import MOST
from fgnumba.kernels.shared.loss.cuda import FINITE
from fgnumba.validation.launcher import launcher

_TILE = 16
_ENTRIES = 64  # of the rows at a time
_STRIDE = 4 * (_ENTRIES + 1)  # one more, so that what the threads of a warp read lies in different banks
_BYTES = 2 * _TILE * _STRIDE
_LAMBDA, _SLOPE, _CURVATURE, _RATE, _HIGHEST = (4 * n for n in (LAMBDA, SLOPE, CURVATURE, RATE, HIGHEST))
_ZERO_32 = np.float32(0)
_ZERO, _ONE = np.float64(0), np.float64(1)


@launcher
def bind(
    isa: object,
    threads: int,
    *,
    z: DeviceArray,
    curvature: DeviceArray,
    coupled: bool,
    gram: DeviceArray,
) -> list[Operation]:
    """Bind G, as ``cpu.bind`` does.

    Parameters
    ----------
    isa, threads : object, int
        Not used.
    z : DeviceArray
        (1 + T, B, ld) float32, outputs and their tangents, of which the first N columns are read.
    curvature : DeviceArray
        (B, N) float32, h; see ``ops.output_curvature``.
    coupled : bool
        Whether H has the term of rank 1.
    gram : DeviceArray
        (T, T) float64, written: the lower triangle of G.

    Returns
    -------
    list of Operation
        The rows, then the products.

    Notes
    -----
    Cost: T² B N / 2 multiply-adds; reads the rows T / 16 times.
    """
    (blocks, batch, ld), width = z.shape, curvature.shape[1]
    count, length = blocks - 1, batch * width
    rows = DeviceArray.zeros(z.driver, (count, length))
    factors = {
        "z": z,
        "ld": ld,
        "batch": batch,
        "width": width,
        "count": count,
        "curvature": curvature,
        "coupled": int(coupled),
        "rows": rows,
    }
    products = {
        "rows": rows,
        "count": count,
        "length": length,
        "scale": 1.0 / batch,
        "gram": gram,
    }
    tiles = -(-count // _TILE)
    return [
        Operation(
            "gauss-newton factors",
            (elementwise(_factors, count * batch, factors),),
            keeps=(z, curvature, rows),
        ),
        Operation("gauss-newton matrix", (Launch(_gram, (tiles, tiles, 1), products),), keeps=(rows, gram)),
    ]


@kernel("gauss-newton-factors")
def _factors(
    z: Address,
    ld: Size,
    batch: Size,
    width: Size,
    count: Size,
    curvature: Address,
    coupled: Size,
    rows: Address,
) -> None:
    t, i = divide(element(), batch)
    if t >= count:
        return
    h, dz = curvature + 4 * i * width, z + 4 * ((t + 1) * batch + i) * ld
    out = rows + 4 * (t * batch + i) * width
    total, mean = _ZERO, _ZERO
    for n in range(width):
        own = np.float64(load_f32(h + 4 * n))
        total = total + own
        mean = mean + own * np.float64(load_f32(dz + 4 * n))
    mean = mean / total if coupled != 0 and total > _ZERO else _ZERO
    for n in range(width):
        root = np.float64(math.sqrt(np.float64(load_f32(h + 4 * n))))
        store_f32(out + 4 * n, np.float32(root * (np.float64(load_f32(dz + 4 * n)) - mean)))


@kernel("gauss-newton-matrix")
def _gram(rows: Address, count: Size, length: Size, scale: Double, gram: Address) -> None:
    entries = shared(_BYTES)
    if block_y() > block_x():
        return
    ours = entries + thread() // _TILE * _STRIDE
    theirs = entries + (_TILE + thread() % _TILE) * _STRIDE
    total = _ZERO
    for first in range(0, length, _ENTRIES):
        for e in range(thread(), 2 * _TILE * _ENTRIES, _TILE * _TILE):
            member, k = e // _ENTRIES, e % _ENTRIES
            direction = (block_x() if member < _TILE else block_y()) * _TILE + member % _TILE
            value = _ZERO_32
            if direction < count and first + k < length:
                value = load_f32(rows + 4 * (direction * length + first + k))
            shared_store_f32(entries + member * _STRIDE + 4 * k, value)
        barrier()
        dot = _ZERO_32
        for k in range(_ENTRIES):
            dot = dot + shared_load_f32(ours + 4 * k) * shared_load_f32(theirs + 4 * k)
        total = total + np.float64(dot)
        barrier()
    t, s = block_x() * _TILE + thread() // _TILE, block_y() * _TILE + thread() % _TILE
    if t < count and s <= t:
        store_f64(gram + 8 * (t * count + s), total * scale)


@launcher
def bind_solve(
    *,
    values: DeviceArray,
    gram: DeviceArray,
    state: DeviceArray,
    damping: float,
    out: DeviceArray,
) -> Operation:
    """Bind T c_t in place of d_t, as ``cpu.bind_solve`` does, for ``descent``, which divides by T.

    Parameters
    ----------
    values, out : DeviceArray
        (1 + T,) float64: the loss and d_t; written, the loss and T c_t.
    gram : DeviceArray
        (T, T) float64, the lower triangle of G.
    state : DeviceArray
        (5,) float32, what is kept from step to step. If its λ is 0, λ is `damping` times the mean of G's diagonal.
    damping : float
        λ of the first step, over the mean of G's diagonal; 0: there is no damping.

    Cost: T³ / 6 multiply-adds, by one block, one column of the triangle after another.
    """
    count = len(gram)
    work = DeviceArray.zeros(values.driver, (cholesky.work_size(count),), np.float64)
    filled = {
        "values": values,
        "gram": gram,
        "state": state,
        "damping": float(damping),
        "count": count,
        "work": work,
    }
    solved = {"values": values, "count": count, "work": work, "out": out}
    launches = (
        elementwise(_fill, count * (count + 1), filled),
        Launch(_solve, (1, 1, 1), solved),
    )
    return Operation("gauss-newton solve", launches, keeps=(values, gram, state, work, out))


@device_function
def _damping_of(state: int, gram: int, count: int, damping: np.float64) -> np.float64:
    """Return λ: that of the state, or at the first step `damping` times the mean of G's diagonal."""
    found = np.float64(load_f32(state + _LAMBDA))
    if found > _ZERO or damping == _ZERO:
        return found
    trace = _ZERO
    for t in range(count):
        trace = trace + load_f64(gram + 8 * (t * count + t))
    return damping * trace / np.float64(count)


@kernel("gauss-newton-fill")
def _fill(
    values: Address, gram: Address, state: Address, damping: Double, count: Size, work: Address
) -> None:
    """Write G + λ I, and d behind it, as ``shared.cholesky`` reads them."""
    s, t = divide(element(), count + 1)
    if s >= count or t < s:
        return
    if t == count:
        store_f64(cholesky.entry(work, count, s, t), load_f64(values + 8 * (1 + s)))
        return
    value = load_f64(gram + 8 * (t * count + s))
    if s == t:
        value = value + _damping_of(state, gram, count, np.float64(damping))
    store_f64(cholesky.entry(work, count, s, t), value)


@kernel("gauss-newton-solve")
def _solve(values: Address, count: Size, work: Address, out: Address) -> None:
    cholesky.factor(work, count, DEPENDENT)
    cholesky.substitute(work, count, np.float64(count), out + 8)
    if thread() == 0:
        store_f64(out, load_f64(values))


@launcher
def bind_adapt(
    *,
    gram: DeviceArray,
    state: DeviceArray,
    damping: float,
    rate: float,
    judged: DeviceArray | None,
    square: DeviceArray | None,
    rates: Any,
    result: DeviceArray,
) -> Operation:
    """Bind the damping of the next step, as ``cpu.bind_adapt`` does.

    Parameters
    ----------
    gram : DeviceArray
        (T, T) float64, G of this step.
    state : DeviceArray
        (5,) float32, what is kept from step to step, updated unless the step failed.
    damping, rate : float
        As for :func:`bind_solve`; r, or 0: λ stays what it was at the first step, and nothing else is read.
    judged, square : DeviceArray or None
        (2,) and (1, 1) float64: the loss and ∇f·m; mᵀ G m.
    rates : DeviceArray
        (1,) ``optimizer.RATES``, the learning rate of this step.
    result : DeviceArray
        (1,) ``loss.RESULT``, whether the step is finite.
    """
    arguments = {
        "gram": gram,
        "count": len(gram),
        "state": state,
        "damping": float(damping),
        "rate": float(rate),
        "judged": 0 if judged is None else judged,
        "square": 0 if square is None else square,
        "rates": rates,
        "result": result,
    }
    launch = Launch(_adapt, (1, 1, 1), arguments)
    return Operation("gauss-newton damping", (launch,), keeps=(gram, state, judged, square, rates, result))


@kernel("gauss-newton-damping")
def _adapt(
    gram: Address,
    count: Size,
    state: Address,
    damping: Double,
    rate: Double,
    judged: Address,
    square: Address,
    rates: Address,
    result: Address,
) -> None:
    if thread() != 0 or load_i64(result + FINITE) == 0:
        return
    found = _damping_of(state, gram, count, np.float64(damping))
    if rate > _ZERO:
        eta, slope, bend = np.float64(load_f32(state + _RATE)), load_f64(judged + 8), load_f64(square)
        highest, newest = load_f32(state + _HIGHEST), np.float32(load_f64(rates + LEARNING_RATE))
        store_f32(state + _RATE, newest)
        store_f32(state + _HIGHEST, newest if newest > highest else highest)
        if abs(slope) <= MOST and bend <= MOST:
            slope = mean_with(np.float64(load_f32(state + _SLOPE)), -eta * slope, MEMORY)
            bend = mean_with(np.float64(load_f32(state + _CURVATURE)), eta * eta * bend, MEMORY)
            store_f32(state + _SLOPE, np.float32(slope))
            store_f32(state + _CURVATURE, np.float32(bend))
            share = eta / np.float64(highest) if highest > np.float32(0) else _ONE
            found = adapted(found, slope, bend, share, np.float64(rate))
    store_f32(state + _LAMBDA, np.float32(found))
