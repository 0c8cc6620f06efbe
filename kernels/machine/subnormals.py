"""Makes subnormal numbers count as zero while a block of Python runs, as they do in every kernel."""

from collections.abc import Iterator
from contextlib import contextmanager

from fgnumba.kernels.emit import atomics
from fgnumba.kernels.machine.compile import dispatcher


def _flush() -> int:
    return atomics.flush_subnormals()


def _restore(mode: int) -> None:
    atomics.set_floating_point_mode(mode)


flush = dispatcher("flush-subnormals", _flush)
"""``flush()``: make subnormal numbers count as zero in this thread, and return its previous floating-point mode."""

restore = dispatcher("restore-floating-point-mode", _restore)
"""``restore(mode)``: set this thread's floating-point mode to one that `flush` returned."""


@contextmanager
def flushed() -> Iterator[None]:
    """Make subnormal operands and results count as zero in this thread while the ``with`` block runs."""
    mode = flush()
    try:
        yield
    finally:
        restore(mode)
