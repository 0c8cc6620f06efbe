"""Finite differences on the CPU, from the losses of a model whose parameters are moved between its passes.

    keep       f_k = the loss of the last pass
    nudge      θ_j ← θ_j + ε, θ_j - ε, or θ_j as it was
    central    d_k = (f_2k - f_2k+1) / 2 ε,  loss = mean f
    scatter    g_j ← g_j + c d_k

Here θ_j is one entry of all parameters, and the passes come in pairs, one at +ε and one at -ε.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.ops.differences import BACK, FORTH
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.validation.launcher import launcher

_KEEP = record("values", "out", "index")
_NUDGE = record("places", "saved", "index", "side", "epsilon")
_CENTRAL = record("losses", "count", "epsilon", "values", "result", "weighted", "share")
_SCATTER = record("places", "values", "count", "factor", "result")


@launcher
def bind_keep(values: npt.NDArray[np.float64], out: npt.NDArray[np.float64], index: int) -> Operation:
    """Bind out[index] = values[0], which stores the loss of the last pass.

    Parameters
    ----------
    values : array, (at least 1,) float64
        What the pass wrote, the loss first.
    out : array, float64
        Written: one of its entries.
    index : int
        Which of its entries.
    """
    fields = {"values": address(values), "out": address(out), "index": index}
    return Operation("keep", _keep_entry(), filled(_KEEP, fields), keeps=(values, out))


@cache
def _keep_entry() -> int:
    return kernel("difference-keep", _keep, 3)


def _keep(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _KEEP), 1)[0]
    carray(pointer(a.out, np.float64), a.index + 1)[a.index] = carray(pointer(a.values, np.float64), 1)[0]


@launcher
def bind_nudge(
    places: npt.NDArray[np.int64], saved: npt.NDArray[np.float32], index: int, side: int, epsilon: float
) -> Operation:
    """Bind a move of one entry of the parameters: to ε above its value, to ε below it, or back to it.

    Parameters
    ----------
    places : array, int64
        Addresses of entries, float32, read when the operation runs.
    saved : array, as long as `places`, float32
        The values of the entries before FORTH moved them.
    index : int
        Which of the entries is moved.
    side : int
        FORTH, BACK or RETURN. FORTH comes first, because it saves the value.
    epsilon : float
        ε.
    """
    fields = {
        "places": address(places),
        "saved": address(saved),
        "index": index,
        "side": side,
        "epsilon": int(np.float64(epsilon).view(np.int64)),
    }
    return Operation("nudge", _nudge_entry(), filled(_NUDGE, fields), keeps=(places, saved))


@cache
def _nudge_entry() -> int:
    return kernel("difference-nudge", _nudge, 3)


def _nudge(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _NUDGE), 1)[0]
    places = carray(pointer(a.places, np.int64), a.index + 1)
    saved = carray(pointer(a.saved, np.float32), a.index + 1)
    epsilon = np.float32(np.int64(a.epsilon).view(np.float64))
    entry = carray(pointer(places[a.index], np.float32), 1)
    if a.side == FORTH:
        saved[a.index] = entry[0]
        entry[0] = saved[a.index] + epsilon
    elif a.side == BACK:
        entry[0] = saved[a.index] - epsilon
    else:
        entry[0] = saved[a.index]


@launcher
def bind_central(
    losses: npt.NDArray[np.float64],
    epsilon: float,
    values: npt.NDArray[np.float64],
    result: npt.NDArray[Any],
    weighted: npt.NDArray[np.float64],
    share: float,
) -> Operation:
    """Bind the central differences of pairs of losses.

    Parameters
    ----------
    losses : array, (2 K,) float64
        The losses at +ε and at -ε, in turn.
    epsilon : float
        ε.
    values : array, (1 + K,) float64
        Written: the mean loss, then d_k.
    result : array, (1,) ``loss.RESULT``
        Written: whether all of them are finite.
    weighted : array, (1 + K,) float64
        Written: the mean loss, then share · d_k.
    share : float
        The factor of d_k in `weighted`.
    """
    fields = {
        "losses": address(losses),
        "count": len(losses) // 2,
        "epsilon": int(np.float64(epsilon).view(np.int64)),
        "values": address(values),
        "result": address(result),
        "weighted": address(weighted),
        "share": int(np.float64(share).view(np.int64)),
    }
    keeps = (losses, values, result, weighted)
    return Operation("central", _central_entry(), filled(_CENTRAL, fields), keeps=keeps)


@cache
def _central_entry() -> int:
    return kernel("difference-central", _central, 3)


def _central(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _CENTRAL), 1)[0]
    losses = carray(pointer(a.losses, np.float64), 2 * a.count)
    values = carray(pointer(a.values, np.float64), 1 + a.count)
    epsilon = np.int64(a.epsilon).view(np.float64)
    weighted = carray(pointer(a.weighted, np.float64), 1 + a.count)
    share = np.int64(a.share).view(np.float64)
    total, finite = np.float64(0), np.int64(1)
    for k in range(a.count):
        total += losses[2 * k] + losses[2 * k + 1]
        values[1 + k] = (losses[2 * k] - losses[2 * k + 1]) / (2.0 * epsilon)
        weighted[1 + k] = share * values[1 + k]
        if not np.isfinite(values[1 + k]):
            finite = np.int64(0)
    values[0] = total / (2.0 * a.count)
    weighted[0] = values[0]
    if not np.isfinite(values[0]):
        finite = np.int64(0)
    carray(pointer(a.result, RESULT), 1)[0].finite = finite


@launcher
def bind_scatter(
    places: npt.NDArray[np.int64],
    values: npt.NDArray[np.float64],
    factor: float,
    result: npt.NDArray[Any],
) -> Operation:
    """Bind g_j ← g_j + factor d_k for K entries.

    Parameters
    ----------
    places : array, (K,) int64
        Addresses of the entries g_j, float32.
    values : array, (K,) float64
        d_k.
    factor : float
        The factor.
    result : array, (1,) ``loss.RESULT``
        Nothing is added unless its `finite` is 1.
    """
    fields = {
        "places": address(places),
        "values": address(values),
        "count": len(places),
        "factor": int(np.float64(factor).view(np.int64)),
        "result": address(result),
    }
    return Operation("scatter", _scatter_entry(), filled(_SCATTER, fields), keeps=(places, values, result))


@cache
def _scatter_entry() -> int:
    return kernel("difference-scatter", _scatter, 3)


def _scatter(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _SCATTER), 1)[0]
    if carray(pointer(a.result, RESULT), 1)[0].finite == 0:
        return
    places = carray(pointer(a.places, np.int64), a.count)
    values = carray(pointer(a.values, np.float64), a.count)
    factor = np.int64(a.factor).view(np.float64)
    for k in range(a.count):
        entry = carray(pointer(places[k], np.float32), 1)
        entry[0] += np.float32(factor * values[k])
