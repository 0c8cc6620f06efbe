"""What lets a GPU take steps that the host does not wait for: their settings in a table, their results in another.

advance    the settings of the next step go from the table to where operations read them
hold       after a step that did not end finite, none of the next moves anything
record     what a step found goes to the table of results
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
"""Of a step: what it draws from, its rates, the number of its first example in the order of the data."""

_STREAM_WORDS, _RATES_WORDS = STREAM.itemsize // 8, RATES.itemsize // 8
_WORDS = SETTINGS.itemsize // 8


@launcher
def bind_advance(
    *, table: DeviceArray, counter: DeviceArray, stream: DeviceArray, rates: DeviceArray, first: DeviceArray
) -> Operation:
    """Bind the next step's settings: row `counter` (1,) of `table` (K,) ``SETTINGS``; the counter goes on by one."""
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
    """Bind ``result.finite`` to 0 where `failed`, (1,) int64, is not 0: what follows then moves nothing."""
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
    """Bind the note of a step's `outcome`, ``RESULT`` and its values, in row `counter` - 1 of `results`.

    `failed` becomes 1 where the step did not end finite; else `last` takes the `coefficients` of its update.
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
