"""Lets several threads share the parts of a stage: the memory between them, and the loops of the caller and a worker.

The *caller* is the thread that runs a program; *workers* are the threads that help it. A thread's number is its
*lane*; the caller's is 0.

Parts are handed out while a stage runs. The caller *opens* a stage by writing one 64-bit word: a number that is new for
each stage, and the range of parts that nobody has begun. A thread takes one part from that range by a
compare-and-exchange, the caller from the front and workers from the back. On quiet cores, each thread therefore works
on the same memory in every run. If another stage has been opened since the word was read, its number differs and the
exchange fails. When no part is left, the caller waits for the parts that were begun. It never waits for a thread that
has taken none: another process may hold that thread's core for a whole time slice.

No thread spins for longer than ``workers.SPIN_SECONDS``. Then a worker sleeps until a stage is opened, and the caller
until the last part is done. A sleeping caller also frees its core for a worker that was interrupted in the middle of a
part.

If a part that was begun takes much longer than the others, its worker has lost its core to another process. The caller
then works alone, for `REST_SHARE` times as long as it has lost, and at most ``workers.REST_SECONDS``.

While a program runs, subnormal numbers count as zero on every thread, because some processors take a hundred times as
long for an operation on one.
"""

from typing import Any

import numpy as np
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import atomics, call, pointer
from fgnumba.kernels.machine.compile import dispatcher

REST_SHARE = 8
"""How long the caller works alone, as a multiple of the time it lost. A second thread gains as much in that time."""

SLOWER = 4
"""How many times as long as this thread's parts a part may take before its thread counts as having lost its core."""

WAKES = 4
"""How many sleeping threads one thread wakes."""

# Offsets in the shared memory, in bytes. Words that different threads write are 128 bytes apart: two cache lines,
# because processors load cache lines in pairs.
WORD, DONE, REST, OWNER = 0, 128, 256, 384
FINISHED = DONE + 8
"""The time, in ticks, at which a thread last reported parts as done."""
STAGE = 512
TABLE, FIRST, LENGTH, PARTS, BASE, COUNT, LANES = (STAGE + 8 * k for k in range(7))
FACTS = 640
LOCK, UNLOCK, WAIT, WAKE, SPIN, LONGEST_REST, WORKERS, STOP = (FACTS + 8 * k for k in range(8))
SLOTS, SLOT = 768, 512
ASLEEP, MUTEX, CONDITION = 0, 128, 256
"""Each thread has a slot, the caller's first: whether it sleeps, its mutex, its condition (at most 64 bytes each)."""

MOST_PARTS = 0xFFFF
"""Most parts that are open at a time. The word has 16 bits for each end of the range and 32 for its number."""


@register_jitable
def _take(pool: int, lane: int) -> int:
    """Take one part of the open stage and return it; -1 if there is none for this lane."""
    while True:
        word = atomics.load(pool + WORD)
        front, back = (word >> 16) & MOST_PARTS, word & MOST_PARTS
        # The stage's fields are read after the word. They are valid if the word is still the same at the exchange.
        if front >= back or lane >= atomics.load(pool + LANES):
            return -1
        part, taken = (front, word + (1 << 16)) if lane == 0 else (back - 1, word - 1)
        if atomics.compare_exchange(pool + WORD, word, taken) == word:
            return part


@register_jitable
def run_part(table: int, first: int, length: int, part: int, parts: int) -> None:
    """Run a stage's operations, one after the other, on one part.

    Parameters
    ----------
    table : int
        Address of the table of operations.
    first, length : int
        The first of the stage's rows in the table, and the number of its rows.
    part, parts : int
        Number of the part, and how many parts there are.
    """
    rows = carray(pointer(table, np.int64), (first + length, 2))
    for row in range(first, first + length):
        call(rows[row, 0], (rows[row, 1], part, parts))


@register_jitable
def _share(pool: int, lane: int) -> int:
    """Take parts of the open stage and run them until none is left; return how many were taken."""
    part, taken = _take(pool, lane), 0
    if part < 0:
        return 0
    # A part has been taken, so the stage's fields cannot change until it is reported as done.
    table, length = atomics.load(pool + TABLE), atomics.load(pool + LENGTH)
    first = atomics.load(pool + FIRST) + lane * length
    base, parts = atomics.load(pool + BASE), atomics.load(pool + PARTS)
    count = atomics.load(pool + COUNT)
    if lane > 0:
        _wake_next(pool, lane, count)
    while part >= 0:
        run_part(table, first, length, base + part, parts)
        taken += 1
        part = _take(pool, lane)
    atomics.store(pool + FINISHED, atomics.ticks())
    if atomics.add(pool + DONE, taken) + taken == count and lane > 0:
        _wake(pool, 0)
    return taken


@register_jitable
def _wake(pool: int, lane: int) -> None:
    slot = pool + SLOTS + lane * SLOT
    if atomics.load(slot + ASLEEP) == 0:
        return
    call(atomics.load(pool + LOCK), (slot + MUTEX,))
    atomics.store(slot + ASLEEP, 0)
    call(atomics.load(pool + WAKE), (slot + CONDITION,))
    call(atomics.load(pool + UNLOCK), (slot + MUTEX,))


@register_jitable
def _wake_next(pool: int, lane: int, count: int) -> None:
    """Wake the lanes that this lane is responsible for in a stage of `count` parts.

    Each thread wakes a few others, because waking one takes microseconds.
    """
    lanes = min(atomics.load(pool + LANES), count, atomics.load(pool + WORKERS) + 1)
    for other in range(WAKES * lane + 1, min(WAKES * lane + WAKES + 1, lanes)):
        _wake(pool, other)


@register_jitable
def _sleep(pool: int, lane: int, waited: Any) -> None:
    """Sleep until another thread wakes this one.

    It does not sleep at all if `waited` is true by the time that other threads can see that it is about to.
    """
    slot = pool + SLOTS + lane * SLOT
    call(atomics.load(pool + LOCK), (slot + MUTEX,))
    atomics.store(slot + ASLEEP, 1)
    if waited(pool, lane):
        atomics.store(slot + ASLEEP, 0)
    while atomics.load(slot + ASLEEP) != 0:
        # Windows' function also takes a time limit (here none) and flags. POSIX's ignores the extra arguments.
        call(atomics.load(pool + WAIT), (slot + CONDITION, slot + MUTEX, 0xFFFFFFFF, 0))
    call(atomics.load(pool + UNLOCK), (slot + MUTEX,))


@register_jitable
def _is_wanted(pool: int, lane: int) -> bool:
    word = atomics.load(pool + WORD)
    is_open = (word >> 16) & MOST_PARTS < word & MOST_PARTS and lane < atomics.load(pool + LANES)
    return is_open or atomics.load(pool + STOP) != 0


@register_jitable
def _is_done(pool: int, lane: int) -> bool:
    return atomics.load(pool + DONE) == atomics.load(pool + COUNT)


@register_jitable
def _spin(pool: int, lane: int, waited: Any) -> bool:
    """Wait for a short time until `waited` is true, and return whether it became true."""
    end = atomics.ticks() + atomics.load(pool + SPIN)
    while not waited(pool, lane):
        if atomics.ticks() > end:
            return False
        atomics.relax()
    return True


def _serve(pool: int, lane: int) -> None:
    mode = atomics.flush_subnormals()
    while atomics.load(pool + STOP) == 0:
        if _share(pool, lane) == 0 and not _spin(pool, lane, _is_wanted):
            _sleep(pool, lane, _is_wanted)
    atomics.set_floating_point_mode(mode)


@register_jitable
def _together(pool: int, table: int, first: int, length: int, lanes: int, parts: int) -> int:
    """Run a stage with the workers. Return the ticks lost to a worker that had lost its core."""
    lost = 0
    for base in range(0, parts, MOST_PARTS):
        count = min(parts - base, MOST_PARTS)
        atomics.store(pool + DONE, 0)
        atomics.store(pool + TABLE, table)
        atomics.store(pool + FIRST, first)
        atomics.store(pool + LENGTH, length)
        atomics.store(pool + PARTS, parts)
        atomics.store(pool + BASE, base)
        atomics.store(pool + COUNT, count)
        atomics.store(pool + LANES, lanes)
        number = (atomics.load(pool + WORD) >> 32) + 1
        atomics.store(pool + WORD, (number << 32) | count)
        _wake_next(pool, 0, count)
        begun = atomics.ticks()
        own = _share(pool, 0)
        ended = atomics.ticks()
        while not _is_done(pool, 0):
            if not _spin(pool, 0, _is_done):
                _sleep(pool, 0, _is_done)
        # Read only now, because this thread may have lost its own core in the meantime.
        waited = atomics.load(pool + FINISHED) - ended
        # Parts take equally long. Where cores differ, a slow core may take three times as long as a fast one.
        if own > 0 and waited > atomics.load(pool + SPIN) + SLOWER * (ended - begun) // own:
            lost += waited
    return lost


def _run(pool: int, stages_at: int, count: int, table: int) -> None:
    mode = atomics.flush_subnormals()
    stages = carray(pointer(stages_at, np.int64), (count + 1, 4))
    owns = pool != 0 and atomics.compare_exchange(pool + OWNER, 0, 1) == 0
    rest = atomics.load(pool + REST) if owns else 0
    # If the machine was suspended, or moved to another host, its clock may have gone back.
    if owns and rest - atomics.ticks() > atomics.load(pool + LONGEST_REST):
        rest = 0
    for stage in range(count):
        first, length, lanes, parts = stages[stage]
        if lanes > 1 and owns and atomics.ticks() >= rest:
            lost = _together(pool, table, first, length, lanes, parts)
            if lost > 0:
                rest = atomics.ticks() + min(REST_SHARE * lost, atomics.load(pool + LONGEST_REST))
                atomics.store(pool + REST, rest)
        else:
            for part in range(parts):
                run_part(table, first, length, part, parts)
    if owns:
        atomics.store(pool + OWNER, 0)
    stages[count, 0] += 1
    atomics.set_floating_point_mode(mode)


def _read_clock() -> int:
    return atomics.ticks()


def _wake_lane(pool: int, lane: int) -> None:
    _wake(pool, lane)


def _compiled(name: str, function: Any) -> Any:
    return dispatcher(name, function, nogil=True, error_model="numpy")


run = _compiled("run", _run)
"""``run(pool, stages, count, table)``: run a program on the caller's thread and on the workers of `pool`.

`stages` is the address of `count` rows of four int64: the stage's first row in the table; its number of operations; its
lanes, the number of threads that may share it, each with a copy of the operations in the table; its number of parts.
One more row begins with the number of runs that have ended. The run itself counts there, so that an interrupt which
Python raises afterwards cannot hide what has been done. `table` is the address of rows of two int64: a kernel's address
and that of its arguments.

If another thread uses the workers, or `pool` is 0, the caller runs all parts by itself. The parts are the same, and so
are the results. The caller's floating-point mode is restored before this returns.
"""

serve = _compiled("serve", _serve)
"""``serve(pool, lane)``: help with every stage that is opened, until `STOP` is set."""

wake = _compiled("wake", _wake_lane)
"""``wake(pool, lane)``: wake a lane that sleeps, so that it checks again what it waits for."""

clock = _compiled("clock", _read_clock)
"""``clock()``: return the processor's clock, in ticks."""
