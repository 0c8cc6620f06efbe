"""What tells the code of one kernel from another's: everything that Numba compiles into it.

A function's bytecode does not say what it computes: Numba takes what its closure and its global names hold for
constants, and compiles the functions among them with it. So all of these are read, and what they refer to in turn.
Functions of ``fgnumba.kernels``, of Numba and of NumPy are known by their names: their versions, and a digest of
this package, stand in the name of every file of the cache beside this.

What cannot be read, such as a foreign function's address, is known by the object itself, in this process alone.
"""

import dataclasses
import enum
import hashlib
import sys
import types as python
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba.core import types
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic
from numba.core.registry import cpu_target

KNOWN = ("builtins", "cmath", "llvmlite", "math", "numba", "numpy", "operator")
"""Packages whose versions are part of every file's name, or that come with Python's."""

PACKAGE = __name__.rpartition(".")[0]

_PLAIN = (type(None), type(Ellipsis), bool, int, float, complex, str, bytes)
_SIMPLE = (type(None), bool, int, str)


class Identity(NamedTuple):
    """A digest of a function and of everything that is compiled with it.

    Parameters
    ----------
    digest : hexadecimal.
    lasting : whether another process would find the same; else the digest holds while `keeps` live.
    keeps : objects that are known by their addresses.
    """

    digest: str
    lasting: bool
    keeps: tuple[Any, ...]


def identity(function: Callable[..., Any], *more: Any) -> Identity:
    """Return what tells a function, compiled with the options `more`, from every other."""
    reader = _Reader()
    reader.read(function)
    reader.read(more)
    return Identity(reader.hash.hexdigest(), reader.lasting, tuple(reader.keeps))


def is_known(module: str | None) -> bool:
    """Whether a module's functions are known by their names."""
    name = module or ""
    return name.startswith(f"{PACKAGE}.") or name.partition(".")[0] in KNOWN


@cache
def _of_ours(intrinsic: Any) -> Identity:
    """Return the identity of an intrinsic of a known module, whose closure never changes."""
    return identity(intrinsic._defn)


def short_key(function: Callable[..., Any]) -> tuple[Any, ...] | None:
    """Return what tells a function of a known module from every other in this process.

    None where only its identity does. Binding a model asks for hundreds of kernels, and reading one takes fifty
    times as long.
    """
    if not is_known(function.__module__) or function.__defaults__ or function.__kwdefaults__:
        return None
    key: list[Any] = [function.__module__, function.__qualname__]
    for cell in function.__closure__ or ():
        held = cell.cell_contents
        kind = type(held)
        lasts = kind is python.FunctionType and held.__closure__ is None and is_known(held.__module__)
        if not (lasts or kind in _SIMPLE or (kind is _Intrinsic and is_known(held._defn.__module__))):
            return None
        # True equals 1.
        key += kind, held
    return tuple(key)


class _Reader:
    def __init__(self) -> None:
        self.hash, self.lasting = hashlib.sha256(), True
        self.keeps: list[Any] = []
        self._met: dict[int, int] = {}
        # An address names an object while that lives.
        self._alive: list[Any] = []

    def _say(self, *words: object) -> None:
        for word in words:
            said = str(word).encode(errors="surrogatepass")
            self.hash.update(b"%d:" % len(said))
            self.hash.update(said)

    def read(self, value: Any) -> None:
        kind = type(value)
        if kind in _PLAIN:
            self._say(kind.__name__, repr(value))
            return
        if kind is tuple:
            self._say("tuple", len(value))
            self._read_all(value)
            return
        if id(value) in self._met:
            # Met before: functions may refer to themselves.
            self._say("again", self._met[id(value)])
            return
        self._met[id(value)] = len(self._met)
        self._alive.append(value)
        if kind is list:
            self._say("list", len(value))
            self._read_all(value)
        elif kind in (set, frozenset, dict):
            self._read_unordered(value)
        elif isinstance(value, python.CodeType):
            self._read_code(value)
        elif isinstance(value, python.FunctionType):
            self._read_function(value)
        elif isinstance(value, Dispatcher):
            self._say("dispatcher")
            self._read_all((value.py_func, value.targetoptions, value.locals))
        elif isinstance(value, _Intrinsic):
            self._read_intrinsic(value)
        else:
            self._read_other(value)

    def _read_intrinsic(self, value: Any) -> None:
        found = _of_ours(value) if is_known(value._defn.__module__) else identity(value._defn)
        self._say("intrinsic", value._name, found.digest)
        self.lasting = self.lasting and found.lasting
        self.keeps += found.keeps

    def _read_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.read(value)

    def _read_unordered(self, values: Any) -> None:
        """Read a set or a dictionary, in an order that is the same in every process."""
        items = list(values.items()) if isinstance(values, dict) else [(value,) for value in values]
        self._say(type(values).__name__, len(items))
        self._read_all(sorted(items, key=repr))

    def _read_other(self, value: Any) -> None:
        if isinstance(value, np.ndarray) and value.dtype != object:
            flags = value.flags
            self._say("array", repr(value.dtype), value.shape, flags.c_contiguous, flags.f_contiguous)
            self.hash.update(value.tobytes())
        elif isinstance(value, np.generic) and value.dtype != object:
            self._say("scalar", repr(value.dtype))
            self.hash.update(value.tobytes())
        elif isinstance(value, np.dtype) and not value.hasobject:
            self._say("dtype", repr(value))
        elif isinstance(value, types.Type) or type(value).__module__ == "llvmlite.ir.types":
            # Some of Numba's have the address of what they stand for in their names.
            self.lasting = self.lasting and " at 0x" not in str(value)
            self.keeps.append(value)
            self._say("type", type(value).__qualname__, value)
        elif dataclasses.is_dataclass(value) and is_known(type(value).__module__):
            self._say("dataclass", type(value).__qualname__)
            self._read_all(getattr(value, field.name) for field in dataclasses.fields(value))
        elif isinstance(value, enum.Enum):
            self._say("enum", type(value).__module__, value)
            self.read(value.value)
        elif isinstance(value, python.ModuleType):
            self._say("module", value.__name__)
        else:
            name = _name(value)
            if name is None:
                self._read_address(value)
            else:
                self._say("named", name)
                self._read_overloads(value)

    def _read_address(self, value: Any) -> None:
        self.lasting = False
        self.keeps.append(value)
        self._say("object", id(value))

    def _read_function(self, function: python.FunctionType) -> None:
        self._say("function", function.__module__, function.__qualname__)
        self._read_all((function.__defaults__, function.__kwdefaults__))
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:
                self._say("empty")
                continue
            self.read(held)
        if is_known(function.__module__):
            return
        self.read(function.__code__)
        self._read_overloads(function)
        names = _names(function.__code__)
        for name in names:
            if name in function.__globals__:
                self._say("global", name)
                self._read_global(function.__globals__[name], names)

    def _read_global(self, value: Any, names: list[str]) -> None:
        self.read(value)
        if isinstance(value, python.ModuleType) and not is_known(value.__name__ + "."):
            # What a function names beside a module may be taken from it.
            for name in names:
                if hasattr(value, name):
                    self._say("of module", name)
                    self.read(getattr(value, name))

    def _read_code(self, code: python.CodeType) -> None:
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        self._say("code", code.co_name, *counts)
        self.hash.update(code.co_code)
        self._read_all(
            (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_exceptiontable)
        )
        self._read_all(code.co_consts)

    def _read_overloads(self, value: Any) -> None:
        """Read what Numba compiles in a function's place: what is called from kernels is registered so."""
        context = cpu_target.typing_context
        # What was registered since Numba compiled last.
        context.refresh()
        registered = context._lookup_global(value)
        for template in getattr(registered, "templates", ()):
            overload = getattr(template, "_overload_func", None)
            if overload is not None and not (is_known(overload.__module__) and overload.__closure__ is None):
                self._say("overload")
                self._read_all((overload, getattr(template, "_jit_options", None)))


def _name(value: Any) -> str | None:
    """Return the module and the name that a value is found by, None where it stands in no module that is known."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = "numpy" if isinstance(value, np.ufunc) else getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str) or not is_known(module):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}.{name}" if found is value else None


def _names(code: python.CodeType) -> list[str]:
    """Return the names that a function's code and the code inside of it look up."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, python.CodeType):
            names.update(dict.fromkeys(_names(constant)))
    return list(names)
