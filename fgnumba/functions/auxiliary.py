"""What partial derivatives call besides scalar functions, in code that can itself be differentiated."""

import math
from typing import Any

import numpy as np
from numba import njit
from numba.core import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic, overload

INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Options of functions that only compiled code calls: they compile faster, and take vectors, which Python has not."""


def _float_of(*kinds: types.Type) -> types.Type:
    """Return the type of a quotient: float32 only if no operand needs more."""
    narrow = all(kind == types.float32 for kind in kinds)
    return types.float32 if narrow else types.float64


@intrinsic
def quotient(typingctx: Any, a: Any, b: Any) -> Any:
    """``quotient(a, b)``: a / b of floats, infinite or NaN and without an exception where b is 0."""
    if isinstance(a, types.Complex) or isinstance(b, types.Complex):
        return None
    if not isinstance(a, types.Number) or not isinstance(b, types.Number):
        return None
    kind = _float_of(a, b)

    def lowered(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.fdiv(*arguments)

    return signature(kind, kind, kind), lowered


@njit(error_model="numpy", **INNER)
def divided(a, b):
    return a / b


def is_whole(x: Any) -> bool:
    """Return whether a number is of an integer type. For compiled code."""
    raise NotImplementedError("it is for code that Numba compiles")


@overload(is_whole, strict=False)
def _is_whole(x: Any) -> Any:
    whole = isinstance(x, types.Integer)
    return lambda x: whole


@njit(**INNER)
def side(x):
    return 1.0 if x >= 0 else -1.0


@njit(error_model="numpy", **INNER)
def power_slope(a, b):
    if is_whole(b) and b == 0:
        return 0.0
    return b * np.power(a, b - 1.0)


@njit(**INNER)
def nonzero(x):
    return x if x != 0 else x + 1


@njit(**INNER)
def larger_share(a, b):
    if a > b:
        return 1.0
    return 0.5 if a == b else 0.0


@njit(**INNER)
def first_is_larger(a, b):
    return 1.0 if a > b or b != b else 0.0


@njit(**INNER)
def first_is_smaller(a, b):
    return 1.0 if a < b or b != b else 0.0


@njit(error_model="numpy", **INNER)
def turning(a, b):
    distance = math.hypot(a, b)
    return (a / distance) / distance


@njit(error_model="numpy", **INNER)
def cosine(a, y):
    return 0.5 if y == 0 else a / y


@njit(error_model="numpy", **INNER)
def sinc_slope(x):
    """sin(π x) / (π x), differentiated; near 0 by its series, since the quotient cancels there."""
    z = math.pi * x
    if abs(z) < 0.25:
        z2 = z * z
        series = 1.0 / 3.0 - z2 * (
            1.0 / 30.0 - z2 * (1.0 / 840.0 - z2 * (1.0 / 45360.0 - z2 * (1.0 / 3991680.0 - z2 / 518918400.0)))
        )
        return -math.pi * z * series
    return (math.cos(z) - math.sin(z) / z) / x


@njit(error_model="numpy", **INNER)
def digamma(x):
    """Return the derivative of log Γ: reflection below 0, recurrence up to 10, then Stirling's series."""
    result = 0.0 * x
    if x <= 0.0:
        if x == math.floor(x):
            return x * math.nan
        result -= math.pi / math.tan(math.pi * x)
        x = 1.0 - x
    while x < 10.0:
        result -= 1.0 / x
        x += 1.0
    r = 1.0 / (x * x)
    series = r * (
        1.0 / 12.0
        - r
        * (
            1.0 / 120.0
            - r * (1.0 / 252.0 - r * (1.0 / 240.0 - r * (1.0 / 132.0 - r * (691.0 / 32760.0 - r / 12.0))))
        )
    )
    return result + math.log(x) - 0.5 / x - series


CALLABLES: dict[str, Any] = {
    "side": side,
    "first_is_larger": first_is_larger,
    "first_is_smaller": first_is_smaller,
    "turning": turning,
    "cosine": cosine,
    "power_slope": power_slope,
    "nonzero": nonzero,
    "larger_share": larger_share,
    "sinc_slope": sinc_slope,
    "digamma": digamma,
}
