"""A program is a list of bound operations; running it is one call, however many layers it has.

An operation is a compiled kernel ``(arguments, part, parts)``, the address of its arguments, and the number
of parts that its work is cut into, one a thread. Nothing is looked up, checked or allocated when a program
runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
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
        call(operations[i, 0], (operations[i, 1], 0, 1))


threads.configure()
_parallel = attach_cache("run-parallel", njit(nogil=True, parallel=True, error_model="numpy")(_run))
_serial = attach_cache("run-serial", njit(nogil=True, error_model="numpy")(_run_serial))


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
        parallel = any(op.parts > 1 for op in self.operations)
        self._runner = _parallel if parallel else _serial

    @property
    def scratch_nbytes(self) -> int:
        """Bytes of scratch memory."""
        return int(self._scratch.nbytes)

    def run(self) -> None:
        """Run every operation in order."""
        self._runner(self._table)
