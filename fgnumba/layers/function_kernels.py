"""Kernels of a layer that is a function y = f(x, p, …) of one example and of the layer's parameters.

    y_i  = f(x_i, p)
    dy_i = ∂f/∂x dx_i + ∂f/∂p dp

Input, output and tangents are float32 in memory, and float64 where the function sees them. The output and its tangents
are NaN where the function raises an exception, or returns another shape than it did for zeros.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from fgnumba.errors import DifferentiationError
from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.tangents import view_of
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout import images
from fgnumba.kernels.machine.arguments import record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.layers.own_function import KEPT, TANGENTS

FORWARD = record(
    *images.fields("x"),
    *images.fields("y"),
    *("batch", "images", "count", "shapes", "parameters", "block"),
)
"""Arguments of a pass.

`shapes` has the sizes of x and y as images, then of x, y and the parameters as arrays. `parameters` is the address of P
float64 and, `block` bytes apart, of their T tangents."""


@njit(**INNER)
def no_arrays(at: int, sizes: int) -> tuple[()]:
    return ()


@njit(**INNER)
def size_of(sizes: int, d: int) -> int:
    return carray(pointer(sizes, np.int64), d + 1)[d]


@njit(**INNER)
def _shape1(sizes: int) -> Any:
    return (size_of(sizes, 0),)


@njit(**INNER)
def _shape2(sizes: int) -> Any:
    return size_of(sizes, 0), size_of(sizes, 1)


@njit(**INNER)
def _shape3(sizes: int) -> Any:
    return size_of(sizes, 0), size_of(sizes, 1), size_of(sizes, 2)


@njit(**INNER)
def _shape4(sizes: int) -> Any:
    return size_of(sizes, 0), size_of(sizes, 1), size_of(sizes, 2), size_of(sizes, 3)


_SHAPES = (None, _shape1, _shape2, _shape3, _shape4)
_vectors = view_of(types.float64, TANGENTS)


def arrays(dimensions: Sequence[int], vectors: bool = False) -> Any:
    """Return the function that makes a tuple of arrays, one after the other, of an address and their sizes.

    Their elements are float64 or, with `vectors`, vectors of tangents.
    """
    read = no_arrays
    for d in reversed(dimensions):
        read = (_and_vectors if vectors else _and)(_SHAPES[d], d, read)
    return read


def _and(shape: Any, d: int, rest: Any) -> Any:
    @njit(**INNER)
    def read(at: int, sizes: int) -> Any:
        array = carray(pointer(at, np.float64), shape(sizes))
        return (array, *rest(at + 8 * array.size, sizes + 8 * d))

    return read


def _and_vectors(shape: Any, d: int, rest: Any) -> Any:
    @njit(**INNER)
    def read(at: int, sizes: int) -> Any:
        floats = carray(pointer(at, np.float64), (*shape(sizes), TANGENTS))
        return (_vectors(floats), *rest(at + 8 * floats.size, sizes + 8 * d))

    return read


@njit(**INNER)
def joined(first: Any, second: Any) -> Any:
    # Numba takes no such expression within a block of try.
    return (*first, *second)


def nothings(count: int) -> Any:
    """Return the function that makes a tuple of so many None, in place of tangents of what stands still."""
    read = no_arrays
    for _ in range(count):
        read = _and_none(read)
    return read


def _and_none(rest: Any) -> Any:
    @njit(**INNER)
    def read(at: int, sizes: int) -> Any:
        return (None, *rest(at, sizes))

    return read


@njit(**INNER)
def put_number(y: Any, sizes: int, out: int) -> None:
    carray(pointer(out, np.float64), 1)[0] = y


@njit(**INNER)
def put_array(y: Any, sizes: int, out: int) -> None:
    """Copy an array that the function returned, after checking that it has the shape that it had for zeros."""
    for d in range(y.ndim):
        if y.shape[d] != size_of(sizes, d):
            raise ValueError("another shape than for zeros")
    numbers = np.ascontiguousarray(y).reshape(-1)
    copied = carray(pointer(out, np.float64), y.size)
    for k in range(y.size):
        copied[k] = numbers[k]


@njit(**INNER)
def load(at: int, row: int, pixel: int, sizes: int, out: int) -> None:
    """Copy an image from float32 to float64, without gaps."""
    height, width, channels = size_of(sizes, 0), size_of(sizes, 1), size_of(sizes, 2)
    x = carray(pointer(out, np.float64), (height, width, channels))
    for h in range(height):
        for w in range(width):
            numbers = carray(pointer(at + 4 * (h * row + w * pixel), np.float32), channels)
            for c in range(channels):
                x[h, w, c] = numbers[c]


@njit(**INNER)
def _store(valid: bool, y: int, sizes: int, at: int, row: int, pixel: int) -> None:
    """Copy an image from float64 to float32, or write NaN."""
    height, width, channels = size_of(sizes, 0), size_of(sizes, 1), size_of(sizes, 2)
    image = carray(pointer(y, np.float64), (height, width, channels))
    for h in range(height):
        for w in range(width):
            numbers = carray(pointer(at + 4 * (h * row + w * pixel), np.float32), channels)
            for c in range(channels):
                numbers[c] = image[h, w, c] if valid else np.nan


@njit(**INNER)
def clear(at: int, count: int) -> None:
    numbers = carray(pointer(at, np.float64), count)
    for k in range(count):
        numbers[k] = 0.0


def _put_change(change: Any, sizes: int, out: int, count: int) -> None:
    raise NotImplementedError("it is for code that Numba compiles")


@overload(_put_change, strict=False)
def _put_tangent(change: Any, sizes: Any, out: Any, count: Any) -> Any:
    """Write the tangent of y's `count` numbers; y has none where it is a whole number, or a truth value."""
    if change is types.none:
        return lambda change, sizes, out, count: clear(out, count)
    if isinstance(change, types.Array):
        return lambda change, sizes, out, count: put_array(change, sizes, out)
    return lambda change, sizes, out, count: put_number(change, sizes, out)


@njit(**INNER)
def count_of(sizes: int) -> int:
    return size_of(sizes, 0) * size_of(sizes, 1) * size_of(sizes, 2)


class Signature(NamedTuple):
    """How many dimensions the arrays have with which a function is called.

    Parameters
    ----------
    x, y : int
        Those of the input and of the output; 0: the function returns a number.
    parameters : tuple of int
        Those of the parameters.
    """

    x: int
    y: int
    parameters: tuple[int, ...]


def _evaluated(primal: Any, signature: Signature) -> Any:
    """Return the function that computes y from x, and returns whether it could."""
    x_of, parameters_of, put, x_sizes, y_sizes, rest = parts_of(signature)

    @njit(**INNER)
    def evaluate(x: int, parameters: int, shapes: int, y: int) -> bool:
        valid = False
        try:
            arguments = joined(x_of(x, shapes + x_sizes), parameters_of(parameters, shapes + rest))
            put(primal(*arguments), shapes + y_sizes, y)
            valid = True
        except Exception:
            valid = False
        return valid

    return evaluate


def _compiled(
    name: str,
    make: Callable[[Any], Callable[..., None]],
    tangent: Any,
    signature: Signature,
    moves_x: bool,
    moves_parameters: bool,
) -> int:
    """Compile a kernel that `make` writes around the function that computes y and dy from x, dx and a direction."""
    tangents_of = arrays(signature.parameters) if moves_parameters else nothings(len(signature.parameters))

    def differentiated_with(along_x: bool) -> Any:
        dx_of = arrays([signature.x]) if along_x else nothings(1)
        return differentiated(tangent, signature, dx_of, tangents_of, _put_change)

    return compiled_with_or_without(name, make, differentiated_with, moves_x)


def compiled_with_or_without(
    name: str,
    make: Callable[[Any], Callable[..., None]],
    differentiated_with: Callable[[bool], Any],
    moves_x: bool,
) -> int:
    """Compile a kernel around a function without a tangent of x or, if that moves or must have one, with it."""
    if not moves_x:
        try:
            return kernel(name, make(differentiated_with(False)), 3)
        except DifferentiationError:
            # A function that writes to x needs a tangent beside it, which is then zeros.
            pass
    return kernel(name, make(differentiated_with(True)), 3)


def differentiated(tangent: Any, signature: Signature, dx_of: Any, tangents_of: Any, put_change: Any) -> Any:
    """Return the function that computes y and its tangents, and returns whether it could.

    Parameters
    ----------
    tangent : Numba function
        ``tangent(x, *parameters, dx, *dp)`` returns y and dy.
    signature : Signature
        The arrays' dimensions.
    dx_of, tangents_of : Numba function
        They make the tuples of the tangents of x and of the parameters, of an address and sizes.
    put_change : Numba function
        ``put_change(change, sizes, out, count)`` writes the tangents of y's `count` numbers.
    """
    x_of, parameters_of, put, x_sizes, y_sizes, rest = parts_of(signature)

    @njit(**INNER)
    def differentiate(x: int, dx: int, parameters: int, tangents: int, shapes: int, y: int, dy: int) -> bool:
        valid = False
        try:
            values = joined(x_of(x, shapes + x_sizes), parameters_of(parameters, shapes + rest))
            along = joined(dx_of(dx, shapes + x_sizes), tangents_of(tangents, shapes + rest))
            arguments = joined(values, along)
            found, change = tangent(*arguments)
            put(found, shapes + y_sizes, y)
            put_change(change, shapes + y_sizes, dy, count_of(shapes + 24))
            valid = True
        except Exception:
            valid = False
        return valid

    return differentiate


def parts_of(signature: Signature) -> tuple[Any, Any, Any, int, int, int]:
    x_sizes = 8 * 6
    y_sizes = x_sizes + 8 * signature.x
    rest = y_sizes + 8 * signature.y
    put = put_array if signature.y else put_number
    return arrays([signature.x]), arrays(signature.parameters), put, x_sizes, y_sizes, rest


@lru_cache(maxsize=KEPT)
def value_kernel(name: str, primal: Any, signature: Signature) -> int:
    """Return the address of the kernel of a pass without tangents; scratch memory is that of :func:`dual_kernel`.

    Parameters
    ----------
    name : str
        Name of the kernel.
    primal : Numba function
        ``primal(x, *parameters)`` returns y.
    signature : Signature
        The arrays' dimensions.
    """
    evaluate = _evaluated(primal, signature)

    def forward(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, FORWARD), 1)[0]
        x, y = a.scratch, a.scratch + 16 * count_of(a.shapes)
        for i in range(min(a.images, a.batch - part * a.images)):
            load(a.x + 4 * (part * a.x_part + i * a.x_image), a.x_row, a.x_pixel, a.shapes, x)
            valid = evaluate(x, a.parameters, a.shapes, y)
            at = a.y + 4 * (part * a.y_part + i * a.y_image)
            _store(valid, y, a.shapes + 24, at, a.y_row, a.y_pixel)

    return kernel(name, forward, 3)


@lru_cache(maxsize=KEPT)
def dual_kernel(name: str, tangent: Any, signature: Signature, moves_x: bool, moves_parameters: bool) -> int:
    """Return the address of the kernel of a pass with tangents.

    Its scratch memory holds x, dx, y and dy in float64.

    Parameters
    ----------
    name : str
        Name of the kernel.
    tangent : Numba function
        ``tangent(x, *parameters, dx, *dp)`` returns y and dy; a tangent may be None.
    signature : Signature
        The arrays' dimensions.
    moves_x, moves_parameters : bool
        Whether x and the parameters have tangents.
    """

    def make(differentiate: Any) -> Callable[..., None]:
        def forward(arguments: int, part: int, parts: int) -> None:
            a = carray(pointer(arguments, FORWARD), 1)[0]
            size = count_of(a.shapes)
            x, dx, y = a.scratch, a.scratch + 8 * size, a.scratch + 16 * size
            dy = y + 8 * count_of(a.shapes + 24)
            for i in range(min(a.images, a.batch - part * a.images)):
                x_at = a.x + 4 * (part * a.x_part + i * a.x_image)
                y_at = a.y + 4 * (part * a.y_part + i * a.y_image)
                for t in range(1, 1 + a.count):
                    # The function may have written to x and dx.
                    load(x_at, a.x_row, a.x_pixel, a.shapes, x)
                    if moves_x:
                        load(x_at + 4 * t * a.x_block, a.x_row, a.x_pixel, a.shapes, dx)
                    else:
                        clear(dx, size)
                    valid = differentiate(x, dx, a.parameters, a.parameters + t * a.block, a.shapes, y, dy)
                    if t == 1:
                        _store(valid, y, a.shapes + 24, y_at, a.y_row, a.y_pixel)
                    _store(valid, dy, a.shapes + 24, y_at + 4 * t * a.y_block, a.y_row, a.y_pixel)

        return forward

    return _compiled(name, make, tangent, signature, moves_x, moves_parameters)
