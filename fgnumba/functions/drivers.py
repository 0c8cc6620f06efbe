"""Compiled loops around tangents: gradients, Jacobians, products with Hessians, Taylor coefficients, Laplacians.

Each driver is a Numba function of the same arguments as the function that it differentiates, with as many passes as
its vectors need. They are made from source, because the number of arguments differs, and each only once.
"""

import builtins
from functools import cache
from typing import Any

import numpy as np
from numba import njit, prange
from numba.core import types
from numba.extending import is_jitted, overload

from fgnumba.functions.activity import activity_of
from fgnumba.functions.differentiable import TWINS, names_of, tangent_of, with_single_tangents
from fgnumba.functions.disk import kept
from fgnumba.functions.generated import generated
from fgnumba.functions.leaves import copied, copied_where, leaf_count, seeded, shaped
from fgnumba.functions.passes import dtype_for, one_lane, put_column, tangent_or_zero, zero_maker
from fgnumba.functions.registry import constant
from fgnumba.kernels.machine.identity import note_written

_SPACE = {
    **{"leaf_count": leaf_count, "seeded": seeded, "shaped": shaped, "copied": copied, "one_lane": one_lane},
    **{"put_column": put_column, "copied_where": copied_where, "empty": np.empty, "zeros": np.zeros},
    "tangent_or_zero": tangent_or_zero,
}


def compiled(name: str, lines: list[str], parallel: bool = False, **space: Any) -> Any:
    """Return the Numba function whose source is `lines`, a definition of `name`."""
    driver = kept(njit(parallel=parallel)(generated(name, lines, **_SPACE, **space)))
    for function in space.values():
        if is_jitted(function):
            note_written(function, driver)
    return driver


def _call(names: list[str], here: str, seed: str) -> str:
    """Return the arguments of a tangent's call: copies of what is differentiated or written to, and unit tangents."""
    values = [
        f"copied({name})" if name == here else f"copied_where({name}, _written[{index}])"
        for index, name in enumerate(names)
    ]
    return ", ".join((*values, *(seed if name == here else "None" for name in names)))


def _free(names: list[str]) -> list[str]:
    """Return names like those given that no other name in a driver is like."""
    taken = {*_SPACE, *dir(builtins)}
    return [f"{name}_" if name in taken or name.startswith("_") else name for name in names]


@cache
def writes_maker(primal: Any, position: int) -> Any:
    """Return the Numba function of a function's arguments whose value says of each whether the function writes to it.

    Only the argument at `position` carries a tangent.
    """
    count = len(names_of(primal))
    parameters = ", ".join(f"a{number}" for number in range(count))

    def writes(*arguments: Any) -> tuple[bool, ...]:
        raise NotImplementedError("it is for code that Numba compiles")

    def implementation(*arguments: Any) -> Any:
        kinds = tuple(types.unliteral(kind) for kind in arguments)
        given = tuple(number == position for number in range(count))
        activity = activity_of(with_single_tangents(primal), kinds, given)
        answers = tuple(activity.writes_argument(index) for index in range(count))
        return generated("writes", [f"def writes({parameters}):", f"    return {answers}"])

    lines = [f"def typed({parameters}):", f"    return implementation({parameters})"]
    overload(writes, strict=False)(generated("typed", lines, implementation=implementation))
    constant(writes)
    return writes


def _parts(primal: Any, position: int, chunk: int | None) -> dict[str, Any]:
    """Return what a driver calls that differentiates a function in one of its arguments."""
    names = names_of(primal)
    # Passes leave nothing behind in arguments that carry no tangent.
    others = frozenset(name for name in names if name != names[position])
    return {
        "_function": tangent_of(primal, others),
        "_zero_for": zero_maker(chunk),
        "_dtype_of": dtype_for,
        "_writes": writes_maker(primal, position),
    }


@cache
def gradient_driver(primal: Any, position: int, chunk: int | None) -> Any:
    """Return the Numba function ``gradient(*arguments)``; `chunk` None takes one tangent a pass, without vectors."""
    names = _free(names_of(primal))
    here, width = names[position], chunk or 1
    lines = [
        f"def gradient({', '.join(names)}):",
        f"    _written = _writes({', '.join(names)})",
        f"    _count = leaf_count({here})",
        f"    _numbers = empty(_count, _dtype_of({here}))",
        f"    for _pass in _each((_count + {width - 1}) // {width}):",
        f"        _first = {width} * _pass",
        # Numba cannot hand a vector from one thread to another.
        f"        _zero = _zero_for({here})",
        f"        _value, _tangent = _function({_call(names, here, f'seeded({here}, _zero, _first)')})",
        f"        for _index in range(min({width}, _count - _first)):",
        "            _numbers[_first + _index] = one_lane(_tangent, _index)",
        f"    return shaped({here}, _numbers, 0)",
    ]
    parallel = chunk is not None and bool(primal.targetoptions.get("parallel"))
    driver = compiled(
        "gradient",
        lines,
        parallel,
        _each=prange if parallel else range,
        **_parts(primal, position, chunk),
    )
    if chunk is not None:
        TWINS[driver] = lambda: gradient_driver(primal, position, None)
    return driver


@cache
def jacobian_driver(primal: Any, position: int, chunk: int | None) -> Any:
    """Return the Numba function ``jacobian(*arguments)``: the value, and derivatives (m, n) of its m numbers."""
    names = _free(names_of(primal))
    here, width = names[position], chunk or 1
    lines = [
        f"def jacobian({', '.join(names)}):",
        f"    _written = _writes({', '.join(names)})",
        f"    _count = leaf_count({here})",
        f"    _zero = _zero_for({here})",
        f"    _result = zeros((0, _count), _dtype_of({here}))",
        f"    for _first in range(0, max(_count, 1), {width}):",
        f"        _value, _tangent = _function({_call(names, here, f'seeded({here}, _zero, _first)')})",
        "        if _first == 0:",
        f"            _result = zeros((leaf_count(_value), _count), _dtype_of({here}))",
        f"        for _index in range(min({width}, _count - _first)):",
        "            put_column(_result, _first + _index, _tangent, _index)",
        "    return _value, _result",
    ]
    driver = compiled("jacobian", lines, **_parts(primal, position, chunk))
    if chunk is not None:
        TWINS[driver] = lambda: jacobian_driver(primal, position, None)
    return driver


def joined_shape(value: Any, argument: Any) -> tuple[int, ...]:
    """Return the shape of a Jacobian: that of the value, and then that of the argument. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(joined_shape, strict=False)
def _joined_shape(value: Any, argument: Any) -> Any:
    if isinstance(value, types.BaseTuple):
        return None
    if isinstance(value, types.Array) and isinstance(argument, types.Array):
        return lambda value, argument: value.shape + argument.shape
    if isinstance(value, types.Array):
        if isinstance(argument, types.BaseTuple):
            return lambda value, argument: (*value.shape, leaf_count(argument))
        return lambda value, argument: value.shape
    if isinstance(argument, types.Array):
        return lambda value, argument: argument.shape
    return lambda value, argument: (leaf_count(argument),)


@cache
def shaped_jacobian_driver(primal: Any, chunk: int) -> Any:
    """Return the Numba function ``jacobian(*arguments)`` of shape (*y.shape, *x.shape), for compiled code."""
    names = names_of(primal)
    lines = [
        f"def jacobian({', '.join(names)}):",
        f"    _value, _result = _function({', '.join(names)})",
        f"    return _result.reshape(joined_shape(_value, {names[0]}))",
    ]
    return compiled("jacobian", lines, _function=jacobian_driver(primal, 0, chunk), joined_shape=joined_shape)


@cache
def derivative_driver(primal: Any) -> Any:
    """Return the Numba function ``derivative(x)`` of a function of one number."""
    lines = [
        "def derivative(x):",
        "    value, tangent = function(copied(x), seeded(x, zero_for(x), 0))",
        "    return tangent_or_zero(tangent)",
    ]
    return compiled("derivative", lines, function=tangent_of(primal), zero_for=zero_maker(None))


@cache
def hvp_driver(primal: Any, chunk: int | None) -> Any:
    """Return the Numba function ``hvp(x, v)`` of a function of one argument: H v, in the structure of x."""
    width = chunk or 1
    lines = [
        "def hvp(x, v):",
        "    count = leaf_count(x)",
        "    zero = zero_for(x)",
        "    numbers = empty(count, dtype_of(x))",
        f"    for first in range(0, count, {width}):",
        "        values, tangents = function(copied(x), copied(v), seeded(x, zero, first), None)",
        f"        for index in range(min({width}, count - first)):",
        "            numbers[first + index] = one_lane(tangents[1], index)",
        "    return shaped(x, numbers, 0)",
    ]
    twice = tangent_of(tangent_of(primal))
    return compiled("hvp", lines, function=twice, zero_for=zero_maker(chunk), dtype_of=dtype_for)


@cache
def hessian_driver(primal: Any, chunk: int | None) -> Any:
    """Return the Numba function ``hessian(x)``: second derivatives (n, n) in the n numbers of x.

    Row i needs the columns up to i alone; the others are their mirror images.
    """
    width = chunk or 1
    lines = [
        "def hessian(x):",
        "    count = leaf_count(x)",
        "    zero = zero_for(x)",
        "    result = zeros((count, count), dtype_of(x))",
        "    for row in range(count):",
        "        v = seeded(x, one_zero(x), row)",
        f"        for first in range(0, row + 1, {width}):",
        "            values, tangents = function(copied(x), copied(v), seeded(x, zero, first), None)",
        f"            for index in range(min({width}, row + 1 - first)):",
        "                second = one_lane(tangents[1], index)",
        "                result[row, first + index] = second",
        "                result[first + index, row] = second",
        "    return result",
    ]
    twice = tangent_of(tangent_of(primal))
    return compiled(
        "hessian",
        lines,
        **{
            "function": twice,
            "zero_for": zero_maker(chunk),
            "dtype_of": dtype_for,
            "one_zero": zero_maker(None),
        },
    )


@cache
def taylor_driver(primal: Any, order: int) -> Any:
    """Return the Numba function ``taylor(x, v)``: the tuple of dᵏ/dtᵏ f(x + t v) at t = 0, k = 0, …, order."""
    if order == 0:
        return compiled("taylor", ["def taylor(x, v):", "    return (function(copied(x)),)"], function=primal)
    lines = [
        "def taylor(x, v):",
        # x moves along v, and v itself stays.
        "    values, tangents = function(copied(x), copied(v), copied(v), None)",
        "    return (*values, tangents[-1])",
    ]
    return compiled("taylor", lines, function=tangent_of(taylor_driver(primal, order - 1)))


@cache
def laplacian_driver(primal: Any, lanes: int) -> Any:
    """Return the Numba function ``laplacian(x)``: Σ_i ∂²f/∂x_i², by vectors of `lanes` lanes.

    Lane 0 is the sum of second derivatives along the directions of the others, so that D directions cost D + D / lanes
    tangents beside the value, and not 2 D.
    """
    lines = [
        "def laplacian(x):",
        "    count = leaf_count(x)",
        "    zero = zero_for(x)",
        "    total = 0.0",
        f"    for first in range(0, count, {lanes - 1}):",
        "        value, tangent = function(copied(x), seeded(x, zero, first))",
        "        total += one_lane(tangent, 0)",
        "    return total",
    ]
    return compiled("laplacian", lines, function=tangent_of(primal), zero_for=zero_maker(lanes, True))
