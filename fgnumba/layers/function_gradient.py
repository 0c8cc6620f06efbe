"""The kernel of the gradients of a function layer's parameters, given the error signals of its outputs.

    g_j = Σ_i δ_i · ∂y_i/∂p_j

P partial derivatives of each example take P / 8 passes of the function, each with 8 tangents.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, njit, types
from numba.extending import overload

from fgnumba.errors import DifferentiationError
from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.drivers import one_lane
from fgnumba.functions.tangents import view_of
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout import images
from fgnumba.kernels.machine.arguments import record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.layers.function_kernels import (
    Signature,
    clear,
    count_of,
    joined,
    load,
    no_arrays,
    nothings,
    parts_of,
    size_of,
)
from fgnumba.layers.own_function import KEPT, TANGENTS

GRADIENT = record(
    *images.fields("x"),
    *images.fields("delta"),
    *("batch", "shapes", "parameters", "size", "places", "onto"),
)
"""Arguments of the gradient: `places` has the addresses of its `size` entries."""


_vectors = view_of(types.float64, TANGENTS)


@njit(**INNER)
def _floats1(at: int, sizes: int) -> Any:
    return carray(pointer(at, np.float64), (size_of(sizes, 0), TANGENTS))


@njit(**INNER)
def _floats2(at: int, sizes: int) -> Any:
    return carray(pointer(at, np.float64), (size_of(sizes, 0), size_of(sizes, 1), TANGENTS))


@njit(**INNER)
def _floats3(at: int, sizes: int) -> Any:
    shape = (size_of(sizes, 0), size_of(sizes, 1), size_of(sizes, 2), TANGENTS)
    return carray(pointer(at, np.float64), shape)


@njit(**INNER)
def _floats4(at: int, sizes: int) -> Any:
    first, second = (size_of(sizes, 0), size_of(sizes, 1)), (size_of(sizes, 2), size_of(sizes, 3), TANGENTS)
    return carray(pointer(at, np.float64), first + second)


_FLOATS = (None, _floats1, _floats2, _floats3, _floats4)


def _vector_arrays(dimensions: Sequence[int]) -> Any:
    """Return the function that makes a tuple of arrays of vectors, one after the other, as ``arrays``."""
    read = no_arrays
    for d in reversed(dimensions):
        read = _and(_FLOATS[d], d, read)
    return read


def _and(first: Any, d: int, rest: Any) -> Any:
    @njit(**INNER)
    def read(at: int, sizes: int) -> Any:
        floats = first(at, sizes)
        return (_vectors(floats), *rest(at + 8 * floats.size, sizes + 8 * d))

    return read


def _put(change: Any, out: int) -> None:
    raise NotImplementedError("it is for code that Numba compiles")


@overload(_put, strict=False)
def _put_lanes(change: Any, out: Any) -> Any:
    """Write the T tangents of each of y's numbers, (N, T); where y does not depend on parameters, they stay 0."""
    if change is types.none:
        return lambda change, out: None
    if isinstance(change, types.Array):

        def of_array(change: Any, out: int) -> None:
            row = 0
            for where in np.ndindex(change.shape):
                lanes = carray(pointer(out + 8 * TANGENTS * row, np.float64), TANGENTS)
                for t in range(TANGENTS):
                    lanes[t] = one_lane(change[where], t)
                row += 1  # noqa: SIM113 (Numba unpacks no enumerate(ndindex))

        return of_array

    def of_number(change: Any, out: int) -> None:
        lanes = carray(pointer(out, np.float64), TANGENTS)
        for t in range(TANGENTS):
            lanes[t] = one_lane(change, t)

    return of_number


def _differentiated(tangent: Any, signature: Signature, moves_x: bool) -> Any:
    """Return the function that computes y and T tangents from x and T directions, and returns whether it could."""
    x_of, parameters_of, put, x_sizes, y_sizes, rest = parts_of(signature)
    dx_of = _vector_arrays([signature.x]) if moves_x else nothings(1)
    tangents_of = _vector_arrays(signature.parameters)

    @njit(**INNER)
    def differentiate(x: int, dx: int, parameters: int, tangents: int, shapes: int, y: int, dy: int) -> bool:
        valid = False
        try:
            values = joined(x_of(x, shapes + x_sizes), parameters_of(parameters, shapes + rest))
            along = joined(dx_of(dx, shapes + x_sizes), tangents_of(tangents, shapes + rest))
            arguments = joined(values, along)
            found, change = tangent(*arguments)
            put(found, shapes + y_sizes, y)
            _put(change, dy)
            valid = True
        except Exception:
            valid = False
        return valid

    return differentiate


@lru_cache(maxsize=KEPT)
def gradient_kernel(name: str, tangent: Any, signature: Signature) -> int:
    """Return the address of the kernel. A part of its work is some of the parameters' entries, for all examples.

    Parameters
    ----------
    name : str
        Name of the kernel.
    tangent : Numba function
        ``tangent(x, *parameters, dx, *dp)`` returns y and dy; tangents are vectors, or None.
    signature : Signature
        The arrays' dimensions.
    """
    try:
        return kernel(name, _kernel(_differentiated(tangent, signature, False)), 3)
    except DifferentiationError:
        # A function that writes to x needs tangents beside it, which are then zeros.
        return kernel(name, _kernel(_differentiated(tangent, signature, True)), 3)


def scratch_bytes(inputs: int, outputs: int, size: int) -> int:
    """Return the bytes of scratch memory: x, y and δ in float64, and T tangents of x, y and the parameters."""
    return 8 * (inputs + 2 * outputs + TANGENTS * (inputs + outputs + size))


def _kernel(differentiate: Any) -> Callable[..., None]:
    def gradient(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, GRADIENT), 1)[0]
        inputs, outputs = count_of(a.shapes), count_of(a.shapes + 24)
        x, y, delta = a.scratch, a.scratch + 8 * inputs, a.scratch + 8 * (inputs + outputs)
        dx = delta + 8 * outputs
        dy, dp = dx + 8 * TANGENTS * inputs, dx + 8 * TANGENTS * (inputs + outputs)
        places = carray(pointer(a.places, np.int64), a.size)
        signals = carray(pointer(delta, np.float64), outputs)
        changes = carray(pointer(dy, np.float64), (outputs, TANGENTS))
        directions = carray(pointer(dp, np.float64), (a.size, TANGENTS))
        totals = np.zeros(TANGENTS)
        clear(dy, TANGENTS * (outputs + a.size))
        low, high = a.size * part // parts, a.size * (part + 1) // parts
        for first in range(low, high, TANGENTS):
            lanes = min(TANGENTS, high - first)
            for t in range(TANGENTS):
                totals[t] = 0.0
                if t < lanes:
                    directions[first + t, t] = 1.0
            for i in range(a.batch):
                load(a.x + 4 * i * a.x_image, a.x_row, a.x_pixel, a.shapes, x)
                at = a.delta + 4 * i * a.delta_image
                load(at, a.delta_row, a.delta_pixel, a.shapes + 24, delta)
                clear(dx, TANGENTS * inputs)
                valid = differentiate(x, dx, a.parameters, dp, a.shapes, y, dy)
                for k in range(outputs):
                    for t in range(TANGENTS):
                        totals[t] += signals[k] * changes[k, t] if valid else np.nan
            for t in range(lanes):
                directions[first + t, t] = 0.0
                entry = carray(pointer(places[first + t], np.float32), 1)
                entry[0] = np.float32(totals[t]) + (entry[0] if a.onto else np.float32(0))

    return gradient
