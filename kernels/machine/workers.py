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

import numpy as np

from fgnumba.kernels.machine import sharing
from fgnumba.kernels.machine.memory import address, aligned
from fgnumba.kernels.machine.threads import most_threads
from fgnumba.objects.bound import Bound
from fgnumba.uninterrupted import Uninterrupted

SPIN_SECONDS = 50e-6
"""How long a thread spins before it sleeps: about the distance between two stages."""

REST_SECONDS = 20e-3
"""How long a caller works alone, at most, before it tries again whether the workers have their cores back."""


@cache
def compile_loops() -> None:
    """Compile what a run needs, so that no later run does."""
    none = np.zeros((1, 4), np.int64)
    stopped = aligned(((sharing.SLOTS + sharing.SLOT) // 8,), np.int64)
    stopped[sharing.STOP // 8] = 1
    with Uninterrupted():
        sharing.run(0, address(none), 0, 0)
        sharing.clock()
        sharing.serve(address(stopped), 1)
        sharing.wake(address(stopped), 0)


@cache
def ticks_a_second() -> float:
    """Return the rate of the processor's clock: the median of three short measurements; 0 where it has none."""
    compile_loops()
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


class Workers(Bound):
    """The workers of a process.

    Parameters
    ----------
    most : lanes that there is room for, the caller's among them.
    """

    def __init__(self, most: int) -> None:
        self._memory = aligned(((sharing.SLOTS + most * sharing.SLOT) // 8,), np.int64)
        self.address = address(self._memory)
        # Never freed: where a process ends, a thread may still be in the midst of a program.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._memory))
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
        for lane in range(len(self._threads) + 1, min(lanes, self._most)):
            thread = threading.Thread(
                target=sharing.serve, args=(self.address, lane), name=f"fgnumba-{lane}", daemon=True
            )
            # Noted before it starts: an interrupt must not leave a thread of which nobody knows, since the next one
            # would have the same lane.
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError:
                # A limit on threads, or the interpreter ends: those that there are do the work.
                self._threads.pop()
                self._most = lane
                break
            self._write(sharing.WORKERS, lane)
        self.lanes = lanes

    def stop(self) -> None:
        """Let the threads end, and wait for them: they must not run while the interpreter takes their code away."""
        self._write(sharing.STOP, 1)
        for lane in range(1, len(self._threads) + 1):
            sharing.wake(self.address, lane)
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=1.0)


_workers: Workers | None = None
_ended = False
_beginning = threading.Lock()


def pool(lanes: int) -> int:
    """Return the address of the memory that is shared with workers for `lanes` lanes.

    0 for one lane, and where there are no workers at the moment: the caller then runs all parts by itself. Workers that
    are missing are begun.
    """
    if lanes < 2:
        return 0
    workers = _workers
    if workers is None or workers.lanes < lanes:
        workers = _begin(lanes)
    return 0 if workers is None else workers.address


def _begin(lanes: int) -> Workers | None:
    global _workers
    # Not waited for: a signal's handler, which may run a model too, can interrupt the thread that holds it.
    if _ended or not _beginning.acquire(blocking=False):
        return None
    try:
        if _workers is None and ticks_a_second() > 0:
            _workers = Workers(max(lanes, most_threads()))
        if _workers is not None:
            _workers.grow(lanes)
        return _workers
    finally:
        _beginning.release()


@atexit.register
def _end() -> None:
    global _workers, _ended
    workers, _workers, _ended = _workers, None, True
    if workers is not None:
        workers.stop()


def _begin_anew() -> None:
    """Forget, in a forked child, the parent's workers: none of its threads is here."""
    global _workers, _beginning
    _workers, _beginning = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
