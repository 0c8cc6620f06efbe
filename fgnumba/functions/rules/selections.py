"""Choices among numbers: where, clip, select, sort, interpolation."""

from typing import Any

import numpy as np
from numba.core import types

from fgnumba.functions.registry import METHODS, composition_by_types, formula_by_types
from fgnumba.functions.rules.sources import defined, lines
from fgnumba.functions.zeros import zeros_beside


@formula_by_types(np.where, "condition, *x=None, *y=None", several=True, curved=False)
def _where(value: Any, condition: Any, x: Any, y: Any, dx: Any, dy: Any, zero: Any) -> Any:
    """Choose the tangent of the value that was taken; the other is never touched."""
    operands = {"condition": condition, "dx": dx, "dy": dy}
    arrays = [name for name, kind in operands.items() if isinstance(kind, types.Array)]

    def element(name: str) -> str:
        if operands[name] is types.none:
            return "zero"
        return f"{name}[place]" if name in arrays else name

    choice = f"{element('dx')} if {element('condition')} else {element('dy')}"
    head = "def where(value, condition, x, y, dx, dy, zero):"
    if not isinstance(value, types.Array):
        return defined(lines(head, f"    return {choice}"))
    return defined(
        lines(
            head,
            *(f"    {name} = np.broadcast_to({name}, value.shape)" for name in arrays),
            "    result = zeros_beside(value, zero)",
            "    for place in np.ndindex(value.shape):",
            f"        result[place] = {choice}",
            "    return result",
        )
    )


@composition_by_types(np.clip, "*a, *a_min=None, *a_max=None")
def _clip(a: Any, a_min: Any, a_max: Any) -> Any:
    if a_min is types.none:
        return lambda a, a_min, a_max: np.minimum(a, a_max)
    if a_max is types.none:
        return lambda a, a_min, a_max: np.maximum(a, a_min)
    return lambda a, a_min, a_max: np.minimum(np.maximum(a, a_min), a_max)


METHODS["Array", "clip"] = np.clip


@formula_by_types(np.sort, "*a", several=True, curved=False)
def _sort(y: Any, a: Any, da: Any, zero: Any) -> Any:
    if a.ndim == 1:
        return lambda y, a, da, zero: da[np.argsort(a, kind="mergesort")]

    def rows(y, a, da, zero):
        result = zeros_beside(y, zero)
        for place in np.ndindex(a.shape[:-1]):
            order = np.argsort(a[place], kind="mergesort")
            for index in range(len(order)):
                result[place][index] = da[place][order[index]]
        return result

    return rows


@formula_by_types(np.partition, "*a, kth", several=True, curved=False)
def _partition(y: Any, a: Any, kth: Any, da: Any, zero: Any) -> Any:
    if a.ndim != 1:
        return None

    def partition(y, a, kth, da, zero):
        # The k-th smallest element stands in y where the k-th smallest of y does.
        result = zeros_beside(y, zero)
        places = np.argsort(y, kind="mergesort")
        for place, source in zip(places, np.argsort(a, kind="mergesort")):  # noqa: B905 - Numba has no strict=
            result[place] = da[source]
        return result

    return partition


@formula_by_types(np.select, "condlist, *choicelist, *default=0", several=True, curved=False)
def _select(
    y: Any, condlist: Any, choicelist: Any, default: Any, d_choice: Any, d_default: Any, zero: Any
) -> Any:
    rest = "zero" if d_default is types.none else "d_default"
    if d_choice is types.none:
        taken = "zero"
    elif isinstance(d_choice, (types.UniTuple, types.List)):
        taken = "d_choice[index][place]"
    else:
        return None
    return defined(
        lines(
            "def select(y, condlist, choicelist, default, d_choice, d_default, zero):",
            "    result = zeros_beside(y, zero)",
            "    for place in np.ndindex(y.shape):",
            f"        result[place] = {rest}",
            "        for index in range(len(condlist)):",
            "            if condlist[index][place]:",
            f"                result[place] = {taken}",
            "                break",
            "    return result",
        )
    )


@formula_by_types(np.interp, "*x, *xp, *fp", several=True)
def _interp(y: Any, x: Any, xp: Any, fp: Any, dx: Any, dxp: Any, dfp: Any, zero: Any) -> Any:
    """Slope of the piece to the right of a knot, at the last knot to the left; outside, the tangent of the end."""
    # With t = (x − x₀) / (x₁ − x₀) and s the slope:  dy = (1 − t) df₀ + t df₁ + s (dx − (1 − t) dx₀ − t dx₁)
    terms, ends = [], "zero"
    if dfp is not types.none:
        terms += ["dfp[j] * like(zero, 1 - t)", "dfp[j + 1] * like(zero, t)"]
        ends = "dfp[end]"
    if dx is not types.none:
        terms.append(
            "dx[place] * like(zero, slope)" if isinstance(x, types.Array) else "dx * like(zero, slope)"
        )
    if dxp is not types.none:
        terms += ["dxp[j] * like(zero, (t - 1) * slope)", "dxp[j + 1] * like(zero, -t * slope)"]
    element = [
        "at = {0}",
        "if at < xp[0] or at > xp[last] or last == 0:",
        "    end = last if at > xp[last] else 0",
        f"    {{1}} = {ends}",
        "else:",
        "    j = min(max(np.searchsorted(xp, at, side='right') - 1, 0), last - 1)",
        "    slope = (fp[j + 1] - fp[j]) / (xp[j + 1] - xp[j])",
        "    t = (at - xp[j]) / (xp[j + 1] - xp[j])",
        f"    {{1}} = {' + '.join(terms)}",
    ]
    head = ["def interp(y, x, xp, fp, dx, dxp, dfp, zero):", "    last = len(xp) - 1"]
    if not isinstance(y, types.Array):
        return defined(lines(*head, *(f"    {line.format('x', 'dy')}" for line in element), "    return dy"))
    return defined(
        lines(
            *head,
            "    dy = zeros_beside(y, zero)",
            "    for place in np.ndindex(y.shape):",
            *(f"        {line.format('x[place]', 'dy[place]')}" for line in element),
            "    return dy",
        )
    )
