"""Decides how many threads share the work.

The system's limits (the processors that the process is bound to, the CPU quota of its control groups) and
``NUMBA_NUM_THREADS`` are read once in a process, when they are first needed, because memory is laid out for that many
threads. The other variables are read whenever a model is bound to its buffers.
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
"""Environment variables that set the number of threads, or limit it."""


@dataclass(frozen=True)
class Threads:
    """A number of threads, and a text that says what decided it."""

    count: int
    reason: str


def thread_count(requested: int | None = None) -> int:
    """Return the number of threads to use: `requested`, else ``FGNUMBA_THREADS``, else the number of usable processors.

    That is the number of processors that the process is bound to, but at most ``OMP_NUM_THREADS`` (the first number
    of a list), ``OMP_THREAD_LIMIT``, ``NUMBA_NUM_THREADS``, and the CPU quota of its control groups, rounded up.

    Parameters
    ----------
    requested : int or None
        Number of threads that the user asked for, if any.

    Raises
    ------
    DeviceError
        The number is not a whole number from 1 to the number of processors that the process is bound to, or to
        ``NUMBA_NUM_THREADS`` if that is set; or ``NUMBA_NUM_THREADS`` itself is not a whole number of at least 1.
    """
    if requested is None:
        return chosen().count
    return _checked("threads", operator.index(requested), requested)


def chosen() -> Threads:
    """Return how many threads are used if no number is requested, and why."""
    text = os.environ.get(OVERRIDE)
    if text:
        return Threads(_checked(OVERRIDE, _whole(text), text), OVERRIDE)
    best, ignored = _processors(), ""
    for name in OPENMP:
        text = os.environ.get(name)
        numbers = [_whole(part.strip()) for part in text.split(",")] if text else []
        if not all(numbers):
            # OpenMP's own runtimes ignore such a value too.
            ignored += f"; {name}={text} is no number, and ignored"
        elif numbers and numbers[0] <= best.count:
            best = Threads(numbers[0], f"{name}={text}")
    return Threads(best.count, best.reason + ignored)


@cache
def most_threads() -> int:
    """Return the largest number of threads that may be requested."""
    return _numba_threads() or _bound()


@cache
def _processors() -> Threads:
    """Return how many processors can be used, and which limit is the lowest."""
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
    """Return the number in ``NUMBA_NUM_THREADS``, or in Numba's configuration file; None if neither has one."""
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
    """Return `text` as a whole number, or 0 if it is none."""
    return int(text) if text.isdecimal() and len(text) <= 9 else 0
