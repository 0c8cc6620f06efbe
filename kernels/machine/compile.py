"""Compiles kernels: takes a Python function and returns the address of its machine code, through the disk cache.

A kernel is a function of int64 arguments (addresses and sizes) that returns nothing. It is compiled when it is first
asked for. Other kernels call it by its address, through :func:`fgnumba.kernels.emit.call`, so that each kernel is
compiled only once, however many kernels use it.
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

# contract: a b + c may be fused. Nothing may be reordered, because results must not depend on how loops are cut.
FASTMATH = {"contract", "nsz"}

_lock = threading.RLock()
_compiled: dict[tuple[str, str], tuple[Any, Identity]] = {}
_addresses: dict[tuple[Any, ...], int] = {}
_listeners: list[Callable[[str], None]] = []
_followers: list[Callable[[str, bool], None]] = []


def on_compile(listener: Callable[[str], None]) -> Callable[[], None]:
    """Call `listener` with a kernel's name each time before one is compiled. Reading one from disk does not count.

    Returns
    -------
    callable
        Removes the listener.
    """
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def on_compiled(listener: Callable[[str, bool], None]) -> Callable[[], None]:
    """Call `listener` each time after a kernel was compiled, with its name and whether it is kept on disk.

    Returns
    -------
    callable
        Removes the listener.
    """
    _followers.append(listener)
    return lambda: _followers.remove(listener)


def announce_end(name: str, kept: bool) -> None:
    """Tell the listeners that the kernel called `name` is compiled, and whether it is kept on disk."""
    for listener in _followers:
        listener(name, kept)


def announce(name: str) -> None:
    """Tell the listeners that the kernel called `name` is about to be compiled."""
    for listener in _listeners:
        listener(name)


def dispatcher(name: str, function: Callable[..., Any], **options: Any) -> Any:
    """Return `function` as a Numba function that is compiled at its first call, through the disk cache of kernels."""
    if numba_settings.problem() is not None:
        return _refusing
    function_identity = identity(function, options)
    if not is_known(function.__module__):
        # It is compiled only when it is called, and its global names may have other values by then.
        function_identity = function_identity._replace(lasting=False)
    return _cached(name, njit(**options)(function), function_identity)


def _refusing(*arguments: Any) -> NoReturn:
    raise DeviceError(str(numba_settings.problem()))


def _cached(name: str, compiled: Any, found: Identity) -> Any:
    compiled._cache = _AnnouncedCache(name, found.digest if found.lasting else None)
    return compiled


class _AnnouncedCache(KernelCache):
    def load_overload(self, sig: Any, target_context: Any) -> Any:
        numba_settings.check()
        compiled = super().load_overload(sig, target_context)
        if compiled is None:
            announce(self._name)
        return compiled

    def save_overload(self, sig: Any, data: Any) -> bool:
        kept = super().save_overload(sig, data)
        announce_end(self._name, kept)
        return kept


def compiled_count() -> int:
    """Return the number of kernels compiled or loaded in this process."""
    return len(_compiled)


def kernel(name: str, function: Callable[..., None], arguments: int, fastmath: set[str] | None = None) -> int:
    """Compile `function` and return its address.

    Parameters
    ----------
    name : str
        Name for people, files and messages. It need not be unique: functions of the same name that differ in their
        code, or in the values of their closures or global names, are different kernels.
    function : callable
        A plain Python function, which Numba compiles.
    arguments : int
        Number of its arguments, all int64.
    fastmath : set of str or None
        LLVM's floating-point freedoms. None: multiply-adds may be fused, and nothing else.

    Raises
    ------
    ConfigError
        `function` does not take `arguments` arguments.
    DeviceError
        Numba cannot compile with its present environment variables.
    """
    _check_arguments(name, function, arguments)
    # One thread at a time, so that each kernel has a single address, which belongs to the callback that is kept.
    with _lock:
        freedoms = FASTMATH if fastmath is None else fastmath
        short = short_key(function)
        shortcut = None if short is None else (name, arguments, frozenset(freedoms), short)
        if shortcut is None or shortcut not in _addresses:
            # An interrupt in the middle would leave Numba's tables broken.
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
    code_identity = identity(function, arguments, options)
    key = name, code_identity.digest
    if key not in _compiled:
        signature = (types.int64,) * arguments, types.void
        callback = _cached(name, CFunc(function, signature, {}, options), code_identity)
        callback.compile()
        code_identity.note_compiled()
        # Objects that the digest names by their addresses must stay alive, or new ones might get the same addresses.
        _compiled[key] = callback, code_identity
    return int(_compiled[key][0].address)


def _wait_for_compilation() -> None:
    _lock.acquire()
    global_compiler_lock.acquire()


def _let_compile() -> None:
    global_compiler_lock.release()
    _lock.release()


# If another thread holds a lock at a fork, nobody in the child ever releases it.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_wait_for_compilation, after_in_parent=_let_compile, after_in_child=_let_compile
    )
