"""Finds the extensions that users registered with Numba: implementations of functions, methods and attributes.

An implementation is either a template, by which Numba types a call, or a lowering, which writes its LLVM code.
"""

import contextlib
import sys
import types as python
from typing import Any

import numpy as np
from numba.core import imputils, types
from numba.core.registry import cpu_target
from numba.core.typing import templates

KNOWN = ("builtins", "cmath", "llvmlite", "math", "numba", "numpy", "operator")
"""Packages whose versions are part of every file name in the cache, or that come with Python."""

PACKAGES = ("fgnumba.kernels", "fgnumba.functions")
"""Packages whose digest is part of every file name in the cache."""


def is_known(module: str | None) -> bool:
    """Whether a module's functions are identified by their names alone, because the cache knows its version."""
    name = module or ""
    return name.startswith(tuple(f"{package}." for package in PACKAGES)) or name.partition(".")[0] in KNOWN


def module_of(function: Any) -> str | None:
    """Return the module in which a function was really defined. ``functools.wraps`` copies another one's name."""
    if isinstance(function, python.FunctionType):
        return function.__globals__.get("__name__")
    return getattr(function, "__module__", None)


def templates_of(value: Any) -> tuple[Any, ...]:
    """Return the templates by which Numba types calls of a function."""
    context = cpu_target.typing_context
    # Numba loads extensions lazily; this loads those registered since it last compiled.
    context.refresh()
    return tuple(getattr(context._lookup_global(value), "templates", ()))


def names_in(code: python.CodeType) -> list[str]:
    """Return the names that a function's code, and the code nested in it, look up."""
    names = dict.fromkeys(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, python.CodeType):
            names.update(dict.fromkeys(names_in(constant)))
    return list(names)


def key_of(template: Any) -> str:
    """Return the name of the function or type that a template is for."""
    key = getattr(template, "key", None)
    return str(getattr(key, "__qualname__", type(key).__qualname__))


_LISTS = (
    *((templates.builtin_registry, name) for name in ("functions", "attributes", "globals")),
    *(
        (imputils.builtin_registry, name)
        for name in ("functions", "getattrs", "setattrs", "casts", "constants")
    ),
)
"""The lists to which Numba adds everybody's extensions. They grow and never shrink."""

_read = [0] * len(_LISTS)
_found: list[Any] = []


def registered() -> list[Any]:
    """Return the users' templates and lowerings for things that are not their own, which may affect any kernel."""
    for index, (registry, name) in enumerate(_LISTS):
        entries = getattr(registry, name, [])
        for entry in entries[_read[index] :]:
            _found.extend(extension for extension in _extensions(entry) if extension not in _found)
        _read[index] = len(entries)
    return _found


def _extensions(entry: Any) -> list[Any]:
    """Return those parts of a list entry that belong to a user and are for something that does not."""
    if isinstance(entry, type):
        return [entry] if _foreign(entry) and _of_others(getattr(entry, "key", None)) else []
    if isinstance(entry[1], types.Function):
        # The entry is a global name and its templates.
        return [template for template in entry[1].templates if _foreign(template) and _of_others(entry[0])]
    lowering, target = entry[0], entry[1]
    is_users = isinstance(lowering, python.FunctionType) and not all(map(_is_given, _modules(lowering)))
    return [lowering] if is_users and _of_others(target) else []


def _foreign(template: type) -> bool:
    """Whether any part of a template was written by a user."""
    parts = [part for kind in template.__mro__ for part in vars(kind).values()]
    functions = [getattr(part, "__func__", part) for part in parts]
    modules = [kind.__module__ for kind in template.__mro__]
    return not all(_is_given(module) for module in modules + [m for f in functions for m in _modules(f)])


def _modules(function: Any) -> list[str | None]:
    """Return the modules of a function and of the functions in its closure; an empty list if it is no function."""
    if not isinstance(function, python.FunctionType):
        return []
    held = [_modules(value) for value in contents(function) if value is not function]
    return [module_of(function), *(module for modules in held for module in modules)]


def contents(function: Any) -> list[Any]:
    """Return the values in a function's closure, without empty cells."""
    values = []
    for cell in function.__closure__ or ():
        with contextlib.suppress(ValueError):
            values.append(cell.cell_contents)
    return values


def _of_others(target: Any) -> bool:
    """Whether something belongs to Numba, NumPy or Python.

    If it does not, a kernel that uses it has it among its names.
    """
    module = None if isinstance(target, np.ufunc) else getattr(target, "__module__", None)
    return _is_given(str(module or "builtins"))


def _is_given(module: str | None) -> bool:
    """Whether a module is known or comes with Python."""
    name = (module or "").partition(".")[0]
    return is_known(module) or (name != "__main__" and name.lstrip("_") in sys.stdlib_module_names)
