"""Tables that let a GPU take many steps while the host does not wait: one of settings, and one of results.

advance    copies the settings of the next step from their table to where operations read them
hold       keeps the steps after one that did not end finite from changing anything
record     writes what a step found to the table of results
"""

from typing import Any

import numpy as np

from fgnumba.kernels.cuda.kernel import kernel
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    WARP,
    Address,
    Size,
    barrier,
    load_f64,
    load_i64,
    store_f64,
    store_i64,
    thread,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.rules.philox import STREAM
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.validation.launcher import launcher

SETTINGS = np.dtype([("stream", STREAM), ("rates", RATES), ("first", np.int64)])
"""Settings of a step: the stream that it draws from, its rates, and its first example's number in the data's order."""

_STREAM_WORDS, _RATES_WORDS = STREAM.itemsize // 8, RATES.itemsize // 8
_WORDS = SETTINGS.itemsize // 8


@launcher
def bind_advance(
    *, table: DeviceArray, counter: DeviceArray, stream: DeviceArray, rates: DeviceArray, first: DeviceArray
) -> Operation:
    """Bind the copy of the next step's settings; the counter goes up by one.

    Parameters
    ----------
    table : DeviceArray
        (K,) ``SETTINGS``.
    counter : DeviceArray
        (1,) int64, the row of the table.
    stream : DeviceArray
        (1,) ``philox.STREAM``, written.
    rates : DeviceArray
        (1,) ``optimizer.cpu.RATES``, written.
    first : DeviceArray
        (1,) int64, written: the number of the step's first example.

    Returns
    -------
    Operation
        The launch.
    """
    arguments = {"table": table, "counter": counter, "stream": stream, "rates": rates, "first": first}
    launch = Launch(_advance, (1, 1, 1), arguments)
    return Operation("advance", (launch,), keeps=tuple(arguments.values()))


@kernel("advance", threads=WARP)
def _advance(table: Address, counter: Address, stream: Address, rates: Address, first: Address) -> None:
    row = load_i64(counter)
    t = thread()
    if t < _WORDS:
        word = load_i64(table + 8 * (row * _WORDS + t))
        if t < _STREAM_WORDS:
            store_i64(stream + 8 * t, word)
        elif t < _STREAM_WORDS + _RATES_WORDS:
            store_i64(rates + 8 * (t - _STREAM_WORDS), word)
        else:
            store_i64(first, word)
    barrier()
    if t == 0:
        store_i64(counter, row + 1)


@launcher
def bind_hold(*, result: DeviceArray, failed: DeviceArray) -> Operation:
    """Bind the setting of ``result.finite`` to 0 after a failed step, so that later operations change nothing.

    Parameters
    ----------
    result : DeviceArray
        (1,) ``loss.RESULT``, written.
    failed : DeviceArray
        (1,) int64, not 0 after a failed step.

    Returns
    -------
    Operation
        The launch.
    """
    assert RESULT.itemsize == 8
    launch = Launch(_hold, (1, 1, 1), {"result": result, "failed": failed})
    return Operation("hold", (launch,), keeps=(result, failed))


@kernel("hold", threads=WARP)
def _hold(result: Address, failed: Address) -> None:
    if thread() == 0 and load_i64(failed) != 0:
        store_i64(result, 0)


@launcher
def bind_record(
    *,
    outcome: DeviceArray,
    results: DeviceArray,
    counter: DeviceArray,
    failed: DeviceArray,
    coefficients: DeviceArray | None = None,
    last: DeviceArray | None = None,
) -> Operation:
    """Bind the record of a step's outcome in the table of results.

    Parameters
    ----------
    outcome : DeviceArray
        ``loss.RESULT`` and the values of the step, in words of 64 bits.
    results : DeviceArray
        (K, width), the table; row `counter` - 1 is written.
    counter : DeviceArray
        (1,) int64, the number of steps so far.
    failed : DeviceArray
        (1,) int64, set to 1 where the step did not end finite.
    coefficients : DeviceArray or None
        Float64, the coefficients of the step's update.
    last : DeviceArray or None
        Float64, written: the coefficients of the last step that ended finite.

    Returns
    -------
    Operation
        The launch.
    """
    arguments: dict[str, Any] = {
        "outcome": outcome,
        "results": results,
        "counter": counter,
        "failed": failed,
        "coefficients": 0 if coefficients is None else coefficients,
        "last": 0 if last is None else last,
        "count": outcome.size,
        "width": results.shape[1],
        "remembered": 0 if last is None else last.size,
    }
    return Operation("record", (Launch(_record, (1, 1, 1), arguments),), keeps=tuple(arguments.values()))


@kernel("record", threads=WARP)
def _record(
    outcome: Address,
    results: Address,
    counter: Address,
    failed: Address,
    coefficients: Address,
    last: Address,
    count: Size,
    width: Size,
    remembered: Size,
) -> None:
    t, row = thread(), load_i64(counter) - 1
    finite = load_i64(outcome)
    for i in range(t, width, WARP):
        store_f64(results + 8 * (row * width + i), load_f64(outcome + 8 * i) if i < count else np.float64(0))
    if finite != 0:
        for i in range(t, remembered, WARP):
            store_f64(last + 8 * i, load_f64(coefficients + 8 * i))
    if t == 0 and finite == 0:
        store_i64(failed, 1)
