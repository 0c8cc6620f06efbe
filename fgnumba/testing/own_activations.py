"""The check of an activation that was made of a function: against itself in float64, to within its own roundings."""

from functools import partial
from typing import Any

import numpy as np

from fgnumba.functions.scalar_graph import COMPARISONS, ordered
from fgnumba.functions.scalar_source import values, with_bounds
from fgnumba.layers import Activation
from fgnumba.layers.own_activation import OwnActivation
from fgnumba.testing.layers import check_layer
from fgnumba.testing.rules import (
    EDGES,
    FORMS,
    MOST,
    WHERE_DIFFERENCED,
    Array,
    compiled,
    evaluated,
    numbers,
    plain_python,
    vector_code,
    within,
)

CALLED = 2000
"""Numbers for which the function itself is called."""
AS_CALLED = 1e-12
"""What the graph in float64 may differ by from the function, as a share of the largest of the value, z and 1."""
STEP, WIDE_ROUNDING = 2.0**-17, 2.0**-50
DIFFERENCED = 1e-6
"""The step of differences, and what they are wrong by: a rounding of the value, and truncation."""
KINKED = ("absolute", "maximum", "minimum", "floor")
NEAREST, FARTHEST = 2.0**-12, 2.0**14
"""The sizes of z between which differences are taken: steps are small against them, and exact."""


def check_own_activation(own: OwnActivation) -> None:
    """Check that the rule of an activation computes the function that it was made of, and its derivative.

    Parameters
    ----------
    own : OwnActivation
        The activation.

    Raises
    ------
    AssertionError
        Value or derivative is wrong by more than the roundings of the rule's operations can make it, the derivative is
        not that of the value, or the rule's loop is no vector code.
    """
    _as_the_function(own)
    _derivative(own)
    z = numbers()
    few = np.concatenate([z[:: max(1, len(z) // 1000)], EDGES, -EDGES])
    for form, fastmath in FORMS.items():
        what = f"{own.name}, {form}"
        loop = compiled(what, own.rule, fastmath)
        _bounded(what, own, z, evaluated(loop, z))
        vector_code(what, loop)
        _at_the_ends(what, own, partial(evaluated, loop))
    plain = f"{own.name}, plain Python"
    _bounded(plain, own, few, plain_python(plain, own.rule, few))

    def reference(x: Any) -> Any:
        return values(own.outputs[:1], np.asarray(x, np.float64))[0]

    # The layer is tried with normal numbers. A function that is defined on some of them has no layer's check.
    if np.isfinite(reference(np.linspace(-6, 6, 1201))).all():
        check_layer(Activation(own), (5,), reference)


def _as_the_function(own: OwnActivation) -> None:
    """Compare the graph with the function, where that returns a number."""
    every = numbers()
    z = every[:: max(1, len(every) // CALLED)].astype(np.float64)
    found = values(own.outputs[:1], z)[0]
    function = getattr(own.function, "py_func", own.function)
    right = np.full_like(z, np.nan)
    for i, one in enumerate(z):
        try:
            right[i] = float(function(float(one)))
        except (ArithmeticError, ValueError, TypeError):
            # Outside of where the function is defined, or too large for a float.
            continue
    defined = np.isfinite(right)
    allowed = AS_CALLED * np.maximum(np.maximum(1.0, np.abs(z[defined])), np.abs(right[defined]))
    within(
        f"{own.name}: value in float64, beside the function's own,",
        z[defined],
        found[defined],
        right[defined],
        allowed,
    )


def _bounded(what: str, own: OwnActivation, z: Array, results: tuple[Array, Array]) -> None:
    """Require that value and derivative are within the bound of their roundings, where there is one."""
    bounds = with_bounds(own.outputs, z.astype(np.float64))
    for which, found, (right, allowed) in zip(("value", "derivative"), results, bounds, strict=True):
        known = np.isfinite(right) & np.isfinite(allowed)
        within(f"{what}: {which}", z[known], found[known], right[known], allowed[known])


def _derivative(own: OwnActivation) -> None:
    """Compare the derivative with differences of the value in float64, where no choice falls between."""
    z = WHERE_DIFFERENCED.astype(np.float64)
    z = z[(np.abs(z) >= NEAREST) & (np.abs(z) <= FARTHEST)]
    step = np.full_like(z, STEP)
    value, slope = own.outputs
    conditions = [node for node in ordered(value) if node.op in (*COMPARISONS, *KINKED)]

    def choices(at: Array) -> Any:
        return [_side(node, at) for node in conditions]

    def central(h: Array) -> tuple[Array, Array]:
        after, before = values([value], z + h)[0], values([value], z - h)[0]
        with np.errstate(all="ignore"):
            return (after - before) / (2 * h), np.maximum(np.abs(after), np.abs(before))

    with np.errstate(all="ignore"):
        (coarse, size), (fine, _) = central(step), central(step / 2)
        difference = (4 * fine - coarse) / 3
        allowed = np.maximum(
            DIFFERENCED * np.maximum(1.0, np.abs(difference)),
            WIDE_ROUNDING * size / step + np.abs(fine - coarse),
        )
    found = values([slope], z)[0]
    smooth = np.isfinite(difference) & np.isfinite(allowed) & np.isfinite(found) & (size < MOST)
    for here, after, before in zip(choices(z), choices(z + step), choices(z - step), strict=True):
        smooth &= (here == after) & (here == before)
    within(
        f"{own.name}: derivative, beside differences of the value,",
        z[smooth],
        found[smooth],
        difference[smooth],
        allowed[smooth],
    )


def _side(node: Any, z: Array) -> Any:
    """Return on which side of a kink a function is: what a comparison says, or which operand is the larger."""
    operands = values(node.operands, z)
    if node.op in COMPARISONS:
        return COMPARISONS[node.op](*operands)
    if node.op == "floor":
        return np.floor(operands[0])
    other = operands[1] if len(operands) == 2 else 0.0
    return np.sign(operands[0] - other)


def _at_the_ends(what: str, own: OwnActivation, evaluate: Any) -> None:
    """Require that the rule gives numbers at infinity where the formula does, and NaN of NaN where it does."""
    ends = np.array([-np.inf, np.inf, np.nan], np.float32)
    right = values(own.outputs, ends.astype(np.float64))
    for which, found, expected in zip(("value", "derivative"), evaluate(ends), right, strict=True):
        for z, one, formula in zip(ends, found, expected, strict=True):
            if np.isnan(one) and not np.isnan(formula):
                raise AssertionError(f"{what}: the {which} at {z} is NaN; {formula:.9g} is expected")
