"""Worker threads, which help a caller with the parts of its stages: how they start, sleep and end.

They are Python threads, so that they exist on every system. Each runs a single call (``sharing.serve``) that does not
hold Python's global lock. They sleep on the system's own locks, whose addresses are in the shared memory: POSIX
threads', or Windows' slim locks. They start when a program needs them. A forked child has none of its parent's workers,
and starts its own.
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
"""How long a thread spins before it sleeps: about the time from one stage to the next."""

REST_SECONDS = 20e-3
"""The longest time that a caller works alone before it tries the workers again."""


@cache
def compile_loops() -> None:
    """Compile everything that a run needs, so that no later run compiles anything."""
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
    """Return the rate of the processor's clock, the median of three short measurements; 0 if there is no clock."""
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
"""The system's functions that take a lock, release it, sleep on a condition, and wake one sleeper, in this order."""


@cache
def _system() -> Any:
    """Return the library that has these functions."""
    return ctypes.CDLL("kernel32" if _WINDOWS else None)


class Workers(Bound):
    """The worker threads of this process.

    Parameters
    ----------
    most : int
        Number of lanes that there is room for, the caller's included.
    """

    def __init__(self, most: int) -> None:
        self._memory = aligned(((sharing.SLOTS + most * sharing.SLOT) // 8,), np.int64)
        self.address = address(self._memory)
        # Never freed, because a worker may still be in the middle of a program when the process ends.
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
            # Windows' locks are zeros at first.
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
            # Listed before it starts. An interrupt must not leave a thread that is not in the list, because the next
            # thread would get the same lane.
            self._threads.append(thread)
            try:
                thread.start()
            except RuntimeError:
                # The system allows no more threads, or the interpreter is ending. The present threads do the work.
                self._threads.pop()
                self._most = lane
                break
            self._write(sharing.WORKERS, lane)
        self.lanes = lanes

    def stop(self) -> None:
        """Tell the threads to end, and wait for them. They must not run while the interpreter frees their code."""
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
    """Return the address of the memory that a caller shares with the workers for `lanes` lanes.

    Missing workers are started. The result is 0 for one lane, and if there are no workers at the moment; the caller
    then runs all parts by itself.
    """
    if lanes < 2:
        return 0
    workers = _workers
    if workers is None or workers.lanes < lanes:
        workers = _begin(lanes)
    return 0 if workers is None else workers.address


def _begin(lanes: int) -> Workers | None:
    global _workers
    # Does not wait for the lock: a signal handler may run a model too, and may have interrupted the thread that has it.
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
    """Forget the parent's workers in a forked child, where none of their threads exists."""
    global _workers, _beginning
    _workers, _beginning = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
