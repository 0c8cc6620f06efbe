"""Finite differences on a GPU, of losses of a model whose parameters are moved between its passes; see ``cpu``."""

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.layout import THREADS, element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Double,
    Real,
    Size,
    finite,
    load_f32,
    load_f64,
    load_i64,
    shared,
    store_f32,
    store_f64,
    store_i64,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.cuda.sums import SLOT, block_sum
from fgnumba.kernels.ops.differences import BACK, FORTH, RETURN
from fgnumba.kernels.shared.loss.cuda import FINITE
from fgnumba.validation.launcher import launcher

__all__ = ["BACK", "FORTH", "RETURN", "bind_central", "bind_keep", "bind_nudge", "bind_scatter"]

_BYTES = 2 * SLOT


@launcher
def bind_keep(values: DeviceArray, out: DeviceArray, index: int) -> Operation:
    """Bind ``out[index] = values[0]``.

    Parameters
    ----------
    values : DeviceArray
        Float64, whose first is copied.
    out : DeviceArray
        Float64, written.
    index : int
        Place in `out`.

    Returns
    -------
    Operation
        The launch.
    """
    arguments = {"values": values, "out": out[index : index + 1]}
    return Operation("keep", (Launch(_keep, (1, 1, 1), arguments),), keeps=(values, out))


@kernel("difference-keep", threads=32)
def _keep(values: Address, out: Address) -> None:
    if thread() == 0:
        store_f64(out, load_f64(values))


@launcher
def bind_nudge(places: DeviceArray, saved: DeviceArray, index: int, side: int, epsilon: float) -> Operation:
    """Bind a move of one entry of a parameter.

    FORTH saves the entry and adds ε, BACK sets it to ε below what was saved, RETURN sets it to what was saved.

    Parameters
    ----------
    places : DeviceArray
        (K,) int64, addresses of entries on the GPU, read when the operation runs.
    saved : DeviceArray
        (K,) float32, the saved entries.
    index : int
        Number of the entry.
    side : int
        FORTH, BACK or RETURN.
    epsilon : float
        ε.

    Returns
    -------
    Operation
        The launch.
    """
    arguments = {
        "place": places[index : index + 1],
        "saved": saved[index : index + 1],
        "side": side,
        "epsilon": np.float32(epsilon),
    }
    return Operation("nudge", (Launch(_nudge, (1, 1, 1), arguments),), keeps=(places, saved))


@kernel("difference-nudge", threads=32)
def _nudge(place: Address, saved: Address, side: Size, epsilon: Real) -> None:
    if thread() != 0:
        return
    entry = load_i64(place)
    if side == FORTH:
        value = load_f32(entry)
        store_f32(saved, value)
        store_f32(entry, value + epsilon)
    elif side == BACK:
        store_f32(entry, load_f32(saved) - epsilon)
    else:
        store_f32(entry, load_f32(saved))


@launcher
def bind_central(
    losses: DeviceArray,
    epsilon: float,
    values: DeviceArray,
    result: DeviceArray,
    weighted: DeviceArray,
    share: float,
) -> Operation:
    """Bind the central differences of losses, as ``cpu.bind_central`` does.

    Parameters
    ----------
    losses : DeviceArray
        (2 K,) float64, the losses after each move forth and back.
    epsilon : float
        ε.
    values : DeviceArray
        (1 + K,) float64, written: the mean loss and the differences d_k.
    result : DeviceArray
        (1,) ``loss.RESULT``, written: whether all are finite.
    weighted : DeviceArray
        (1 + K,) float64, written: the mean loss and share · d_k.
    share : float
        The factor.

    Returns
    -------
    Operation
        The launch.
    """
    arguments = {
        "losses": losses,
        "count": len(losses) // 2,
        "epsilon": float(epsilon),
        "values": values,
        "result": result,
        "weighted": weighted,
        "share": float(share),
    }
    keeps = (losses, values, result, weighted)
    return Operation("central", (Launch(_central, (1, 1, 1), arguments),), keeps=keeps)


@kernel("difference-central")
def _central(
    losses: Address,
    count: Size,
    epsilon: Double,
    values: Address,
    result: Address,
    weighted: Address,
    share: Double,
) -> None:
    slots = shared(_BYTES)
    total, bad = np.float64(0), np.float64(0)
    for k in range(thread(), count, THREADS):
        forth, back = load_f64(losses + 16 * k), load_f64(losses + 16 * k + 8)
        derivative = (forth - back) / (np.float64(2) * epsilon)
        store_f64(values + 8 * (1 + k), derivative)
        store_f64(weighted + 8 * (1 + k), share * derivative)
        total = total + (forth + back)
        if not finite(derivative):
            bad = np.float64(1)
    mean = block_sum(total, slots) / (np.float64(2) * np.float64(count))
    bad = block_sum(bad, slots + SLOT)
    if thread() == 0:
        store_f64(values, mean)
        store_f64(weighted, mean)
        store_i64(result + FINITE, 1 if bad == np.float64(0) and finite(mean) else 0)


@launcher
def bind_scatter(
    places: DeviceArray,
    values: DeviceArray,
    factor: float,
    result: DeviceArray,
) -> Operation:
    """Bind g_j ← g_j + factor d_k for some entries of a gradient, as ``cpu.bind_scatter`` does.

    Parameters
    ----------
    places : DeviceArray
        (K,) int64, addresses of the entries, all different.
    values : DeviceArray
        (K,) float64, d.
    factor : float
        The factor.
    result : DeviceArray
        (1,) ``loss.RESULT``; nothing is done where it is not finite.

    Returns
    -------
    Operation
        The launch.
    """
    arguments = {
        "places": places,
        "values": values,
        "count": len(places),
        "factor": float(factor),
        "result": result,
    }
    launch = elementwise(_scatter, len(places), arguments)
    return Operation("scatter", (launch,), keeps=(places, values, result))


@kernel("difference-scatter")
def _scatter(places: Address, values: Address, count: Size, factor: Double, result: Address) -> None:
    k = element()
    if k >= count or load_i64(result + FINITE) == 0:
        return
    entry = load_i64(places + 8 * k)
    store_f32(entry, load_f32(entry) + np.float32(factor * load_f64(values + 8 * k)))
