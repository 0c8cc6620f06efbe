"""How many threads share the work."""

import os

import numba

from fgnumba.errors import DeviceError

OVERRIDE = "FGNUMBA_THREADS"


def thread_count(requested: int | None = None) -> int:
    """Return `requested`, else ``FGNUMBA_THREADS``, else the number of processors that this process may use.

    Raises
    ------
    DeviceError
        Not a whole number from 1 to the processors that this process may use. ``NUMBA_NUM_THREADS``, where it is set,
        stands for that number.
    """
    available: int = numba.config.NUMBA_NUM_THREADS
    source, value = "threads", requested
    if value is None:
        text = os.environ.get(OVERRIDE)
        if not text:
            return available
        source = OVERRIDE
        value = int(text) if text.isdecimal() else 0
    if not 1 <= value <= available:
        given = os.environ.get(OVERRIDE) if requested is None else requested
        raise DeviceError(f"{source}: {given!r} is not a whole number from 1 to {available}")
    return value
