"""Arithmetic in which subnormal numbers count as zero, for a stretch of Python: as every kernel computes."""

from collections.abc import Iterator
from contextlib import contextmanager

from fgnumba.kernels.emit import atomics
from fgnumba.kernels.machine.compile import dispatcher


def _flush() -> int:
    return atomics.flush_subnormals()


def _restore(mode: int) -> None:
    atomics.set_floating_point_mode(mode)


flush = dispatcher("flush-subnormals", _flush)
"""``flush()``: set this thread's floating-point mode, and return what it was."""

restore = dispatcher("restore-floating-point-mode", _restore)
"""``restore(mode)``: set this thread's floating-point mode to what `flush` returned."""


@contextmanager
def flushed() -> Iterator[None]:
    """Let subnormal operands and results count as zero in this thread."""
    mode = flush()
    try:
        yield
    finally:
        restore(mode)
