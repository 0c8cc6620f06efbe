"""Asks the operating system for the permission to use AMX's tiles.

Tiles are 8 KB of registers, which Linux saves at a context switch only for processes that asked. Without the
permission, the first instruction on a tile ends the process.

Source: Linux, Documentation/arch/x86/xstate.rst (since 5.16).
"""

import ctypes
import os
import platform
import sys
from functools import cache

_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA = 158, 0x1023, 18


@cache
def refusal() -> str | None:
    """Ask once for the permission. Returns None if it was given, else the reason for people."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "tiles are used on Linux alone"
    library = ctypes.CDLL(None, use_errno=True)
    if library.syscall(_ARCH_PRCTL, _REQUEST_PERMISSION, _TILE_DATA) != 0:
        return f"Linux gives no permission for tiles ({os.strerror(ctypes.get_errno())})"
    return None
