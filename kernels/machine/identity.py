"""Computes a digest that tells each kernel's code from every other's, including everything that Numba compiles into it.

A function's bytecode alone does not say what it computes. Numba treats the values of its closure and of its global
names as constants, and compiles the functions among them into it. So all of these are read, and everything that they
refer to in turn. Functions of ``fgnumba.kernels``, of Numba and of NumPy are identified by their names: the versions of
Numba and NumPy, and a digest of this package, are part of every file name in the cache as well.

Some things cannot be read, such as the address of a foreign function. They are identified by the Python object itself,
which is valid in this process only. The same holds for a function that Numba compiled earlier, unless everything it
depends on was the same then: Numba compiles a function once for given types, and later changes of its global names
have no effect.
"""

import dataclasses
import enum
import hashlib
import re
import sys
import types as python
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from numba.core import types
from numba.core.caching import NullCache
from numba.core.dispatcher import Dispatcher
from numba.core.extending import _Intrinsic

from fgnumba.kernels.machine.cache import KernelCache
from fgnumba.kernels.machine.registered import is_known, key_of, module_of, names_in, registered, templates_of

_PLAIN = (type(None), type(Ellipsis), bool, int, float, complex, str, bytes)
_SIMPLE = (type(None), bool, int, str)

FROZEN_BYTES = 10**6
"""Bytes of the largest array that Numba copies into machine code. Of a larger one it takes the address."""

DEPENDS_ON = "__depends_on__"
"""Attribute of a function or an object: a tuple of what it is compiled from, besides its own code and global names."""


class Identity(NamedTuple):
    """A digest of a function and of everything that is compiled with it.

    Parameters
    ----------
    digest : str
        Hexadecimal digits.
    lasting : bool
        True: another process would compute the same digest. False: the digest is valid only in this process, while
        `keeps` are alive.
    keeps : tuple of objects
        The objects that are identified by their addresses.
    parts : tuple of (object, Identity)
        What Numba compiles once and uses in several kernels, each with its present identity.
    """

    digest: str
    lasting: bool
    keeps: tuple[Any, ...]
    parts: tuple[tuple[Any, "Identity"], ...] = ()

    def note_compiled(self) -> None:
        """Record that every signature compiled so far was compiled from the parts as they are in this identity."""
        for part, part_identity in self.parts:
            noted = _compiled_as.setdefault(part, {})
            for signature in _signatures(part):
                noted.setdefault(signature, part_identity)


_compiled_as: WeakKeyDictionary[Any, dict[Any, Identity]] = WeakKeyDictionary()
"""For each dispatcher and template: the identity that it had when each of its signatures was compiled for a kernel."""


def identity(function: Callable[..., Any], *more: Any) -> Identity:
    """Return the identity of a function that is compiled with the options `more`."""
    reader = _Reader()
    reader.read(function)
    reader.read(more)
    parts = []
    for part, source in reader.parts:
        now = _alone(source)
        parts.append((part, now))
        noted = _compiled_as.get(part, {})
        if any(
            signature not in noted or noted[signature].digest != now.digest for signature in _signatures(part)
        ):
            # The machine code was compiled from values of its global names that are not known any more.
            reader.read_address(part)
    return reader.found(tuple(parts))


def note_compiled(dispatcher: Any, signature: Any) -> None:
    """Record the present identity of a user's function as the one that it was compiled from for a signature."""
    if not _is_ours(dispatcher):
        _compiled_as.setdefault(dispatcher, {}).setdefault(signature, _alone(dispatcher))


_written_from: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


def note_written(source: Any, result: Any) -> None:
    """Record that a dispatcher's code is written from that of another, as a tangent's from a function's."""
    _written_from.setdefault(source, []).append(result)


def _is_ours(dispatcher: Any) -> bool:
    """Whether a dispatcher's name says what it computes, because nothing of a user's is compiled into it."""
    function = dispatcher.py_func
    return is_known(module_of(function)) and not hasattr(function, DEPENDS_ON)


def _alone(source: Any) -> Identity:
    reader = _Reader()
    reader.read(source)
    return reader.found()


def _signatures(part: Any) -> list[Any]:
    """Return the signatures for which a dispatcher, or the template of an overload or intrinsic, has been compiled."""
    compiled = part.overloads if isinstance(part, Dispatcher) else getattr(part, "_impl_cache", {})
    return list(compiled)


@cache
def _of_ours(intrinsic: Any) -> Identity:
    """Return the identity of an intrinsic of a known module. It is cached, because its closure never changes."""
    return identity(intrinsic._defn)


def short_key(function: Callable[..., Any]) -> tuple[Any, ...] | None:
    """Return a key that tells a function of a known module from every other one in this process.

    None means that only the identity can tell it. The key exists because binding a model asks for hundreds of
    kernels, and reading a kernel's identity takes fifty times as long.
    """
    if not is_known(module_of(function)) or function.__defaults__ or function.__kwdefaults__:
        return None
    key: list[Any] = [module_of(function), function.__qualname__]
    for cell in function.__closure__ or ():
        held = cell.cell_contents
        kind = type(held)
        lasts = kind is python.FunctionType and held.__closure__ is None and is_known(module_of(held))
        if not (lasts or kind in _SIMPLE or (kind is _Intrinsic and is_known(module_of(held._defn)))):
            return None
        # The type is part of the key because True equals 1.
        key += kind, held
    return tuple(key)


class _Reader:
    def __init__(self) -> None:
        self.hash, self.lasting = hashlib.sha256(), True
        self.keeps: list[Any] = []
        self.parts: list[tuple[Any, Any]] = []
        self._registered_read = False
        self._met: dict[int, int] = {}
        # An address identifies an object only while the object is alive.
        self._alive: list[Any] = []

    def found(self, parts: tuple[tuple[Any, Identity], ...] = ()) -> Identity:
        """Return the identity of everything read so far."""
        return Identity(self.hash.hexdigest(), self.lasting, tuple(self.keeps), parts)

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
            # It was read before. Functions may refer to themselves.
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
            self._read_dispatcher(value)
        elif isinstance(value, _Intrinsic):
            self._read_intrinsic(value)
        else:
            self._read_other(value)

    def _read_dispatcher(self, value: Any) -> None:
        self._say("dispatcher", type(value).__qualname__)
        self._read_all((value.py_func, value.targetoptions, value.locals))
        if _is_ours(value):
            return
        self._read_all((type(value), value._compiler.pipeline_class))
        self._add_part(value)
        if not isinstance(value._cache, NullCache | KernelCache):
            # The files of Numba's own cache depend neither on global names nor on the functions that are called.
            self.read_address(value)

    def _add_part(self, dispatcher: Any) -> None:
        self.parts.append((dispatcher, dispatcher))
        # Which of these is compiled in the function's place, its name does not tell.
        for other in _written_from.get(dispatcher, ()):
            self._add_part(other)

    def _read_intrinsic(self, value: Any) -> None:
        self._say("intrinsic", value._name)
        if is_known(module_of(value._defn)):
            of_definition = _of_ours(value)
            self._say(of_definition.digest)
            self.lasting = self.lasting and of_definition.lasting
            self.keeps += of_definition.keeps
            return
        self._read_all((value._defn, value._prefer_literal, value._ctor_kwargs))
        self.parts += [(template, value) for template in templates_of(value)]

    def _read_all(self, values: Iterable[Any]) -> None:
        for value in values:
            self.read(value)

    def _read_unordered(self, values: Any) -> None:
        """Read a set or a dictionary, in an order that is the same in every process."""
        items = list(values.items()) if isinstance(values, dict) else [(value,) for value in values]
        self._say(type(values).__name__, len(items))
        self._read_all(sorted(items, key=repr))

    def _read_other(self, value: Any) -> None:
        if isinstance(value, np.ndarray) and not value.dtype.hasobject:
            flags = value.flags
            self._say("array", repr(value.dtype), value.shape, flags.c_contiguous, flags.f_contiguous)
            if value.nbytes > FROZEN_BYTES or not (flags.c_contiguous or flags.f_contiguous):
                # Numba reads such an array in place, at its address.
                self.read_address(value)
            else:
                self._say(flags.aligned)
                self.hash.update(value.tobytes())
        elif isinstance(value, np.generic) and not value.dtype.hasobject:
            self._say("scalar", repr(value.dtype))
            self.hash.update(value.tobytes())
        elif isinstance(value, np.dtype) and not value.hasobject:
            self._say("dtype", repr(value))
        elif isinstance(value, types.Type) or type(value).__module__ == "llvmlite.ir.types":
            self.lasting = self.lasting and (not isinstance(value, types.Type) or lasts(value))
            self.keeps.append(value)
            self._say("type", type(value).__qualname__, value)
        elif (
            dataclasses.is_dataclass(value)
            and not isinstance(value, type)
            and is_known(type(value).__module__)
        ):
            self._say("dataclass", type(value).__qualname__)
            self._read_all(getattr(value, field.name) for field in dataclasses.fields(value))
        elif is_known(type(value).__module__) and hasattr(value, DEPENDS_ON):
            self._say("object", type(value).__qualname__)
            self._read_all(getattr(value, DEPENDS_ON))
        elif isinstance(value, enum.Enum):
            self._say("enum", type(value).__module__, value)
            self.read(value.value)
        elif isinstance(value, tuple) and hasattr(value, "_fields"):
            self._say("named tuple", type(value).__qualname__, *value._fields)
            self._read_all(value)
        elif isinstance(value, python.ModuleType):
            self._say("module", value.__name__)
        else:
            name = _name(value)
            if name is None:
                self.read_address(value)
            else:
                self._say("named", name)
                self._read_overloads(value)

    def read_address(self, value: Any) -> None:
        """Identify an object by its address, which is valid in this process only, while the object is alive."""
        self.lasting = False
        self.keeps.append(value)
        self._say("object", id(value))

    def _read_function(self, function: python.FunctionType) -> None:
        self._say("function", function.__module__, function.__qualname__)
        self._read_all((function.__defaults__, function.__kwdefaults__))
        self._read_all(getattr(function, DEPENDS_ON, ()))
        names = [] if is_known(module_of(function)) else names_in(function.__code__)
        for cell in function.__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:
                self._say("empty")
                continue
            self._read_named(held, names)
        if is_known(module_of(function)):
            return
        self.read(function.__code__)
        self._read_overloads(function)
        self._read_registered()
        for name in names:
            if name in function.__globals__:
                self._say("global", name)
                self._read_named(function.__globals__[name], names)

    def _read_named(self, value: Any, names: list[str]) -> None:
        """Read the value of a closure's cell or of a global name. Of a module, read what `names` may mean."""
        self.read(value)
        modules, seen = [value], [value]
        while modules:
            module = modules.pop()
            if not isinstance(module, python.ModuleType) or is_known(module.__name__ + "."):
                continue
            if "getattr" in names:
                # The attribute's name may be computed, so nothing tells which attribute it is.
                self.read_address(object())
            for name in names:
                if hasattr(module, name):
                    self._say("of module", module.__name__, name)
                    held = getattr(module, name)
                    self.read(held)
                    if not any(held is other for other in seen):
                        modules.append(held)
                        seen.append(held)

    def _read_code(self, code: python.CodeType) -> None:
        counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
        self._say("code", code.co_name, *counts)
        self.hash.update(code.co_code)
        self._read_all(
            (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_exceptiontable)
        )
        self._read_all(code.co_consts)

    def _read_overloads(self, value: Any) -> None:
        """Read the implementations, registered by ``numba.extending.overload``, compiled in a function's place."""
        for template in templates_of(value):
            overload = getattr(template, "_overload_func", None)
            if overload is None:
                if not is_known(module_of(value)):
                    self.read_address(template)
            elif not (is_known(module_of(overload)) and overload.__closure__ is None):
                self._read_template(template, value)

    def _read_registered(self) -> None:
        """Read every extension of Numba that users registered for types and functions other than their own.

        A kernel's names do not tell whether it uses one.
        """
        if self._registered_read:
            return
        self._registered_read = True
        for extension in registered():
            if getattr(extension, "_overload_func", None) is not None:
                self._read_template(extension, extension._overload_func)
            else:
                self.read_address(extension)

    def _read_template(self, template: Any, source: Any) -> None:
        self._say("overload", key_of(template), getattr(template, "_attr", None))
        options = [getattr(template, name, None) for name in ("_jit_options", "prefer_literal", "_strict")]
        self._read_all(
            (template._overload_func, options, getattr(getattr(template, "_inline", None), "value", None))
        )
        self.parts.append((template, source))


def _name(value: Any) -> str | None:
    """Return the module and name under which a value is found; None if it is not an attribute of a known module."""
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    module = "numpy" if isinstance(value, np.ufunc) else getattr(value, "__module__", None)
    if not isinstance(name, str) or not isinstance(module, str) or not is_known(module):
        return None
    held: Any = sys.modules.get(module)
    for part in name.split("."):
        held = getattr(held, part, None)
    return f"{module}.{name}" if held is value else None


def lasts(value: Any) -> bool:
    """Whether a Numba type means the same in every process. Some types have an address in their names."""
    if isinstance(value, types.Type):
        key = None if value.key is value else value.key
        return is_known(type(value).__module__) and lasts(key)
    if isinstance(value, tuple):
        return all(lasts(part) for part in value)
    return type(value) in _PLAIN and not re.search(r" at 0x|#[0-9a-f]", str(value))
