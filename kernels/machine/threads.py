"""How many threads share the work, and what decides it.

What the system allows (the processors that the process is bound to, the quota of its control groups) and
``NUMBA_NUM_THREADS`` are read when they are first asked for, once a process: memory is laid out for so many threads.
The other variables are read whenever a model is bound to its buffers.
"""

import math
import operator
import os
from dataclasses import dataclass
from functools import cache

import numba

from fgnumba.errors import DeviceError
from fgnumba.kernels.machine import cgroup

OVERRIDE = "FGNUMBA_THREADS"
NUMBA = "NUMBA_NUM_THREADS"
OPENMP = ("OMP_NUM_THREADS", "OMP_THREAD_LIMIT")


@dataclass(frozen=True)
class Threads:
    """A number of threads, and what decided it, for people to read."""

    count: int
    reason: str


def thread_count(requested: int | None = None) -> int:
    """Return `requested`, else ``FGNUMBA_THREADS``, else as many threads as there are processors to use.

    The processors to use are those that the process is bound to, at most as many as ``OMP_NUM_THREADS`` (the
    first number of a list), ``OMP_THREAD_LIMIT`` and ``NUMBA_NUM_THREADS`` say, and as the CPU quota of its
    control groups pays for, rounded up.

    Raises
    ------
    DeviceError
        Not a whole number from 1 to the processors that the process is bound to, or to ``NUMBA_NUM_THREADS`` where
        that is set; or ``NUMBA_NUM_THREADS`` is no such number.
    """
    if requested is None:
        return chosen().count
    return _checked("threads", operator.index(requested), requested)


def chosen() -> Threads:
    """Return how many threads there are where no number is requested, and why."""
    text = os.environ.get(OVERRIDE)
    if text:
        return Threads(_checked(OVERRIDE, _whole(text), text), OVERRIDE)
    best, ignored = _processors(), ""
    for name in OPENMP:
        text = os.environ.get(name)
        numbers = [_whole(part.strip()) for part in text.split(",")] if text else []
        if not all(numbers):
            # As OpenMP's own runtimes do.
            ignored += f"; {name}={text} is no number, and ignored"
        elif numbers and numbers[0] <= best.count:
            best = Threads(numbers[0], f"{name}={text}")
    return Threads(best.count, best.reason + ignored)


@cache
def most_threads() -> int:
    """Return the most threads that may be requested."""
    return _numba_threads() or _bound()


@cache
def _processors() -> Threads:
    """Return how many processors there are to use, and which limit is the narrowest."""
    bound, quota = _bound(), cgroup.cpu_quota()
    best = Threads(bound, f"processors that this process may use: {bound}")
    if quota <= best.count - 1:
        best = Threads(math.ceil(quota), f"CPU quota of the control group: {quota:.3g} processors")
    asked = _numba_threads()
    if asked is not None and asked <= best.count:
        best = Threads(asked, f"{NUMBA}={asked}")
    return best


def _bound() -> int:
    if hasattr(os, "process_cpu_count"):
        return os.process_cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _numba_threads() -> int | None:
    """Return what ``NUMBA_NUM_THREADS`` or Numba's configuration file says, None where they do not."""
    text = os.environ.get(NUMBA)
    if text is None:
        configured: int = numba.config.NUMBA_NUM_THREADS
        return configured if configured != numba.config.NUMBA_DEFAULT_NUM_THREADS else None
    value = _whole(text.strip())
    if value < 1:
        raise DeviceError(
            f"{NUMBA}: {text!r} is not a whole number of at least 1; unset it or set {OVERRIDE}"
        )
    return value


def _checked(source: str, value: int, given: object) -> int:
    most = most_threads()
    if not 1 <= value <= most:
        raise DeviceError(f"{source}: {given!r} is not a whole number from 1 to {most}")
    return value


def _whole(text: str) -> int:
    """Return the whole number that a text is, or 0."""
    return int(text) if text.isdecimal() and len(text) <= 9 else 0
