"""A program is a list of bound operations; running it is one call, however many layers it has.

An operation is a compiled kernel ``(arguments, part, parts)``, the address of its arguments, and the number
of parts that its work is cut into, one a thread. Nothing is looked up, checked or allocated when a program
runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit, prange

from fgnumba.kernels import threads
from fgnumba.kernels.compile import attach_cache
from fgnumba.kernels.emit import call
from fgnumba.kernels.memory import CACHE_LINE, address, aligned, round_up


@dataclass
class Operation:
    """A kernel bound to its arguments.

    Parameters
    ----------
    name : for plans that print themselves.
    entry : address of the kernel.
    arguments : (1,) structured array that the kernel reads; addresses in it stay valid while `keeps` live.
    parts : threads that share the work.
    scratch_bytes : scratch memory that each part needs; the program sets the fields ``scratch`` and
        ``scratch_bytes``.
    multiply_adds : products in the operation, for plans and benchmarks.
    """

    name: str
    entry: int
    arguments: npt.NDArray[Any]
    parts: int = 1
    scratch_bytes: int = 0
    multiply_adds: int = 0
    keeps: tuple[Any, ...] = field(default=(), repr=False)


def _run(operations: Any) -> None:
    for i in range(operations.shape[0]):
        entry, arguments, parts = operations[i, 0], operations[i, 1], operations[i, 2]
        if parts == 1:
            call(entry, (arguments, 0, 1))
        else:
            for part in prange(parts):
                call(entry, (arguments, part, parts))


def _run_serial(operations: Any) -> None:
    for i in range(operations.shape[0]):
        parts = operations[i, 2]
        for part in range(parts):
            call(operations[i, 0], (operations[i, 1], part, parts))


threads.configure()
_parallel = attach_cache("run-parallel", njit(nogil=True, parallel=True, error_model="numpy")(_run))
_serial = attach_cache("run-serial", njit(nogil=True, error_model="numpy")(_run_serial))


@cache
def _compile_runners() -> None:
    """Compile both, so that no later run does."""
    nothing = np.zeros((0, 3), np.int64)
    _serial(nothing)
    _parallel(nothing)


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

    def parallel(self) -> bool:
        """Return the way to run next."""
        return not self._preferred if self._trial else self._preferred

    def record(self, seconds: float) -> None:
        """Take note of the time of a run that went the way :meth:`parallel` said."""
        way = self.parallel()
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


class Program:
    """Operations in order, with the scratch memory that they share."""

    def __init__(self, operations: Sequence[Operation]) -> None:
        self.operations = tuple(operations)
        sizes = [round_up(op.scratch_bytes, CACHE_LINE) * op.parts for op in self.operations]
        self._scratch = aligned((max(sizes, default=0),), np.uint8)
        for op in self.operations:
            if op.scratch_bytes:
                op.arguments["scratch"] = address(self._scratch)
                op.arguments["scratch_bytes"] = round_up(op.scratch_bytes, CACHE_LINE)
        self._table = np.array(
            [(op.entry, address(op.arguments), op.parts) for op in self.operations], np.int64
        ).reshape(-1, 3)
        _compile_runners()
        self._choice = Choice() if any(op.parts > 1 for op in self.operations) else None

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory."""
        return int(self._scratch.nbytes)

    def run(self) -> None:
        """Run every operation in order; on several threads where that has proved faster of late."""
        if self._choice is None:
            _serial(self._table)
            return
        parallel = self._choice.parallel()
        start = perf_counter()
        (_parallel if parallel else _serial)(self._table)
        self._choice.record(perf_counter() - start)
