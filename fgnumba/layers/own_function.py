"""Functions of one's own, of which a loss or a layer is made: what they may be, their name, their machine code.

Numba compiles a function as it stands, for values alone, and ``fgnumba.functions`` derives the function that computes
values and tangents.
"""

import hashlib
import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
from numba import njit, types
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError

from fgnumba.errors import ConfigError, FgError, shown
from fgnumba.functions.differentiable import Differentiable, differentiable
from fgnumba.functions.typed import first_line
from fgnumba.kernels.machine import numba_settings

Function = Callable[..., Any]

KEPT = 256
"""The most functions of which what was made of them is kept."""

TANGENTS = 8
"""Number of tangents that a pass takes where many partial derivatives are asked for: a vector of AVX-512."""


def checked_function(what: str, given: Any, arguments: int) -> Function:
    """Return a function of so many arguments, which Numba can be asked to compile.

    Parameters
    ----------
    what : str
        What the function is for; messages begin with it.
    given : callable
        A Python function, or one that ``numba.njit`` has decorated.
    arguments : int
        The number of arguments that it is called with.

    Raises
    ------
    ConfigError
        It is no such function, or takes other arguments.
    """
    function = python_function(given)
    if not inspect.isfunction(function):
        raise ConfigError(
            f"{what} is {shown(given)}; a Python function, or one decorated with numba.njit, is required"
        )
    if isinstance(given, Dispatcher) and given.targetoptions.get("parallel"):
        raise ConfigError(
            f"{what}: {described(given)} is compiled with parallel=True; examples are shared among all threads "
            "already: parallel=False is required"
        )
    code = function.__code__
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) or code.co_kwonlyargcount:
        raise ConfigError(
            f"{what}: {described(given)} takes *, ** or keyword-only arguments; "
            f"{arguments} plain ones are required"
        )
    if code.co_argcount != arguments:
        raise ConfigError(
            f"{what}: {described(given)} takes {code.co_argcount} arguments; {arguments} are required"
        )
    checked: Function = given
    return checked


def python_function(given: Any) -> Any:
    """Return the Python function that a Numba function was made of, and anything else as it is."""
    if isinstance(given, Differentiable):
        given = given.primal
    return given.py_func if isinstance(given, Dispatcher) else given


def described(given: Any) -> str:
    """Return the name of a function for messages: its own name, file and line."""
    code = python_function(given).__code__
    return f"{code.co_name} ({code.co_filename}, line {code.co_firstlineno})"


@lru_cache(maxsize=KEPT)
def primal(given: Function) -> Any:
    """Return the Numba function that computes the value, in which a division by 0 is no exception."""
    return _compiled(given)


@lru_cache(maxsize=KEPT)
def primal_in_kernels(given: Function) -> Any:
    """Return the same function for kernels alone.

    A kernel is not kept on disk where it calls a function that Python has called, too: what that was compiled from is
    not known.
    """
    return _compiled(given)


def _compiled(given: Function) -> Any:
    numba_settings.check()
    fastmath = given.targetoptions.get("fastmath", False) if isinstance(given, Dispatcher) else False
    return njit(error_model="numpy", fastmath=fastmath)(python_function(given))


@lru_cache(maxsize=KEPT)
def tangent(given: Function) -> Any:
    """Return the Numba function that computes value and tangent, from arguments and then their tangents."""
    return differentiable(_compiled(given)).tangent


_KNOWN = ("numpy", "math", "cmath", "numba", "random", "operator")
"""Packages whose functions Numba has of its own: what their source is does not matter."""


@lru_cache(maxsize=KEPT)
def digest(given: Function) -> str:
    """Return a digest of a function's code, of the values that it names, and of the functions that it calls.

    It is the same in every process of the same version of Python, so that a run is not resumed with another function.
    Of a value that is neither a number, text, an array, a collection of them nor a function, the type counts alone.
    """
    found = hashlib.sha256()
    _read(found, python_function(given), set())
    return found.hexdigest()


def _read(found: Any, value: Any, met: set[int]) -> None:
    value = python_function(value)
    found.update(type(value).__qualname__.encode())
    if id(value) in met:
        return
    if isinstance(value, (type(None), bool, int, float, complex, str, bytes)):
        found.update(repr(value).encode())
    elif isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        found.update(f"{value.shape} {value.dtype.str}".encode() + value.tobytes())
    elif isinstance(value, (list, tuple)):
        for item in value:
            _read(found, item, met)
    elif inspect.isfunction(value):
        met.add(id(value))
        inside = inspect.getclosurevars(value)
        _read(found, [value.__code__, value.__defaults__], met)
        for name, named in sorted({**inside.globals, **inside.nonlocals}.items()):
            _read(found, [name, named], met)
            if inspect.ismodule(named) and named.__name__.partition(".")[0] not in _KNOWN:
                # Numba compiles a module's numbers and functions in, as it does a function's own.
                kept = [one for one in value.__code__.co_names if one in vars(named)]
                _read(found, [[one, vars(named)[one]] for one in kept], met)
    elif inspect.iscode(value):
        found.update(value.co_code)
        _read(found, [value.co_consts, value.co_names, value.co_varnames], met)
    elif inspect.ismodule(value):
        found.update(value.__name__.encode())


def returned_type(what: str, given: Function, arguments: Sequence[types.Type]) -> types.Type:
    """Compile a function for arguments of some types, and return the type of its value.

    Parameters
    ----------
    what : str
        What the function is for; the message begins with it.
    given : callable
        The function.
    arguments : sequence of numba.types.Type
        Types of the arguments.

    Raises
    ------
    ConfigError
        Numba cannot compile it for such arguments; the message says why, and where.
    """
    compiled = primal(given)
    try:
        compiled.compile(tuple(arguments))
    except NumbaError as error:
        raise ConfigError(f"{what}: {described(given)} cannot be compiled: {in_one_line(error)}") from None
    return compiled.overloads[tuple(arguments)].signature.return_type


@contextmanager
def compiling(what: str, given: Function) -> Iterator[None]:
    """Name the function in errors of Numba's, on one line, while kernels are compiled that call its tangent.

    Parameters
    ----------
    what : str
        What the function is for; the message begins with it.
    given : callable
        The function.

    Raises
    ------
    ConfigError
        Numba could not compile the kernel.
    """
    try:
        yield
    except NumbaError as error:
        raise ConfigError(
            f"{what}: the tangent of {described(given)} cannot be compiled: {in_one_line(error)}"
        ) from None


_PLACE = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')


def in_one_line(error: BaseException) -> str:
    """Return what Numba says of a function that it cannot compile, in one line with the line of code."""
    if isinstance(error, FgError):
        return str(error)
    place = _PLACE.search(str(error))
    where = f" (line {place['line']} of {place['file']})" if place else ""
    return f"{first_line(error).rstrip('.: ')}{where}"
