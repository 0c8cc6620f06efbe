"""Arrays of lists, tuples and numbers."""

from typing import Any

import numpy as np
from numba.core import types

from fgnumba.functions.carriers import carries
from fgnumba.functions.registry import formula_by_types
from fgnumba.functions.rules.sources import defined, lines


def _stores(kind: types.Type, name: str, places: list[str], depth: int) -> list[str]:
    """Return the lines that store the members of nested tangents in an array."""
    indent = "    " * depth
    if isinstance(kind, types.BaseTuple):
        result: list[str] = []
        for place, member in enumerate(kind.types):
            if carries(member):
                result += _stores(member, f"{name}[{place}]", [*places, str(place)], depth)
        return result
    if isinstance(kind, (types.List, types.ListType)):
        index = f"i{len(places)}"
        inner = _stores(kind.dtype, f"{name}[{index}]", [*places, index], depth + 1)
        return [f"{indent}for {index} in range(len({name})):", *inner]
    places = places if not isinstance(kind, types.Array) else [*places, "..."]
    return [f"{indent}result[{', '.join(places)}] = {name}"]


@formula_by_types(np.array, "*object, dtype=None", several=True, curved=False)
@formula_by_types(np.asarray, "*a, dtype=None", several=True, curved=False)
def _array(y: Any, source: Any, dtype: Any, tangent: Any, zero: Any) -> Any:
    if isinstance(source, types.Array):
        return lambda y, source, dtype, tangent, zero: tangent
    if isinstance(source, types.Number):
        return lambda y, source, dtype, tangent, zero: np.array(tangent)
    return defined(
        lines(
            "def array(y, source, dtype, tangent, zero):",
            "    result = zeros_beside(y, zero)",
            *_stores(source, "tangent", [], 1),
            "    return result",
        )
    )
