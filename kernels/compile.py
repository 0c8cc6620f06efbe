"""Compilation of kernels: Python source in, the address of machine code out, through the disk cache.

A kernel is a function of int64 arguments (addresses and sizes) that returns nothing. It is compiled when it
is first asked for, and called from other kernels through :func:`fgnumba.kernels.emit.call`: so every kernel
is compiled once, whatever it is combined with.
"""

import os
import threading
from collections.abc import Callable
from typing import Any

from numba import types
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock

from fgnumba.kernels.cache import KernelCache

# contract: a b + c may be fused. Nothing may be reordered: results must not depend on how a loop was cut.
FASTMATH = {"contract", "nsz"}

_lock = threading.RLock()
_compiled: dict[str, Any] = {}
_listeners: list[Callable[[str], None]] = []


def on_compile(listener: Callable[[str], None]) -> Callable[[], None]:
    """Call `listener` with a kernel's name before it is compiled (not when it is read from disk).

    Returns the function that takes the listener off again.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def announce(name: str) -> None:
    """Tell the listeners that the kernel `name` is about to be compiled."""
    for listener in _listeners:
        listener(name)


def attach_cache(name: str, dispatcher: Any, function: Callable[..., Any]) -> Any:
    """Give a Numba dispatcher of `function` the disk cache of kernels, and return it."""
    dispatcher._cache = _AnnouncedCache(name, function.__code__.co_filename)
    return dispatcher


class _AnnouncedCache(KernelCache):
    def load_overload(self, sig: Any, target_context: Any) -> Any:
        found = super().load_overload(sig, target_context)
        if found is None:
            announce(self._name)
        return found


def compiled_count() -> int:
    """Return the number of kernels compiled or loaded in this process."""
    return len(_compiled)


def kernel(name: str, function: Callable[..., None], arguments: int, fastmath: set[str] | None = None) -> int:
    """Compile `function`, of `arguments` int64 arguments, and return its address.

    Parameters
    ----------
    name : identifies the machine code: two kernels of one name must be the same code.
    fastmath : LLVM's floating-point freedoms; the default lets multiply-adds fuse and nothing else.
    """
    # One thread at a time, so that a kernel has one address: that of the callback which is kept.
    with _lock:
        if name not in _compiled:
            options = {
                "nopython": True,
                "error_model": "numpy",
                "fastmath": FASTMATH if fastmath is None else fastmath,
            }
            callback = CFunc(function, ((types.int64,) * arguments, types.void), {}, options)
            attach_cache(name, callback, function)
            callback.compile()
            _compiled[name] = callback
        return int(_compiled[name].address)


def _wait_for_compilation() -> None:
    _lock.acquire()
    global_compiler_lock.acquire()


def _let_compile() -> None:
    global_compiler_lock.release()
    _lock.release()


# A lock that another thread holds at a fork is held for ever in the child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_for_compilation, after_in_parent=_let_compile, after_in_child=_let_compile
    )
