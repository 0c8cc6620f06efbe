"""The check of an activation."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.kernels.rules.activations.rules import RULES, Rule
from fgnumba.layers import Activation
from fgnumba.layers.own_activation import OwnActivation
from fgnumba.testing.arguments import function as function_required
from fgnumba.testing.arguments import returned
from fgnumba.testing.comparison import require
from fgnumba.testing.layers import check_layer
from fgnumba.testing.own_activations import check_own_activation
from fgnumba.testing.rules import (
    EDGES,
    FORMS,
    MOST,
    SMALLEST,
    WHERE_DIFFERENCED,
    binade,
    compiled,
    evaluated,
    numbers,
    plain_python,
    vector_code,
    within,
)
from fgnumba.validation import as_float, optional, real_number, several

Array = npt.NDArray[Any]
Function = Callable[[Array], npt.ArrayLike]
"""Function of float64 arrays."""

STEP, OWN_STEP = 2.0**-20, 2.0**-10
"""Steps of differences, as shares of |z| or of 8: in float64 of a formula, in float32 of the rule itself."""
DIFFERENCED, OWN_DIFFERENCED = 1e-6, 2e-3
"""What such differences are wrong by: truncation 1e-9 and rounding 1e-10; some ten roundings of a value as large as z.
For derivatives above 1 in size they are shares of the derivative."""
WIDE_ROUNDING, OWN_ROUNDING = 2.0**-50, 2.0**-20
"""What the difference of two values is wrong by, as a share of them: it counts where a kink makes the step short."""
NEAR_KINK = 2.0**-16
"""Where a kink is in float32, as a share of it: a rule may have rounded what it compares."""
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
        Name of an activation; a function of one ``np.float32`` that returns two; or what :func:`fgnumba.activation` has
        made of a function of one's own. Where neither `value` nor `derivative` is given, the latter is compared with
        itself in float64, to within a bound of the roundings of its own operations at each z; numbers that float32
        cannot hold are left out, and the value is compared with that of the function itself.
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
    if isinstance(rule, OwnActivation):
        if value is None and derivative is None:
            check_own_activation(rule)
            return
        name, function = rule.name, rule.rule
    elif isinstance(rule, str):
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
    z = numbers()
    few = np.concatenate([z[:: max(1, len(z) // 1000)], EDGES, -EDGES])
    plain = f"{name}, plain Python"
    of_plain = plain_python(plain, function, few)
    expected = _expected(z, value, derivative, shares, zeros)
    for form, fastmath in FORMS.items():
        what = f"{name}, {form}"
        loop = compiled(what, function, fastmath)
        evaluate = partial(evaluated, loop)
        _right(what, z, evaluate(z), expected)
        if form == "fused":
            _consistent(name, loop, value, kinks)
        vector_code(what, loop)
        _at_the_ends(what, evaluate)
    _right(plain, few, of_plain, _expected(few, value, derivative, shares, zeros))
    _at_the_ends(plain, partial(plain_python, plain, function))
    if isinstance(rule, str) and not isinstance(rule, OwnActivation):
        check_layer(Activation(rule), (5,), value if rule != "identity" else None)


def _points(name: str, given: Any) -> tuple[float, ...]:
    """Return numbers of either sign, having checked that they are finite."""
    numbers = tuple(as_float(one) for one in several(given) or ())
    if several(given) is None or not all(one is not None and math.isfinite(one) for one in numbers):
        raise ConfigError(f"{name} is {shown(given)}; several finite numbers are required")
    return tuple(one for one in numbers if one is not None)


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
            within(f"{what}: {which}", z, found, *one)


def _formula(what: str, function: Function, z: Array) -> Array:
    """Return what a caller's formula gives, a number for each z."""
    found = returned(what, function(z))
    require(found.shape in ((), z.shape), f"{what} has shape {found.shape}; {z.shape} is expected")
    return np.broadcast_to(found, z.shape)


def _consistent(name: str, loop: Any, value: Function | None, kinks: Sequence[float]) -> None:
    """Compare the derivative with differences of the value, at each z with the longest step that crosses no kink."""
    z = WHERE_DIFFERENCED
    wide = z.astype(np.float64)
    gap = np.full(z.shape, np.inf)
    for kink in kinks:
        apart = np.abs(wide - kink)
        gap = np.minimum(gap, np.where(apart > max(NEAR_KINK * abs(kink), SMALLEST), apart, 0.0))
    z, wide, gap = z[gap > 0], wide[gap > 0], gap[gap > 0]
    slope = evaluated(loop, z)[1]
    # Powers of two, so that the sum of z and a step is not rounded.
    share = OWN_STEP if value is None else STEP
    step = np.minimum(share * binade(np.maximum(np.abs(wide), 8.0)), binade(np.minimum(gap, MOST)) / 2)

    def values(at: Array) -> Array:
        if value is not None:
            with np.errstate(all="ignore"):
                return _formula("value", value, at)
        return evaluated(loop, at.astype(np.float32))[0].astype(np.float64)

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
    within(f"{name}: derivative, beside differences of the value,", z, slope, difference, allowed)


def _at_the_ends(what: str, evaluate: Callable[[Array], tuple[Array, Array]]) -> None:
    ends = np.array([-np.inf, np.inf], np.float32)
    for which, found in zip(("value", "derivative"), evaluate(ends), strict=True):
        for z, one in zip(ends, found, strict=True):
            require(not np.isnan(one), f"{what}: the {which} at {z} is NaN; what it tends to is expected")
    (of_nan,) = evaluate(np.array([np.nan], np.float32))[0]
    require(bool(np.isnan(of_nan)), f"{what}: the value of NaN is {of_nan}; NaN is expected")
