"""Attention, positional and rotary embeddings in NumPy, for real and for complex numbers; only descriptions are ours.

All functions are analytic, so that a derivative is the imaginary part of the function of x + h i dx, as the other
references have it. A pair of elements that is turned is therefore no complex number here.
"""

from typing import Any

import numpy as np

from tests.references.reference import MASK, philox

ATTENDED = 6
KINDS = ("SelfAttention", "PositionalEmbedding", "RotaryEmbedding")


def applied(layer: Any, p: Any, x: Any, factors: Any = 1.0) -> Any:
    """Return the output (B, L, C) of a layer; `factors` are those of dropout, (B, heads, L, L)."""
    kind = type(layer).__name__
    if kind == "PositionalEmbedding":
        return x + p["weight"][: x.shape[1]]
    if kind == "RotaryEmbedding":
        return joined(turned(split(x, layer.heads), layer.base))
    return self_attention(layer, p, x, factors)


def self_attention(layer: Any, p: Any, x: Any, factors: Any) -> Any:
    heads, groups = layer.heads, layer.key_heads or layer.heads
    size = layer.size or x.shape[-1] // heads
    product = split(x @ p["weight"] + p.get("bias", 0.0), heads + 2 * groups)
    q, k, v = product[:, :heads], product[:, heads : heads + groups], product[:, heads + groups :]
    if layer.rotary is not None:
        q, k = turned(q, layer.rotary.base), turned(k, layer.rotary.base)
    q, k, v = q, *(np.repeat(part, heads // groups, axis=1) for part in (k, v))
    scores = (layer.scale or size**-0.5) * np.einsum("bhic,bhjc->bhij", q, k)
    seen = np.ones(scores.shape, bool)
    if layer.causal:
        seen &= np.tri(x.shape[1], dtype=bool)
    if layer.mask is not None:
        mask = np.asarray(layer.mask.array)
        seen &= mask if mask.dtype == bool else mask > -np.inf
        scores = scores if mask.dtype == bool else scores + np.where(mask > -np.inf, mask, 0)
    mean = np.einsum("bhij,bhjc->bhic", softmax(scores, seen) * factors, v)
    return joined(mean) @ p["output"] + p.get("output_bias", 0.0)


def softmax(scores: Any, seen: Any) -> Any:
    """Return the softmax of what is seen; a row of which nothing is seen has zeros."""
    top = np.where(seen, scores.real, -np.inf).max(-1, keepdims=True)
    exponentials = np.where(seen, np.exp(np.where(seen, scores - np.where(top > -np.inf, top, 0), 0)), 0)
    total = exponentials.sum(-1, keepdims=True)
    return exponentials / np.where(seen.any(-1, keepdims=True), total, 1)


def split(x: Any, heads: int) -> Any:
    """Return (B, L, heads d) as (B, heads, L, d)."""
    return x.reshape(*x.shape[:2], heads, -1).transpose(0, 2, 1, 3)


def joined(x: Any) -> Any:
    return x.transpose(0, 2, 1, 3).reshape(x.shape[0], x.shape[2], -1)


def turned(x: Any, base: float) -> Any:
    """Return (B, heads, L, d) with element c < d/2 and element c + d/2 turned by the angle l base^(-2 c / d)."""
    length, size = x.shape[2:]
    low, high = x[..., : size // 2], x[..., size // 2 :]
    angles = np.arange(length)[:, None] / base ** (2 * np.arange(size // 2) / size)
    cosine, sine = np.cos(angles), np.sin(angles)
    return np.concatenate([cosine * low - sine * high, sine * low + cosine * high], -1)


def factors(layer: Any, index: int, batch: int, length: int, seed: int, step: int) -> Any:
    """Return what dropout multiplies probabilities by, (B, heads, L, L), in layer number `index` of a model.

    The layout of the counter stands in ``fgnumba.kernels.ops.attention``; this is a second reading of it.
    """
    found = np.empty((batch, layer.heads, length, length))
    for i, head, query, key in np.ndindex(found.shape):
        place = (
            query % 2**14 << 18 | key // 4,
            ATTENDED << 24 | i,
            query >> 14 << 22 | head << 12 | index,
            step,
        )
        word = philox(place, (seed & MASK, seed >> 32))[key % 4]
        found[i, head, query, key] = word >= round(layer.dropout * 2**32)
    return found / (1 - layer.dropout)
