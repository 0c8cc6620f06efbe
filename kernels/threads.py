"""Threads: how many, and under which of Numba's threading layers.

OpenMP first: a parallel call costs 1.5 µs there and 92 µs under Numba's workqueue. GNU OpenMP's threads spin
before they sleep, by default for milliseconds, which on a busy machine takes the time from whoever would
release them; here they spin for some tens of microseconds, the distance between two layers. Set before the
library loads, and only where the user has said nothing.

The layers' threads are not there in a forked child: Numba ends one that enters GNU OpenMP again. It runs on one thread.
"""

import os
from functools import cache

import numba
import numpy as np

from fgnumba.errors import DeviceError

OVERRIDE = "FGNUMBA_THREADS"
SPIN_COUNT = "10000"


def configure() -> None:
    """Choose threading layer and spinning, unless the environment already does."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & os.environ.keys():
        os.environ["GOMP_SPINCOUNT"] = SPIN_COUNT
    if not {"NUMBA_THREADING_LAYER", "NUMBA_THREADING_LAYER_PRIORITY"} & os.environ.keys():
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


def thread_count(requested: int | None = None) -> int:
    """Return `requested`, else ``FGNUMBA_THREADS``, else the number of processors that this process may use.

    Raises
    ------
    DeviceError
        Not a whole number from 1 to the processors that Numba started with.
    """
    available: int = numba.config.NUMBA_NUM_THREADS
    source, value = "threads", requested
    if value is None:
        text = os.environ.get(OVERRIDE)
        if not text:
            return available
        source = OVERRIDE
        value = int(text) if text.isdecimal() else 0
    if not 1 <= value <= available:
        given = os.environ.get(OVERRIDE) if requested is None else requested
        raise DeviceError(f"{source}: {given!r} is not a whole number from 1 to {available}")
    return value


_left_behind = False


def left_behind() -> bool:
    """Whether this process was forked from one whose threads had begun, which are not here."""
    return _left_behind


def _note_fork() -> None:
    global _left_behind
    _left_behind = _left_behind or _layer() is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def _layer() -> str | None:
    """Return the threading layer, None before the first parallel call."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


@cache
def one_caller_at_a_time() -> bool:
    """Whether Numba ends a process of which two threads make parallel calls at once."""
    return _layer() == "workqueue"


def try_threading_layer() -> str:
    """Return the name of the threading layer, which is loaded by a first parallel call."""

    @numba.njit(parallel=True)
    def one_each(array):  # type: ignore[no-untyped-def]
        for i in numba.prange(array.size):
            array[i] = 1.0

    one_each(np.zeros(2))
    return str(numba.threading_layer())
