"""The check of an activation."""

import math
import re
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.core.errors import NumbaError
from numba.extending import register_jitable

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.kernels.machine.scalar import FUNCTIONS
from fgnumba.kernels.rules.activations.rules import RULES, Rule
from fgnumba.layers import Activation
from fgnumba.testing.arguments import function as function_required
from fgnumba.testing.arguments import returned
from fgnumba.testing.comparison import require
from fgnumba.testing.layers import check_layer
from fgnumba.validation import as_float, optional, real_number, several

Array = npt.NDArray[Any]
Function = Callable[[Array], npt.ArrayLike]
"""Function of float64 arrays."""

MOST = float(np.finfo(np.float32).max)
FORMS = {"fused": {"contract", "nsz"}, "unfused": False}
"""Ways to compile a rule: as kernels are, where a product and a sum may become one operation, and exactly."""
STEP, OWN_STEP = 2.0**-20, 2.0**-10
"""Steps of differences, as shares of |z| or of 8: in float64 of a formula, in float32 of the rule itself."""
DIFFERENCED, OWN_DIFFERENCED = 1e-6, 2e-3
"""What such differences are wrong by: truncation 1e-9 and rounding 1e-10; some ten roundings of a value as large as z.
For derivatives above 1 in size they are shares of the derivative."""
WIDE_ROUNDING, OWN_ROUNDING = 2.0**-50, 2.0**-20
"""What the difference of two values is wrong by, as a share of them: it counts where a kink makes the step short."""
NEAR_KINK = 2.0**-16
"""Where a kink is in float32, as a share of it: a rule may have rounded what it compares."""
SMALLEST = 2.0**-120
"""The smallest size of z, beside 0, at which differences are taken: in float32 their steps are still exact."""
CROSSING_WIDTH, CROSSING = 0.25, 1e-7
"""So near a zero a derivative is the difference of two numbers near 0.25, each wrong by up to three roundings."""
SUBNORMAL = 256 * 2.0**-149
"""Results that have run into float32's subnormal numbers are right to so much."""


def check_activation(
    rule: str | Rule,
    value: Function | None = None,
    derivative: Function | None = None,
    *,
    tolerance: float = 1e-6,
    derivative_tolerance: float | None = None,
    zeros: Sequence[float] = (),
    kinks: Sequence[float] = (),
) -> None:
    """Check that an activation's rule z → (a(z), a'(z)) is right for every float32, in every form that is compiled.

    The rule is held to the following, for 550,000 numbers: over all magnitudes that float32 has, and densely between
    -110 and 110.

    - As plain Python it takes and returns ``np.float32``. Compiled as kernels are, and compiled without fused
      operations, it computes in float32 throughout, and its loop becomes vector code without calls.
    - Its value and its derivative agree with `value` and `derivative` in every form.
    - Its derivative is that of its value, by central differences: of `value` in float64 where it is given, else of the
      rule's own values. They are taken densely between -110 and 110, and at all sizes of z from 2⁻¹²⁰ on, with steps
      that grow with the size. An error shows that is larger than 1e-6, or without `value` 2e-3; for derivatives above 1
      in size, these are shares of the derivative.
    - Both are finite for every finite z. At infinity neither is NaN, and NaN gives a NaN value.
    - A layer ``Activation(rule)`` of that name passes :func:`check_layer`.

    Parameters
    ----------
    rule : str or callable
        Name of an activation; or a function of one ``np.float32`` that returns two.
    value, derivative : callable, optional
        a and a' in float64, of arrays.
    tolerance : float
        Greatest error of the value, as a share of what is expected.
    derivative_tolerance : float, optional
        The same for the derivative. None: as for the value.
    zeros : sequence of float
        Zeros of the derivative. Within 1/4 of one, the derivative may be wrong by 1e-7 beside that: it is the
        difference of two numbers there.
    kinks : sequence of float
        Numbers at which the derivative jumps: differences are taken on either side, not across them.

    Raises
    ------
    AssertionError
        The activation breaks one of the rules; the message says which, at which z, and by how much.
    ConfigError
        There is no activation of that name, an argument is not of its kind, or a number is not possible.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.testing.check_activation("tanh", np.tanh)
    """
    if isinstance(rule, str):
        if rule not in RULES:
            raise ConfigError(f"rule: unknown activation {shown(rule)}{did_you_mean(rule, RULES)}")
        name, function = rule, RULES[rule]
    elif callable(rule):
        name, function = getattr(rule, "__name__", "rule"), rule
    else:
        raise ConfigError(f"rule is {shown(rule)}; an activation's name or a function is required")
    optional(function_required, "value", value)
    optional(function_required, "derivative", derivative)
    of_value = real_number("tolerance", tolerance)
    of_slope = optional(real_number, "derivative_tolerance", derivative_tolerance)
    shares = of_value, of_value if of_slope is None else of_slope
    zeros, kinks = _points("zeros", zeros), _points("kinks", kinks)
    z = _numbers()
    few = np.concatenate([z[:: max(1, len(z) // 1000)], _EDGES, -_EDGES])
    plain = f"{name}, plain Python"
    of_plain = _plain(plain, function, few)
    expected = _expected(z, value, derivative, shares, zeros)
    for form, fastmath in FORMS.items():
        what = f"{name}, {form}"
        loop = _compiled(what, function, fastmath)
        evaluate = partial(_evaluated, loop)
        _right(what, z, evaluate(z), expected)
        if form == "fused":
            _consistent(name, loop, value, kinks)
        _vector_code(what, loop)
        _at_the_ends(what, evaluate)
    _right(plain, few, of_plain, _expected(few, value, derivative, shares, zeros))
    _at_the_ends(plain, partial(_plain, plain, function))
    if isinstance(rule, str):
        check_layer(Activation(rule), (5,), value if rule != "identity" else None)


def _points(name: str, given: Any) -> tuple[float, ...]:
    """Return numbers of either sign, having checked that they are finite."""
    numbers = tuple(as_float(one) for one in several(given) or ())
    if several(given) is None or not all(one is not None and math.isfinite(one) for one in numbers):
        raise ConfigError(f"{name} is {shown(given)}; several finite numbers are required")
    return tuple(one for one in numbers if one is not None)


_EDGES = np.array(
    [0.0, 2.0**-149, 1e-40, 2.0**-126, 1.0, 9.02, 14.5, 15.0, 17.33, 87.5, 104.0, 1e4, 1e30, MOST], np.float32
)


@cache
def _numbers() -> Array:
    """Return every 12,289th float32, the edges of what exponentials can be, and small numbers densely."""
    bits = np.arange(0, 2**32, 12289, dtype=np.int64).astype(np.uint32).view(np.float32)
    dense = np.concatenate([np.linspace(-110, 110, 100_001), np.linspace(-4, 4, 100_001)]).astype(np.float32)
    z = np.concatenate([bits, _EDGES, -_EDGES, dense])
    return z[np.isfinite(z)]


def _expected(
    z: Array,
    value: Function | None,
    derivative: Function | None,
    shares: tuple[float, float],
    zeros: Sequence[float],
) -> list[tuple[Array, Array] | None]:
    """Return what value and derivative are by the formulas, where there are any, and by how much they may be off."""
    wide = z.astype(np.float64)
    expected: list[tuple[Array, Array] | None] = []
    for what, formula, share in zip(("value", "derivative"), (value, derivative), shares, strict=True):
        if formula is None:
            expected.append(None)
            continue
        with np.errstate(all="ignore"):
            right = _formula(what, formula, wide)
            allowed = share * np.abs(right) + SUBNORMAL
        for zero in zeros if what == "derivative" else ():
            allowed += CROSSING * (np.abs(wide - zero) < CROSSING_WIDTH)
        expected.append((right, allowed))
    return expected


def _right(
    what: str, z: Array, results: tuple[Array, Array], expected: list[tuple[Array, Array] | None]
) -> None:
    """Require finite values and derivatives, and those that are expected."""
    for which, found in zip(("value", "derivative"), results, strict=True):
        endless = np.flatnonzero(~np.isfinite(found))
        if endless.size:
            first = endless[0]
            raise AssertionError(
                f"{what}: {which} at z = {z[first]!r} is {found[first]}; a finite number is expected, "
                f"as for every finite z; {endless.size} of {z.size} are not"
            )
    for which, found, one in zip(("value", "derivative"), results, expected, strict=True):
        if one is not None:
            _within(f"{what}: {which}", z, found, *one)


def _formula(what: str, function: Function, z: Array) -> Array:
    """Return what a caller's formula gives, a number for each z."""
    found = returned(what, function(z))
    require(found.shape in ((), z.shape), f"{what} has shape {found.shape}; {z.shape} is expected")
    return np.broadcast_to(found, z.shape)


def _binade(size: Array) -> Array:
    """Return the largest powers of two that are at most so large."""
    return np.ldexp(1.0, np.frexp(size)[1] - 1)


def _where_differenced() -> Array:
    """Return numbers of 16 bits, densely between -12 and 12 and between -110 and 110, and of every size."""
    sizes = SMALLEST * 2.0 ** np.arange(0, 247.9, 1 / 16)
    z = np.concatenate([np.linspace(-12, 12, 4801), np.linspace(-110, 110, 9_901), sizes, -sizes])
    unit = _binade(np.maximum(np.abs(z), SMALLEST)) * 2.0**-15
    return (np.round(z / unit) * unit).astype(np.float32)


_DIFFERENCED = _where_differenced()


def _compiled(what: str, rule: Rule, fastmath: Any) -> Any:
    if rule not in FUNCTIONS and not hasattr(rule, "py_func"):
        register_jitable(rule)

    def loop(z: Any, value: Any, derivative: Any) -> None:
        for i in range(z.size):
            value[i], derivative[i] = rule(z[i])

    signature = "void(float32[::1], float32[::1], float32[::1])"
    try:
        return numba.njit(signature, error_model="numpy", fastmath=fastmath)(loop)
    except NumbaError as error:
        reason = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        raise AssertionError(f"{what}: it does not compile: {reason[:300]}") from error


def _evaluated(loop: Any, z: Array) -> tuple[Array, Array]:
    value, derivative = np.empty_like(z), np.empty_like(z)
    loop(z, value, derivative)
    return value, derivative


def _plain(what: str, rule: Rule, z: Array) -> tuple[Array, Array]:
    rule = getattr(rule, "py_func", rule)
    value, derivative = np.empty_like(z), np.empty_like(z)
    with np.errstate(all="ignore"):
        for i, number in enumerate(z):
            try:
                result = rule(number)
            except Exception as error:
                raise AssertionError(
                    f"{what}: of {number!r} it raises {type(error).__name__}: {error}"
                ) from error
            is_pair = isinstance(result, tuple | list)
            kinds = [type(one).__name__ for one in result] if is_pair else type(result).__name__
            require(
                kinds == ["float32", "float32"],
                f"{what}: of {number!r} it returns {kinds}; two np.float32 are expected",
            )
            value[i], derivative[i] = result
    return value, derivative


def _within(what: str, z: Array, found: Array, right: Array, allowed: Array) -> None:
    error = np.abs(found.astype(np.float64) - right)
    wrong = ~(error <= allowed)
    if not wrong.any():
        return
    worst = int(np.argmax(np.where(wrong, np.where(np.isnan(error), np.inf, error - allowed), -np.inf)))
    raise AssertionError(
        f"{what} at z = {z[worst]!r} is {found[worst]!r}; {right[worst]:.9g} is expected "
        f"(error {error[worst]:.3g}, allowed {allowed[worst]:.3g}); {int(wrong.sum())} of {len(z)} numbers are wrong"
    )


def _consistent(name: str, loop: Any, value: Function | None, kinks: Sequence[float]) -> None:
    """Compare the derivative with differences of the value, at each z with the longest step that crosses no kink."""
    z = _DIFFERENCED
    wide = z.astype(np.float64)
    gap = np.full(z.shape, np.inf)
    for kink in kinks:
        apart = np.abs(wide - kink)
        gap = np.minimum(gap, np.where(apart > max(NEAR_KINK * abs(kink), SMALLEST), apart, 0.0))
    z, wide, gap = z[gap > 0], wide[gap > 0], gap[gap > 0]
    slope = _evaluated(loop, z)[1]
    # Powers of two, so that the sum of z and a step is not rounded.
    share = OWN_STEP if value is None else STEP
    step = np.minimum(share * _binade(np.maximum(np.abs(wide), 8.0)), _binade(np.minimum(gap, MOST)) / 2)

    def values(at: Array) -> Array:
        if value is not None:
            with np.errstate(all="ignore"):
                return _formula("value", value, at)
        return _evaluated(loop, at.astype(np.float32))[0].astype(np.float64)

    def central(step: Array) -> tuple[Array, Array]:
        after, before = values(wide + step), values(wide - step)
        return (after - before) / (2 * step), np.maximum(np.abs(after), np.abs(before))

    if value is not None:
        difference, size = central(step)
        error, rounding = DIFFERENCED, WIDE_ROUNDING * size / step
    else:
        (coarse, size), (fine, _) = central(step), central(step / 2)
        difference, error, rounding = (4 * fine - coarse) / 3, OWN_DIFFERENCED, OWN_ROUNDING * size / step
    allowed = np.maximum(error * np.maximum(1.0, np.abs(difference)), rounding)
    _within(f"{name}: derivative, beside differences of the value,", z, slope, difference, allowed)


def _vector_code(what: str, loop: Any) -> None:
    (module,) = loop.inspect_llvm().values()
    body = module[module.index("define") :]
    body = body[: body.index("\n}")]
    called = {
        line.split("@", 1)[1].split("(", 1)[0].strip('"')
        for line in body.splitlines()
        if " call " in line and "@" in line
    }
    outside = sorted(one for one in called if not one.startswith(("llvm.", "NRT_")))
    require(not outside, f"{what}: it calls {', '.join(outside)}; a loop over it cannot become vector code")
    require(
        "double" not in body,
        f"{what}: it computes in float64; write constants as np.float32(...), or make results np.float32",
    )
    is_vector = re.search(r"store <\d+ x float>", body) is not None
    require(is_vector, f"{what}: a loop over it does not become vector code")


def _at_the_ends(what: str, evaluate: Callable[[Array], tuple[Array, Array]]) -> None:
    ends = np.array([-np.inf, np.inf], np.float32)
    for which, found in zip(("value", "derivative"), evaluate(ends), strict=True):
        for z, one in zip(ends, found, strict=True):
            require(not np.isnan(one), f"{what}: the {which} at {z} is NaN; what it tends to is expected")
    (of_nan,) = evaluate(np.array([np.nan], np.float32))[0]
    require(bool(np.isnan(of_nan)), f"{what}: the value of NaN is {of_nan}; NaN is expected")
