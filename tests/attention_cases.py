"""Random cases of attention: shapes, masks, dropout, grouped heads, which tangents there are."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.references import attention_reference

# Lengths share a few heights of tiles, so that few are compiled.
QUERIES = (1, 2, 13, 13, 26, 26, 37, 37, 64, 150)
KEYS = (1, 2, 3, 13, 31, 32, 33, 64, 65, 150)
SIZES = (1, 2, 3, 5, 8, 16, 17, 31, 32, 33, 47, 64, 65, 80, 97, 127, 128, 131, 251, 256)
MASKS = ("none", "none", "boolean", "added", "nothing")


@dataclass(frozen=True)
class Case:
    """Arguments of ``attention_jvp``, and what a reference needs beside them."""

    operands: tuple[Any, ...]
    tangents: tuple[Any, ...]
    options: dict[str, Any]
    scale: float
    seen: Any
    added: Any
    factors: Any

    def expected(self):
        """Return y, dy, their sizes and logarithms in float64."""
        tangents = tuple(None if x is None else wide(x) for x in self.tangents)
        q, k, v = (wide(x) for x in self.operands)
        return attention_reference.attention_jvp(
            q, k, v, tangents, self.scale, self.seen, self.added, self.factors
        )


def wide(array):
    return np.asarray(array, np.float64)


def case(seed, dtype):
    """Return case number `seed`, with an axis of directions."""
    rng = np.random.default_rng(seed)
    batch, groups, each = (int(rng.choice(n)) for n in ([1, 2], [1, 2], [1, 1, 2, 3]))
    heads, queries, keys = groups * each, int(rng.choice(QUERIES)), int(rng.choice(KEYS))
    count = int(rng.choice([1, 1, 1, 1, 2, 3] if queries * keys > 1000 else [1, 1, 2, 3, 9]))
    size = int(rng.choice(SIZES))
    value_size = size if rng.random() < 0.7 else int(rng.choice(SIZES))
    q, k, v = (
        rng.standard_normal(shape).astype(dtype)
        for shape in (
            (batch, heads, queries, size),
            (batch, groups, keys, size),
            (batch, groups, keys, value_size),
        )
    )
    absent = int(rng.integers(5)), int(rng.integers(8))  # each of three in turn, sometimes two of them
    tangents = tuple(
        None if number in absent else rng.standard_normal((count, *one.shape)).astype(dtype)
        for number, one in enumerate((q, k, v))
    )
    options: dict[str, Any] = {"causal": bool(rng.random() < 0.5)}
    shape = (batch, heads, queries, keys)
    seen, added = np.ones(shape, bool), np.zeros(shape)
    kind = MASKS[int(rng.integers(len(MASKS)))]
    axes = (*(n if rng.random() < 0.6 else 1 for n in shape[:2]), queries, keys)
    if kind != "none":
        seen = rng.random(axes) < (0 if kind == "nothing" else 0.7)
        options["mask"] = seen
    if kind == "added":
        bias = rng.standard_normal(axes).astype(dtype)
        bias[~seen] = -np.inf
        options["mask"] = bias
        added = np.where(seen, wide(bias), 0)
    seen, added = np.broadcast_to(seen, shape), np.broadcast_to(added, shape)
    if options["causal"]:
        seen = seen & (np.arange(keys) <= np.arange(queries)[:, None] + keys - queries)
    rate = float(rng.choice([0, 0, 0.3]))
    if rate:
        options |= {"dropout": rate, "seed": int(rng.integers(2**63))}
    if rng.random() < 0.3:
        options["scale"] = float(rng.normal()) / size**0.5
    scale = options.get("scale", size**-0.5)
    factors = attention_reference.kept(shape, rate, options.get("seed", 0))
    return Case((q, k, v), tangents, options, scale, seen, added, factors)
