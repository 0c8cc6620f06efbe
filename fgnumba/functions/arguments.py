"""Arguments of the calls that differentiate: checked, completed with tangents, and results in their structure."""

import inspect
from typing import Any

import numpy as np
from numba import typeof
from numba.core.errors import NumbaError

from fgnumba.errors import ConfigError, DtypeError, ShapeError, shown
from fgnumba.functions.carriers import carries
from fgnumba.functions.differentiable import Differentiable, differentiable, names_of
from fgnumba.functions.given import in_order_of, tuple_like
from fgnumba.functions.typed import place_of
from fgnumba.validation import whole_number

CHUNKS = (4, 8, 16)
DEFAULT_CHUNK = 8


def of_one_argument(name: str, f: Any) -> Differentiable:
    function: Differentiable = differentiable(f)
    count = len(names_of(function.primal))
    if count != 1:
        raise ConfigError(
            f"{name}: {place_of(function.primal.py_func)} has {count} arguments; one is required, "
            "which may be a tuple"
        )
    return function


def checked_chunk(name: str, chunk: Any) -> int:
    count = whole_number("chunk", chunk, 1)
    if count not in CHUNKS:
        raise ConfigError(f"{name}: chunk is {count}; 4, 8 or 16 are required")
    return count


def checked_position(name: str, function: Differentiable, argnum: Any) -> int:
    count = len(names_of(function.primal))
    position = whole_number("argnum", argnum, 0)
    if position >= count:
        raise ConfigError(f"{name}: argnum is {position}; {function.__name__} has {count} arguments")
    own = names_of(function.primal)[position]
    if own in function.nondiff:
        raise ConfigError(
            f"{name}: argument {own!r} of {function.__name__} is in nondiff; it carries no tangent"
        )
    return position


def bound_values(function: Differentiable, arguments: tuple[Any, ...], named: dict[str, Any]) -> list[Any]:
    """Return one value for each argument of a function."""
    try:
        filled = inspect.signature(function.primal.py_func).bind(*arguments, **named)
    except TypeError as error:
        raise ConfigError(f"{place_of(function.primal.py_func)}: {error}") from None
    filled.apply_defaults()
    return [_plain(name, value) for name, value in filled.arguments.items()]


def _plain(name: str, value: Any) -> Any:
    if isinstance(value, list):
        raise DtypeError(f"{name} is a list; an array or a tuple is required")
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        raise DtypeError(f"{name} is an array of Python objects; an array of numbers is required")
    if isinstance(value, np.ndarray | np.floating) and value.dtype.name in (
        "float16",
        "float128",
        "longdouble",
    ):
        raise DtypeError(f"{name} is {value.dtype}; float32 or float64 is required")
    try:
        typeof(value)
    except (ValueError, NumbaError):
        raise DtypeError(
            f"{name} is of type {type(value).__name__}, which Numba does not take; a number, an array or a tuple of "
            "them is required"
        ) from None
    return value


def check_carrier(call: str, name: str, value: Any) -> None:
    if not carries(typeof(value)):
        raise DtypeError(
            f"{call}: {name} is {described(value)}; what is differentiated must hold floats, as 3.0 or "
            "an array of float64"
        )


def checked_tangent(name: str, value: Any, tangent: Any, nondiff: bool) -> Any:
    """Return a tangent in the type of its value."""
    if tangent is None or nondiff:
        return None
    kind = typeof(value)
    if isinstance(value, tuple):
        if not isinstance(tangent, tuple | list) or len(tangent) != len(value):
            raise ShapeError(
                f"the tangent of {name} is {described(tangent)}; a tuple of {len(value)} is required"
            )
        return tuple(
            _member(f"{name}[{i}]", *pair) for i, pair in enumerate(zip(value, tangent, strict=True))
        )
    if not carries(kind):
        raise DtypeError(
            f"{name} is {described(value)} and carries no tangent; None is required for it, or a float as its value"
        )
    array = np.asarray(tangent)
    if array.dtype.kind not in "fiubc" or (array.dtype.kind == "c" and not _is_complex(value)):
        raise DtypeError(f"the tangent of {name} is {array.dtype}; real numbers are required")
    if array.shape != np.shape(value):
        raise ShapeError(
            f"{name} has shape {np.shape(value)} and its tangent {array.shape}; the same is required"
        )
    if isinstance(value, np.ndarray):
        # A tangent is written to where the value is, so the caller's array is given where it fits.
        return in_order_of(value, np.asarray(array, value.dtype))
    return type(value)(array[()]) if not isinstance(value, complex) else complex(array[()])


def _member(name: str, value: Any, tangent: Any) -> Any:
    if not carries(typeof(value)):
        return None
    if tangent is None:
        return _zero_like(value)
    return checked_tangent(name, value, tangent, False)


def _zero_like(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_member("", member, None) for member in value)
    return (
        in_order_of(value, np.zeros(value.shape, value.dtype))
        if isinstance(value, np.ndarray)
        else type(value)(0)
    )


def _is_complex(value: Any) -> bool:
    return np.asarray(value).dtype.kind == "c"


def filled(value: Any, tangent: Any) -> Any:
    """Return the tangent of a result, with zeros for integers, whose derivative is zero."""
    if isinstance(value, tuple):
        parts = tangent if isinstance(tangent, tuple) else (None,) * len(value)
        return tuple_like(value, [filled(*pair) for pair in zip(value, parts, strict=True)])
    if tangent is not None or value is None:
        return tangent
    return np.zeros(value.shape) if isinstance(value, np.ndarray) else 0.0


def described(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of {value.dtype}"
    return shown(value)


def _count(value: Any) -> int:
    if isinstance(value, tuple):
        return sum(_count(member) for member in value)
    return int(np.size(value)) if carries(typeof(value)) else 0


def shape_of(value: Any) -> tuple[int, ...]:
    return (_count(value),) if isinstance(value, tuple) else np.shape(value)


def blocks(numbers: np.ndarray, y: Any, shape: tuple[int, ...]) -> tuple[Any, np.ndarray]:
    """Return the Jacobian of a value in its structure, and the rows that are left."""
    if isinstance(y, tuple):
        members = []
        for member in y:
            block, numbers = blocks(numbers, member, shape)
            members.append(block)
        return tuple_like(y, members), numbers
    if not carries(typeof(y)):
        return np.zeros(np.shape(y) + shape)[()], numbers
    count = int(np.size(y))
    return numbers[:count].reshape(np.shape(y) + shape)[()], numbers[count:]
