"""A program: a list of bound operations that a single call runs, however many layers the model has.

An operation consists of a compiled kernel ``(arguments, part, parts)``, the address of its arguments, and the number of
*parts* into which its work is divided. Nothing is looked up, checked or allocated when a program runs.

Operations are divided into more parts than there are threads, and a thread that is free takes the next part; see
:mod:`fgnumba.kernels.machine.sharing`. A *stage* is a series of operations that share their parts: each part goes
through all of the stage's operations before the next part begins. What one operation hands on to the next stays in
the thread's own buffers, which are only as large as a part, and therefore stay in the cache.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.machine import interfaces, sharing, workers
from fgnumba.kernels.machine.memory import CACHE_LINE, address, aligned, round_up
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.objects.bound import Bound


@dataclass
class Operation(Bound):
    """A kernel bound to its arguments.

    Parameters
    ----------
    name : str
        Name that a printed plan shows.
    entry : int
        Address of the kernel.
    arguments : array, (1,) structured
        What the kernel reads. Addresses in it are valid while `keeps` are alive. A program replaces it by one copy
        for each thread.
    parts : int
        Number of parts that the work is divided into, if the operation is not in a stage of several operations.
    scratch_bytes : int
        Scratch memory that a thread needs. The program sets the field ``scratch`` to its address.
    multiply_adds : int
        Number of multiply-adds in the operation's products, for plans and benchmarks.
    executed : float
        Share of those that are really executed. A Winograd convolution, for example, executes fewer.
    keeps : tuple
        Objects that must stay alive as long as the operation, for example its arrays.
    local : tuple of str
        Fields that hold addresses in a thread's own buffers, at first those of the first thread.
    external : tuple of str
        Fields that hold the address of the model's input.
    once : bool
        True: the operation prepares something for its stage, and runs once, completely, before it.
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
        """Set the number of the first direction. Return whether a captured program would have to be bound again."""
        names = self.arguments.dtype.names or ()
        if "first" in names:
            self.arguments["first"] = first
        # It does not, because a program reads its operations' arguments at every run.
        return False


@dataclass(frozen=True)
class Stage(Bound):
    """A series of operations that run part by part.

    Parameters
    ----------
    operations : tuple of Operation
        In the order in which they run on each part.
    parts : int
        Number of parts that each operation is divided into.
    threads : int
        Number of threads that share the parts.
    local_bytes : int
        Bytes from one thread's buffers to the next thread's.
    """

    operations: tuple[Operation, ...]
    parts: int
    threads: int
    local_bytes: int


def cpu_operations(operations: Iterable[interfaces.Operation]) -> tuple[Operation, ...]:
    """Return operations as those of the CPU, which they are: a stage, or a chunk of the batch, takes no others."""
    found = tuple(operations)
    assert all(isinstance(operation, Operation) for operation in found)
    return cast("tuple[Operation, ...]", found)


class Program(Bound):
    """Operations and stages in the order in which they run, with the scratch memory that they share.

    Parameters
    ----------
    steps : sequence of Operation or Stage
        In the order in which they run.
    threads : int or None
        Number of threads that share the parts of an operation outside a stage. None: as many as the process may use.

    Attributes
    ----------
    scratch : array, uint8
        The scratch memory.
    """

    def __init__(self, steps: Sequence[Operation | Stage], threads: int | None = None) -> None:
        threads = thread_count(threads)
        stages = [
            step if isinstance(step, Stage) else Stage((step,), step.parts, min(step.parts, threads), 0)
            for step in steps
        ]
        self.operations = tuple(operation for stage in stages for operation in stage.operations)
        # Computed once for each stage, because each of its operations needs the largest size of all.
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
        self._stages = np.array([*heads, (0, 0, 0, 0)], np.int64)
        self._table = np.array(rows, np.int64).reshape(-1, 2)
        self._call = address(self._stages), len(heads), address(self._table)
        self._lanes = max((stage.threads for stage in stages), default=1)
        workers.compile_loops()

    @property
    def scratch_nbytes(self) -> int:
        """Number of bytes of scratch memory."""
        return int(self.scratch.nbytes)

    def _place(self, op: Operation, stage: Stage, scratch_bytes: int) -> None:
        """Give each thread a copy of the arguments, with the addresses of its own scratch memory and buffers."""
        if len(op.arguments) != stage.threads:
            op.arguments = np.repeat(op.arguments[:1], stage.threads)
            for name in op.local:
                op.arguments[name] += np.arange(stage.threads) * stage.local_bytes
        if op.scratch_bytes:
            lanes = np.arange(stage.threads) * scratch_bytes
            op.arguments["scratch"] = address(self.scratch) + lanes

    @property
    def runs(self) -> int:
        """How many runs have ended. The compiled run counts them itself."""
        return int(self._stages[-1, 0])

    def forget(self) -> None:
        """Make the next run behave like the first one, because bound arguments may have changed.

        A program on the CPU reads its arguments at every run, so there is nothing to do.
        """

    def run(self) -> None:
        """Run every operation in order, with the help of whichever workers are free."""
        sharing.run(workers.pool(self._lanes), *self._call)


def _scratch_bytes(stage: Stage) -> int:
    return max(round_up(op.scratch_bytes, CACHE_LINE) for op in stage.operations)
