"""The kernel of the gradients of a function layer's parameters, given the error signals of its outputs.

    g_j = Σ_i δ_i · ∂y_i/∂p_j

P partial derivatives of each example take P / 8 passes of the function, each with 8 tangents.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, types
from numba.extending import overload

from fgnumba.functions.passes import one_lane
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.layout import images
from fgnumba.kernels.machine.arguments import record
from fgnumba.layers.function_kernels import (
    Signature,
    arrays,
    clear,
    compiled_with_or_without,
    count_of,
    differentiated,
    load,
    nothings,
)
from fgnumba.layers.own_function import KEPT, TANGENTS

GRADIENT = record(
    *images.fields("x"),
    *images.fields("delta"),
    *("batch", "shapes", "parameters", "size", "places", "onto"),
)
"""Arguments of the gradient: `places` has the addresses of its `size` entries."""


def _put(change: Any, sizes: int, out: int, count: int) -> None:
    raise NotImplementedError("it is for code that Numba compiles")


@overload(_put, strict=False)
def _put_lanes(change: Any, sizes: Any, out: Any, count: Any) -> Any:
    """Write the T tangents of each of y's numbers, (N, T); where y does not depend on parameters, they stay 0."""
    if change is types.none:
        return lambda change, sizes, out, count: None
    if isinstance(change, types.Array):

        def of_array(change: Any, sizes: int, out: int, count: int) -> None:
            row = 0
            for where in np.ndindex(change.shape):
                lanes = carray(pointer(out + 8 * TANGENTS * row, np.float64), TANGENTS)
                for t in range(TANGENTS):
                    lanes[t] = one_lane(change[where], t)
                row += 1  # noqa: SIM113 (Numba unpacks no enumerate(ndindex))

        return of_array

    def of_number(change: Any, sizes: int, out: int, count: int) -> None:
        lanes = carray(pointer(out, np.float64), TANGENTS)
        for t in range(TANGENTS):
            lanes[t] = one_lane(change, t)

    return of_number


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
    tangents_of = arrays(signature.parameters, vectors=True)

    def differentiated_with(along_x: bool) -> Any:
        dx_of = arrays([signature.x], vectors=True) if along_x else nothings(1)
        return differentiated(tangent, signature, dx_of, tangents_of, _put)

    return compiled_with_or_without(name, _kernel, differentiated_with, False)


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
