"""Threads that help a caller with the parts of its stages: their lives, and what they sleep on.

They are Python's threads, so that every system has them, and each runs one call (``sharing.serve``) that holds no
lock of Python's. They sleep on the system's own locks, whose addresses stand in the shared memory: POSIX threads, or
Windows' slim locks. They are begun when a program needs them; a forked child has none of its parent's and begins
its own.
"""

import atexit
import ctypes
import os
import sys
import threading
import time
from functools import cache
from typing import Any

import numba
import numpy as np

from fgnumba.kernels import sharing
from fgnumba.kernels.memory import address, aligned

SPIN_SECONDS = 50e-6
"""How long a thread spins before it sleeps: about the distance between two stages."""

REST_SECONDS = 20e-3
"""How long a caller works alone, at most, before it tries again whether the workers have their cores back."""


@cache
def compile_loops() -> None:
    """Compile what a run needs, so that no later run does."""
    sharing.run(0, 0, 0, 0)
    sharing.clock()
    stopped = aligned(((sharing.SLOTS + sharing.SLOT) // 8,), np.int64)
    stopped[sharing.STOP // 8] = 1
    sharing.serve(address(stopped), 1)
    sharing.wake(address(stopped), 0)


@cache
def ticks_a_second() -> float:
    """Return the rate of the processor's clock: the median of three short measurements."""
    rates = []
    for _ in range(3):
        begun, start = time.perf_counter(), sharing.clock()
        while (elapsed := time.perf_counter() - begun) < 300e-6:
            pass
        rates.append((sharing.clock() - start) / elapsed)
    return sorted(rates)[1]


_WINDOWS = sys.platform == "win32"
_FUNCTIONS = (
    (
        "AcquireSRWLockExclusive",
        "ReleaseSRWLockExclusive",
        "SleepConditionVariableSRW",
        "WakeConditionVariable",
    )
    if _WINDOWS
    else ("pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_wait", "pthread_cond_signal")
)
"""What takes a lock, leaves it, sleeps on a condition, and wakes one sleeper."""


@cache
def _system() -> Any:
    """Return the library that locks come from."""
    return ctypes.CDLL("kernel32" if _WINDOWS else None)


class Workers:
    """The workers of a process.

    Parameters
    ----------
    most : lanes that there is room for, the caller's among them.
    """

    def __init__(self, most: int) -> None:
        compile_loops()
        self._memory = aligned(((sharing.SLOTS + most * sharing.SLOT) // 8,), np.int64)
        self.address = address(self._memory)
        self.lanes, self._most = 1, most
        self._threads: list[threading.Thread] = []
        places = sharing.LOCK, sharing.UNLOCK, sharing.WAIT, sharing.WAKE
        for place, name in zip(places, _FUNCTIONS, strict=True):
            self._write(place, ctypes.cast(getattr(_system(), name), ctypes.c_void_p).value)
        self._write(sharing.SPIN, int(SPIN_SECONDS * ticks_a_second()))
        self._write(sharing.LONGEST_REST, int(REST_SECONDS * ticks_a_second()))
        for lane in range(most):
            slot = self.address + sharing.SLOTS + lane * sharing.SLOT
            # Windows' locks begin as zeros.
            if not _WINDOWS:
                _system().pthread_mutex_init(ctypes.c_void_p(slot + sharing.MUTEX), None)
                _system().pthread_cond_init(ctypes.c_void_p(slot + sharing.CONDITION), None)

    def _write(self, place: int, value: int | None) -> None:
        self._memory[place // 8] = value

    def grow(self, lanes: int) -> None:
        """Start threads until there are `lanes` lanes, or as many as there is room for, or as the system allows."""
        for lane in range(self.lanes, min(lanes, self._most)):
            thread = threading.Thread(
                target=sharing.serve, args=(self.address, lane), name=f"fgnumba-{lane}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:
                # A limit on threads, or the interpreter ends: those that there are do the work.
                self._most = lane
                break
            self._threads.append(thread)
            self._write(sharing.WORKERS, len(self._threads))
        self.lanes = lanes

    def stop(self) -> None:
        """Let the threads end, and wait for them: they must not run while the interpreter takes their code away."""
        self._write(sharing.STOP, 1)
        for lane in range(1, len(self._threads) + 1):
            sharing.wake(self.address, lane)
        for thread in self._threads:
            thread.join(timeout=1.0)


_workers: Workers | None = None
_beginning = threading.Lock()


def pool(lanes: int) -> int:
    """Return the address of the memory that is shared with workers for `lanes` lanes; 0 for one lane.

    Workers that are missing are begun.
    """
    if lanes < 2:
        return 0
    workers = _workers
    if workers is None or workers.lanes < lanes:
        workers = _begin(lanes)
    return workers.address


def _begin(lanes: int) -> Workers:
    global _workers
    with _beginning:
        if _workers is None:
            _workers = Workers(max(lanes, numba.config.NUMBA_NUM_THREADS))
        _workers.grow(lanes)
        return _workers


@atexit.register
def _end() -> None:
    global _workers
    workers, _workers = _workers, None
    if workers is not None:
        workers.stop()


def _begin_anew() -> None:
    """Forget, in a forked child, the parent's workers: none of its threads is here."""
    global _workers, _beginning
    _workers, _beginning = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
