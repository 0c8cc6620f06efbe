"""The check of an activation."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
from numba.extending import register_jitable

from fgnumba.errors import ConfigError, did_you_mean, shown
from fgnumba.kernels.machine.scalar import FUNCTIONS
from fgnumba.kernels.rules.activations.rules import RULES, Rule
from fgnumba.layers import Activation
from fgnumba.testing.comparison import largest, require
from fgnumba.testing.layers import check_layer
from fgnumba.validation import as_float, optional, real_number, several

Array = npt.NDArray[Any]
Function = Callable[[Array], npt.ArrayLike]
"""Function of float64 arrays."""

MOST = float(np.finfo(np.float32).max)
FORMS = {"fused": {"contract", "nsz"}, "unfused": False}
"""Ways to compile a rule: as kernels are, where a product and a sum may become one operation, and exactly."""
STEP, OWN_STEP = 1e-5, 2.0**-7
"""Steps of differences: in float64 of a formula, in float32 of the rule itself."""
DIFFERENCED, OWN_DIFFERENCED = 1e-6, 2e-3
"""What such differences are wrong by: truncation 1e-10 and rounding 1e-11; some 300 roundings of a value up to 12."""
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
      rule's own values.
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
        Numbers at which the derivative jumps: differences are not taken across them.

    Raises
    ------
    AssertionError
        The activation breaks one of the rules; the message says which, at which z, and by how much.
    ConfigError
        There is no activation of that name, or a number is not possible.

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
    else:
        name, function = getattr(rule, "__name__", "rule"), rule
    of_value = real_number("tolerance", tolerance)
    of_slope = optional(real_number, "derivative_tolerance", derivative_tolerance)
    shares = of_value, of_value if of_slope is None else of_slope
    zeros, kinks = _points("zeros", zeros), _points("kinks", kinks)
    z = _numbers()
    few = np.concatenate([z[:: max(1, len(z) // 1000)], _EDGES, -_EDGES])
    plain = _plain(name, function, few)
    forms = {form: _compiled(function, fastmath) for form, fastmath in FORMS.items()}
    results = {form: _evaluated(loop, z) for form, loop in forms.items()}
    points = {"fused": z, "unfused": z, "plain Python": few}
    results["plain Python"] = plain
    for form, (a, slope) in results.items():
        at = points[form]
        for what, found in (("value", a), ("derivative", slope)):
            endless = np.flatnonzero(~np.isfinite(found))
            if endless.size:
                first = endless[0]
                raise AssertionError(
                    f"{name}, {form}: {what} at z = {at[first]!r} is {found[first]}; a finite number is expected, "
                    f"as for every finite z; {endless.size} of {at.size} are not"
                )
        wide = at.astype(np.float64)
        with np.errstate(all="ignore"):
            if value is not None:
                right = np.asarray(value(wide), np.float64)
                _within(f"{name}, {form}: value", at, a, right, shares[0] * np.abs(right) + SUBNORMAL)
            if derivative is not None:
                right = np.asarray(derivative(wide), np.float64)
                allowed = shares[1] * np.abs(right) + SUBNORMAL
                for zero in zeros:
                    allowed += CROSSING * (np.abs(wide - zero) < CROSSING_WIDTH)
                _within(f"{name}, {form}: derivative", at, slope, right, allowed)
    _consistent(name, forms["fused"], value, kinks)
    for form, loop in forms.items():
        _vector_code(f"{name}, {form}", loop)
        _at_the_ends(f"{name}, {form}", lambda z, loop=loop: _evaluated(loop, z))  # type: ignore[misc]
    _at_the_ends(f"{name}, plain Python", lambda z: _plain(name, function, z))
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


def _numbers() -> Array:
    """Return every 12,289th float32, the edges of what exponentials can be, and small numbers densely."""
    bits = np.arange(0, 2**32, 12289, dtype=np.int64).astype(np.uint32).view(np.float32)
    dense = np.concatenate([np.linspace(-110, 110, 100_001), np.linspace(-4, 4, 100_001)]).astype(np.float32)
    z = np.concatenate([bits, _EDGES, -_EDGES, dense])
    return z[np.isfinite(z)]


def _compiled(rule: Rule, fastmath: Any) -> Any:
    if rule not in FUNCTIONS and not hasattr(rule, "py_func"):
        register_jitable(rule)

    @numba.njit("void(float32[::1], float32[::1], float32[::1])", error_model="numpy", fastmath=fastmath)
    def loop(z: Any, value: Any, derivative: Any) -> None:
        for i in range(z.size):
            value[i], derivative[i] = rule(z[i])

    return loop


def _evaluated(loop: Any, z: Array) -> tuple[Array, Array]:
    value, derivative = np.empty_like(z), np.empty_like(z)
    loop(z, value, derivative)
    return value, derivative


def _plain(name: str, rule: Rule, z: Array) -> tuple[Array, Array]:
    rule = getattr(rule, "py_func", rule)
    value, derivative = np.empty_like(z), np.empty_like(z)
    with np.errstate(all="ignore"):
        for i, number in enumerate(z):
            result = rule(number)
            kinds = [type(one).__name__ for one in result]
            require(
                kinds == ["float32", "float32"],
                f"{name}, plain Python: of {number!r} it returns {kinds}; two np.float32 are expected",
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
    """Compare the derivative with differences of the value."""
    z = np.round(np.linspace(-12, 12, 4801) * 4096).astype(np.float32) / np.float32(4096)
    for kink in kinks:
        z = z[np.abs(z - kink) > OWN_STEP]
    slope = _evaluated(loop, z)[1]
    wide = z.astype(np.float64)
    if value is not None:
        sides = [np.asarray(value(wide + step), np.float64) for step in (STEP, -STEP)]
        difference, error = (sides[0] - sides[1]) / (2 * STEP), DIFFERENCED
    else:

        def central(step: float) -> Array:
            after, before = (
                _evaluated(loop, z + np.float32(by))[0].astype(np.float64) for by in (step, -step)
            )
            return (after - before) / (2 * step)

        difference, error = (4 * central(OWN_STEP / 2) - central(OWN_STEP)) / 3, OWN_DIFFERENCED
    allowed = np.full(z.shape, error * max(1.0, largest(difference)))
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
    require("x float>" in body, f"{what}: a loop over it does not become vector code")


def _at_the_ends(what: str, evaluate: Callable[[Array], tuple[Array, Array]]) -> None:
    ends = np.array([-np.inf, np.inf], np.float32)
    for which, found in zip(("value", "derivative"), evaluate(ends), strict=True):
        for z, one in zip(ends, found, strict=True):
            require(not np.isnan(one), f"{what}: the {which} at {z} is NaN; what it tends to is expected")
    (of_nan,) = evaluate(np.array([np.nan], np.float32))[0]
    require(bool(np.isnan(of_nan)), f"{what}: the value of NaN is {of_nan}; NaN is expected")
