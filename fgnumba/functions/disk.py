"""Keeps tangents and drivers on disk, as kernels are kept: a later process that needs the same code reads it.

What a file holds is identified by the function's code, its constants, and everything that it calls; see
:mod:`fgnumba.kernels.machine.identity`. A function is not kept if one of these is unknown.
"""

import contextlib
from typing import Any

from numba.core import event
from numba.core.sigutils import normalize_signature

from fgnumba.kernels.machine.cache import KernelCache
from fgnumba.kernels.machine.identity import identity, lasts, note_compiled


class FunctionCache(KernelCache):
    """The disk cache of one Numba function.

    Parameters
    ----------
    dispatcher : numba dispatcher
        The function. It is read when it is compiled, since its global names may have other values by then.
    """

    def __init__(self, dispatcher: Any) -> None:
        super().__init__(dispatcher.py_func.__name__, None)
        self._dispatcher = dispatcher

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the compiled function, or None if it is not on disk."""
        self._read(sig)
        found = super().load_overload(sig, target_context)
        if found is not None:
            note_compiled(self._dispatcher, normalize_signature(sig)[0])
        return found

    def save_overload(self, sig: Any, data: Any) -> bool:
        """Store the compiled function, if other processes can use it, and return whether it is on disk."""
        self._read(sig)
        # Types that hold objects of this process cannot be written.
        with contextlib.suppress(Exception):
            return super().save_overload(sig, data)
        return False

    def _read(self, sig: Any) -> None:
        found = identity(self._dispatcher.py_func, self._dispatcher.targetoptions)
        # A type's name does not say all of it: that of a named tuple leaves out the names of its fields.
        lasting = found.lasting and all(lasts(kind) for kind in normalize_signature(sig)[0])
        self._identity = found.digest if lasting else None


class _Notes(event.Listener):
    """Notes what every function was compiled from, at the time when it was."""

    def on_start(self, event: Any) -> None:
        """Do nothing before a compilation."""

    def on_end(self, event: Any) -> None:
        """Note what a function was compiled from."""
        # A function whose code cannot be read is not kept on disk, and nothing else follows from it.
        with contextlib.suppress(Exception):
            note_compiled(event.data["dispatcher"], tuple(event.data["args"]))


event.register("numba:compile", _Notes())


def kept(dispatcher: Any) -> Any:
    """Return a Numba function that is read from disk where it was compiled before."""
    dispatcher._cache = FunctionCache(dispatcher)
    return dispatcher


def is_kept(dispatcher: Any) -> bool:
    """Return whether a Numba function is read from disk where it was compiled before."""
    return isinstance(dispatcher._cache, FunctionCache)
