"""A program is a list of bound operations; running it is one call, however many layers it has.

An operation is a compiled kernel ``(arguments, part, parts)``, the address of its arguments, and the number of
parts that its work is cut into. Nothing is looked up, checked or allocated when a program runs.

Operations are cut into more parts than there are threads, and a thread that is free takes the next, see
:mod:`fgnumba.kernels.machine.sharing`. In a *stage* of several operations each part goes through all of them before
the next begins: what they hand on to each other stays in a thread's own buffers, which are as small as a part and stay
in the cache.
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
    name : for plans that print themselves.
    entry : address of the kernel.
    arguments : (1,) structured array that the kernel reads; addresses in it stay valid while `keeps` live. A program
        makes it one copy a thread.
    parts : pieces that the work is cut into, outside a stage.
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
class Stage(Bound):
    """Operations that run part by part.

    Parameters
    ----------
    operations : in the order in which they run on each part.
    parts : number of parts that each operation is cut into.
    threads : number of threads that share the parts.
    local_bytes : distance in bytes between the buffers of two threads.
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
    """Operations and stages in order, with the scratch memory that they share, ``scratch``.

    Parameters
    ----------
    steps : operations and stages, in the order in which they run.
    threads : number of threads that share the parts of an operation outside a stage; None for as many as the process
        may use.
    """

    def __init__(self, steps: Sequence[Operation | Stage], threads: int | None = None) -> None:
        threads = thread_count(threads)
        stages = [
            step if isinstance(step, Stage) else Stage((step,), step.parts, min(step.parts, threads), 0)
            for step in steps
        ]
        self.operations = tuple(operation for stage in stages for operation in stage.operations)
        # Computed once a stage: each of its operations asks for the largest of all.
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

    @property
    def runs(self) -> int:
        """How often it ran to its end, counted by the run itself."""
        return int(self._stages[-1, 0])

    def forget(self) -> None:
        """Run as if for the first time: what was bound may have changed."""

    def run(self) -> None:
        """Run every operation in order, with the help of whichever workers are free."""
        sharing.run(workers.pool(self._lanes), *self._call)


def _scratch_bytes(stage: Stage) -> int:
    return max(round_up(op.scratch_bytes, CACHE_LINE) for op in stage.operations)
