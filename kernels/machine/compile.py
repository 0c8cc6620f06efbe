"""Compilation of kernels: Python source in, the address of machine code out, through the disk cache.

A kernel is a function of int64 arguments (addresses and sizes) that returns nothing. It is compiled when it
is first asked for, and called from other kernels through :func:`fgnumba.kernels.emit.call`: so every kernel
is compiled once, whatever it is combined with.
"""

import inspect
import os
import threading
from collections.abc import Callable
from typing import Any, NoReturn

from numba import njit, types
from numba.core.ccallback import CFunc
from numba.core.compiler_lock import global_compiler_lock

from fgnumba.errors import ConfigError, DeviceError
from fgnumba.kernels.machine import numba_settings
from fgnumba.kernels.machine.cache import KernelCache
from fgnumba.kernels.machine.identity import Identity, identity, short_key
from fgnumba.kernels.machine.registered import is_known
from fgnumba.uninterrupted import Uninterrupted

# contract: a b + c may be fused. Nothing may be reordered: results must not depend on how a loop was cut.
FASTMATH = {"contract", "nsz"}

_lock = threading.RLock()
_compiled: dict[tuple[str, str], tuple[Any, Identity]] = {}
_addresses: dict[tuple[Any, ...], int] = {}
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


def dispatcher(name: str, function: Callable[..., Any], **options: Any) -> Any:
    """Return `function` as Numba compiles it when it is called, through the disk cache of kernels."""
    if numba_settings.problem() is not None:
        return _refusing
    found = identity(function, options)
    if not is_known(function.__module__):
        # It is compiled when it is called, and what its names hold may have changed by then.
        found = found._replace(lasting=False)
    return _cached(name, njit(**options)(function), found)


def _refusing(*arguments: Any) -> NoReturn:
    raise DeviceError(str(numba_settings.problem()))


def _cached(name: str, compiled: Any, found: Identity) -> Any:
    compiled._cache = _AnnouncedCache(name, found.digest if found.lasting else None)
    return compiled


class _AnnouncedCache(KernelCache):
    def load_overload(self, sig: Any, target_context: Any) -> Any:
        numba_settings.check()
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
    name : for people, files and messages. Functions of one name and other code, or with other values in their
        closures and global names, are kernels of their own.
    fastmath : LLVM's floating-point freedoms; the default lets multiply-adds fuse and nothing else.

    Raises
    ------
    ConfigError
        `function` does not take `arguments` arguments.
    DeviceError
        Numba cannot compile, as its environment variables set it.
    """
    _check_arguments(name, function, arguments)
    # One thread at a time, so that a kernel has one address: that of the callback which is kept.
    with _lock:
        freedoms = FASTMATH if fastmath is None else fastmath
        short = short_key(function)
        shortcut = None if short is None else (name, arguments, frozenset(freedoms), short)
        if shortcut is None or shortcut not in _addresses:
            # An interrupt in the midst would leave Numba's tables broken.
            with Uninterrupted():
                address = _compile(name, function, arguments, freedoms)
            if shortcut is None:
                return address
            _addresses[shortcut] = address
        return _addresses[shortcut]


def _check_arguments(name: str, function: Callable[..., None], arguments: int) -> None:
    code = getattr(function, "__code__", None)
    if code is None:
        raise ConfigError(f"kernel {name!r}: {type(function).__name__}; must be a plain Python function")
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_kwonlyargcount:
        raise ConfigError(
            f"kernel {name!r}: takes *, ** or keyword-only arguments; must take {arguments} plain ones"
        )
    if code.co_argcount != arguments:
        raise ConfigError(
            f"kernel {name!r}: takes {code.co_argcount} arguments, those with defaults among them; "
            f"must take {arguments}"
        )


def _compile(name: str, function: Callable[..., None], arguments: int, fastmath: set[str]) -> int:
    options = {"nopython": True, "error_model": "numpy", "fastmath": fastmath}
    found = identity(function, arguments, options)
    key = name, found.digest
    if key not in _compiled:
        signature = (types.int64,) * arguments, types.void
        callback = _cached(name, CFunc(function, signature, {}, options), found)
        callback.compile()
        found.note_compiled()
        # What is known by its address alone must not give that to another.
        _compiled[key] = callback, found
    return int(_compiled[key][0].address)


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
