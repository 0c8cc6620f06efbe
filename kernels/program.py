"""A program is a list of bound operations; running it is one call, however many layers it has.

An operation is a compiled kernel ``(arguments, part, parts)``, the address of its arguments, and the number of
parts that its work is cut into. Nothing is looked up, checked or allocated when a program runs.

An operation by itself is cut into a part a thread. The operations of a *stage* are cut into more parts than
there are threads, and each part goes through all of them before the next begins: what they hand on to each other
stays in a thread's own buffers, which are as small as a part and stay in the cache.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange
from numba.extending import register_jitable

from fgnumba.kernels import threads
from fgnumba.kernels.compile import attach_cache
from fgnumba.kernels.emit import call
from fgnumba.kernels.memory import CACHE_LINE, address, aligned, round_up
from fgnumba.kernels.tiling import split


@dataclass
class Operation:
    """A kernel bound to its arguments.

    Parameters
    ----------
    name : for plans that print themselves.
    entry : address of the kernel.
    arguments : (1,) structured array that the kernel reads; addresses in it stay valid while `keeps` live. A program
        makes it one copy a thread.
    parts : threads that share the work, outside a stage.
    scratch_bytes : scratch memory that a thread needs; the program sets the field ``scratch``.
    multiply_adds : products in the operation, for plans and benchmarks.
    executed : share of them that are executed: a filtered convolution needs fewer.
    local : fields that hold addresses in the first thread's own buffers of a stage.
    external : fields that hold the address of the model's input.
    once : runs before the stage that it belongs to, on the whole of what it prepares.
    """

    name: str
    entry: int
    arguments: npt.NDArray[Any]
    parts: int = 1
    scratch_bytes: int = 0
    multiply_adds: int = 0
    executed: float = 1.0
    keeps: tuple[Any, ...] = field(default=(), repr=False)
    local: tuple[str, ...] = ()
    external: tuple[str, ...] = ()
    once: bool = False

    def renumber(self, first: int) -> bool:
        """Let directions be numbered from `first` on; return whether anything that is bound changed."""
        names = self.arguments.dtype.names or ()
        if "first" in names:
            self.arguments["first"] = first
        # A program reads its operations' arguments whenever it runs.
        return False


@dataclass(frozen=True)
class Stage:
    """Operations that run part by part.

    Parameters
    ----------
    parts : that each operation is cut into.
    threads : that share the parts.
    local_bytes : from one thread's buffers to the next one's.
    """

    operations: tuple[Operation, ...]
    parts: int
    threads: int
    local_bytes: int


def _run(stages: Any, table: Any) -> None:
    for stage in range(stages.shape[0]):
        first, length, lanes, parts = stages[stage]
        if lanes == 1:
            _run_lane(table, first, length, 0, parts, parts)
        else:
            for lane in prange(lanes):
                begin, end = split(parts, lanes, lane)
                _run_lane(table, first + lane * length, length, begin, end, parts)


def _run_serial(stages: Any, table: Any) -> None:
    for stage in range(stages.shape[0]):
        first, length, lanes, parts = stages[stage]
        for lane in range(lanes):
            begin, end = split(parts, lanes, lane)
            _run_lane(table, first + lane * length, length, begin, end, parts)


@register_jitable
def _run_lane(table: Any, first: int, length: int, begin: int, end: int, parts: int) -> None:
    for part in range(begin, end):
        for row in range(first, first + length):
            call(table[row, 0], (table[row, 1], part, parts))


threads.configure()
_parallel = attach_cache("run-parallel", njit(nogil=True, parallel=True, error_model="numpy")(_run), _run)
_serial = attach_cache("run-serial", njit(nogil=True, error_model="numpy")(_run_serial), _run_serial)


@cache
def _compile_runners() -> None:
    """Compile both, so that no later run does."""
    nothing = np.zeros((0, 4), np.int64), np.zeros((0, 2), np.int64)
    _serial(*nothing)
    _parallel(*nothing)


_turn = threading.Lock()


def _run_on_threads(stages: Any, table: Any) -> None:
    """Run on all threads; on the caller's own where they are another's, and Numba would end the process."""
    if not threads.one_caller_at_a_time():
        _parallel(stages, table)
    elif _turn.acquire(blocking=False):
        try:
            _parallel(stages, table)
        finally:
            _turn.release()
    else:
        _serial(stages, table)


class Choice:
    """Whether to run on several threads, from how long runs took.

    On a machine that others keep busy, a thread that waits for another may wait for a whole time slice, and one
    thread is faster: measured at eight times, beside one other busy process on two cores. Both ways do the same
    work in the same parts, so results do not depend on the choice.

    The way whose running mean is lower is taken. The other is tried anew, `TRIALS` runs in a row, so seldom
    that trials cost about `SHARE` of the time.
    """

    TRIALS = 3
    SHARE = 0.02
    _WEIGHT = 0.125

    def __init__(self) -> None:
        self._mean = {True: 0.0, False: 0.0}
        self._preferred, self._trial = True, 0
        self._until_trial = self.TRIALS
        self._fresh = True

    def parallel(self) -> bool:
        """Return the way to run next."""
        return not self._preferred if self._trial else self._preferred

    def record(self, seconds: float) -> None:
        """Take note of the time of a run that went the way :meth:`parallel` said."""
        way = self.parallel()
        if self._fresh:
            # The very first run touches memory for the first time, and would speak against its way for long.
            self._fresh = False
            return
        if self._trial:
            # The first run of a trial finds sleeping threads or cold caches, and is forgotten.
            if self._trial <= 2:
                self._mean[way] = seconds
            else:
                self._mean[way] += (seconds - self._mean[way]) / 2
            self._trial = (self._trial + 1) % (self.TRIALS + 1)
            if self._trial == 0:
                self._preferred = self._mean[True] <= self._mean[False]
                slow, fast = max(self._mean.values()), min(self._mean.values())
                self._until_trial = max(256, int(self.TRIALS * slow / (self.SHARE * fast)))
            return
        mean = self._mean[way]
        self._mean[way] = seconds if mean == 0.0 else mean + self._WEIGHT * (seconds - mean)
        other = self._mean[not way]
        self._until_trial -= 1
        if other and self._mean[way] > other:
            self._preferred = not way
        elif self._until_trial <= 0:
            self._trial = 1


_always_parallel = False


@contextmanager
def always_parallel() -> Iterator[None]:
    """Let programs run on all their threads without trying one: for measurements, where a trial would be an outlier."""
    global _always_parallel
    before, _always_parallel = _always_parallel, True
    try:
        yield
    finally:
        _always_parallel = before


class Program:
    """Operations and stages in order, with the scratch memory that they share, ``scratch``."""

    def __init__(self, steps: Sequence[Operation | Stage]) -> None:
        stages = [
            step if isinstance(step, Stage) else Stage((step,), step.parts, step.parts, 0) for step in steps
        ]
        self.operations = tuple(operation for stage in stages for operation in stage.operations)
        # Once a stage: it takes a look at every operation, and every operation asks for it.
        scratch = [_scratch_bytes(stage) for stage in stages]
        most = max((size * stage.threads for size, stage in zip(scratch, stages, strict=True)), default=0)
        self.scratch = aligned((most,), np.uint8)
        rows: list[tuple[int, int]] = []
        heads: list[tuple[int, int, int, int]] = []
        for stage, scratch_bytes in zip(stages, scratch, strict=True):
            heads.append((len(rows), len(stage.operations), stage.threads, stage.parts))
            for op in stage.operations:
                self._place(op, stage, scratch_bytes)
            rows += [
                (op.entry, address(op.arguments) + lane * op.arguments.itemsize)
                for lane in range(stage.threads)
                for op in stage.operations
            ]
        self._stages = np.array(heads, np.int64).reshape(-1, 4)
        self._table = np.array(rows, np.int64).reshape(-1, 2)
        _compile_runners()
        self._choice = Choice() if any(stage.threads > 1 for stage in stages) else None

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory."""
        return int(self.scratch.nbytes)

    def _place(self, op: Operation, stage: Stage, scratch_bytes: int) -> None:
        """Give each thread its own arguments: its own scratch memory, its own buffers."""
        if len(op.arguments) != stage.threads:
            op.arguments = np.repeat(op.arguments[:1], stage.threads)
            for name in op.local:
                op.arguments[name] += np.arange(stage.threads) * stage.local_bytes
        if op.scratch_bytes:
            lanes = np.arange(stage.threads) * scratch_bytes
            op.arguments["scratch"] = address(self.scratch) + lanes

    def forget(self) -> None:
        """Run as if for the first time: what was bound may have changed."""

    def run(self) -> None:
        """Run every operation in order; on several threads where that has proved faster of late."""
        if self._choice is None or threads.left_behind():
            _serial(self._stages, self._table)
            return
        if _always_parallel:
            _run_on_threads(self._stages, self._table)
            return
        parallel = self._choice.parallel()
        start = perf_counter()
        (_run_on_threads if parallel else _serial)(self._stages, self._table)
        self._choice.record(perf_counter() - start)


def _scratch_bytes(stage: Stage) -> int:
    return max(round_up(op.scratch_bytes, CACHE_LINE) for op in stage.operations)
