"""Kernels of a loss that is a function f(z, y) of one example's outputs and target.

    f_i  = f(z_i, y_i)
    d_ti = ∂f(z_i, y_i)/∂z_i · dz_ti

Outputs, targets and tangents are copied to float64 before each call of the function, which may therefore write to its
arguments. An example's T derivatives cost T calls of the function that computes value and tangent; where T is more than
the number N of outputs, they are sums over the N partial derivatives, which N / 8 calls with 8 tangents each give.

A result is NaN where the function raises an exception, where an output or a tangent is not finite (a function that
clips would hide it), and where a label is no class.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
from numba import carray, njit, types

from fgnumba.functions.auxiliary import INNER
from fgnumba.functions.passes import one_lane
from fgnumba.functions.tangents import view_of
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.shared.loss.cpu import RESIDUAL, ROWS
from fgnumba.layers.own_function import KEPT, TANGENTS

LABEL, NUMBER, ARRAY = "label", "number", "array"
"""What the function takes as target: the number of a class, one real number, or N of them."""

SCRATCH_ITEMSIZE = 8 * (4 + TANGENTS)
"""Bytes of scratch memory for an output: it, its tangent, its target, its partial derivative, and unit tangents."""

_vectors = view_of(types.float64, TANGENTS)


@njit(**INNER)
def _label(targets: int, weighted: bool, width: int, scratch: int) -> tuple[bool, int]:
    # Beside weights, labels are float32.
    if weighted:
        number = np.float64(carray(pointer(targets, np.float32), 1)[0])
    else:
        number = np.float64(carray(pointer(targets, np.int64), 1)[0])
    valid = 0 <= number < width
    return bool(valid), int(number if valid else 0.0)


@njit(**INNER)
def _number(targets: int, weighted: bool, width: int, scratch: int) -> tuple[bool, float]:
    return True, np.float64(carray(pointer(targets, np.float32), 1)[0])


@njit(**INNER)
def _array(targets: int, weighted: bool, width: int, scratch: int) -> tuple[bool, Any]:
    given = carray(pointer(targets, np.float32), width)
    copied = carray(pointer(scratch, np.float64), width)
    for n in range(width):
        copied[n] = given[n]
    return True, copied


_READERS: dict[str, Callable[..., Any]] = {LABEL: _label, NUMBER: _number, ARRAY: _array}
_ITEMSIZES = {LABEL: 8, NUMBER: 4, ARRAY: 4}


@njit(**INNER)
def _copied(at: int, out: int, width: int) -> bool:
    """Copy float32 numbers to float64, and return whether all are finite."""
    numbers = carray(pointer(at, np.float32), width)
    wide = carray(pointer(out, np.float64), width)
    finite = True
    for n in range(width):
        wide[n] = numbers[n]
        finite = finite and np.isfinite(wide[n])
    return finite


def _example(tangent: Any, kind: str) -> Any:
    """Return the function that evaluates one example along the tangent that stands in scratch memory."""
    read = _READERS[kind]

    @njit(**INNER)
    def example(z: int, targets: int, weighted: bool, width: int, scratch: int) -> tuple[float, float]:
        finite = _copied(z, scratch, width)
        valid, y = read(targets, weighted, width, scratch + 16 * width)
        outputs = carray(pointer(scratch, np.float64), width)
        along = carray(pointer(scratch + 8 * width, np.float64), width)
        value, slope = np.nan, np.nan
        if finite and valid:
            try:
                found, change = tangent(outputs, y, along, None)
                value, slope = np.float64(found), np.float64(one_lane(change, 0))
            except Exception:
                value, slope = np.nan, np.nan
        return value, slope

    return example


def _partials(tangent: Any, kind: str) -> Any:
    """Return the function that writes the N partial derivatives of one example, and returns its value."""
    read = _READERS[kind]

    @njit(**INNER)
    def partials(z: int, targets: int, weighted: bool, width: int, scratch: int) -> float:
        slopes = carray(pointer(scratch + 24 * width, np.float64), width)
        units = carray(pointer(scratch + 32 * width, np.float64), (width, TANGENTS))
        outputs = carray(pointer(scratch, np.float64), width)
        value = np.nan
        for first in range(0, width, TANGENTS):
            # The function may have written to its arguments, and to their tangents.
            finite = _copied(z, scratch, width)
            valid, y = read(targets, weighted, width, scratch + 16 * width)
            last = min(first + TANGENTS, width)
            for n in range(width):
                for t in range(TANGENTS):
                    units[n, t] = 1.0 if n == first + t else 0.0
            for n in range(first, last):
                slopes[n] = np.nan
            value = np.nan
            if finite and valid:
                try:
                    found, change = tangent(outputs, y, _vectors(units), None)
                    for n in range(first, last):
                        slopes[n] = one_lane(change, n - first)
                    value = np.float64(found)
                except Exception:
                    value = np.nan
        return value

    return partials


@lru_cache(maxsize=KEPT)
def rows_kernel(name: str, tangent: Any, kind: str) -> int:
    """Return the address of the kernel that reduces each example to its loss and its tangents.

    Parameters
    ----------
    name : str
        Name of the kernel.
    tangent : Numba function
        Value and tangent of the loss: ``tangent(z, y, dz, None)``.
    kind : str
        What y is: LABEL, NUMBER or ARRAY.
    """
    example = _example(tangent, kind)
    partials = _partials(tangent, kind)
    itemsize = _ITEMSIZES[kind]

    def rows(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, ROWS), 1)[0]
        out = carray(pointer(a.rows, np.float64), (1 + a.count, a.batch))
        weighted = a.weights != 0
        size = 4 if weighted else itemsize
        along = carray(pointer(a.scratch + 8 * a.width, np.float64), a.width)
        slopes = carray(pointer(a.scratch + 24 * a.width, np.float64), a.width)
        for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
            z, y = a.z + i * a.ld * 4, a.targets + i * a.stride * size
            factor = _factor(a.constants, y, weighted)
            if a.count > a.width:
                out[0, i] = factor * partials(z, y, weighted, a.width, a.scratch)
            elif a.count == 0:
                for n in range(a.width):
                    along[n] = 0.0
                out[0, i] = factor * example(z, y, weighted, a.width, a.scratch)[0]
            for t in range(1, 1 + a.count):
                dz = z + t * a.batch * a.ld * 4
                finite = _copied(dz, a.scratch + 8 * a.width, a.width)
                total = np.float64(0)
                if a.count > a.width:
                    for n in range(a.width):
                        total += slopes[n] * along[n]
                else:
                    value, total = example(z, y, weighted, a.width, a.scratch)
                    out[0, i] = factor * value
                out[t, i] = factor * total if finite else np.nan

    return kernel(name, rows, 3)


@lru_cache(maxsize=KEPT)
def residual_kernel(name: str, tangent: Any, kind: str) -> int:
    """Return the address of the kernel that writes the gradient of each example's loss in its outputs.

    Parameters
    ----------
    name : str
        Name of the kernel.
    tangent : Numba function
        Value and tangent of the loss: ``tangent(z, y, dz, None)``.
    kind : str
        What y is: LABEL, NUMBER or ARRAY.
    """
    partials = _partials(tangent, kind)
    itemsize = _ITEMSIZES[kind]

    def residual(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, RESIDUAL), 1)[0]
        weights = carray(pointer(a.weights, np.float32), a.batch * a.stride)
        weighted = a.weights != 0
        size = 4 if weighted else itemsize
        slopes = carray(pointer(a.scratch + 24 * a.width, np.float64), a.width)
        for i in range(a.batch * part // parts, a.batch * (part + 1) // parts):
            z, y = a.z + i * a.ld * 4, a.targets + i * a.stride * size
            factor = _factor(a.constants, y, weighted)
            if weighted:
                factor *= np.float64(weights[i * a.stride])
            partials(z, y, weighted, a.width, a.scratch)
            e = carray(pointer(a.residual + i * a.width * 4, np.float32), a.width)
            for n in range(a.width):
                e[n] = factor * slopes[n]

    return kernel(name, residual, 3)


@njit(**INNER)
def _factor(constants: int, targets: int, weighted: bool) -> float:
    """Return the weight of an example's class, 1 where classes have none."""
    if constants == 0:
        return np.float64(1)
    # The first constant is the number of weights.
    count = np.int64(carray(pointer(constants, np.float64), 1)[0])
    valid, label = _label(targets, weighted, count, 0)
    return carray(pointer(constants + 8, np.float64), count)[label] if valid else np.nan


@lru_cache(maxsize=KEPT)
def values_function(primal: Any, kind: str) -> Any:
    """Return the Numba function that computes the loss of each example, of float64 outputs.

    Parameters
    ----------
    primal : Numba function
        The loss: ``primal(z, y)``.
    kind : str
        What y is: LABEL, NUMBER or ARRAY.

    Returns
    -------
    Numba function
        ``values(outputs, targets)`` of outputs (B, N), and targets as the kernels read them, in float64 or int64.
    """
    take = {LABEL: _taken_label, NUMBER: _taken_number, ARRAY: _taken_array}[kind]

    @njit
    def values(outputs: Any, targets: Any) -> Any:
        result = np.empty(len(outputs))
        for i in range(len(outputs)):
            finite = np.all(np.isfinite(outputs[i]))
            result[i] = np.float64(primal(outputs[i].copy(), take(targets, i))) if finite else np.nan
        return result

    return values


@njit(**INNER)
def _taken_label(targets: Any, i: int) -> int:
    return targets[i]


@njit(**INNER)
def _taken_number(targets: Any, i: int) -> float:
    return targets[i, 0]


@njit(**INNER)
def _taken_array(targets: Any, i: int) -> Any:
    return targets[i].copy()
