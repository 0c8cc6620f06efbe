"""Attention, its JVP and its slope in float64, with the whole matrix of scores; it imports nothing of ours."""

import numpy as np

PURPOSE = 6
MASK = 0xFFFFFFFF


def philox(counter, key):
    """Return the four words of Philox4x32-10 for arrays of counters.

    Source: Salmon, Moraes, Dror, Shaw, SC 2011, doi 10.1145/2063384.2063405, section 3.
    """
    c = [np.asarray(word, np.uint64) for word in np.broadcast_arrays(*counter)]
    k = list(key)
    for _ in range(10):
        first, second = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        low, high = np.uint64(MASK), np.uint64(32)
        c = [
            (second >> high) ^ c[1] ^ np.uint64(k[0]),
            second & low,
            (first >> high) ^ c[3] ^ np.uint64(k[1]),
            first & low,
        ]
        k = [(k[0] + 0x9E3779B9) & MASK, (k[1] + 0xBB67AE85) & MASK]
    return c


def kept(shape, rate, seed, step=0, layer=0):
    """Return dropout's factors (B, H, Lq, Lk): 0 for the share `rate`, and 1 / (1 - rate)."""
    if rate == 0:
        return np.ones(shape)
    batch, heads, queries, keys = shape
    i, h, q, block = np.ix_(*(np.arange(n) for n in (batch, heads, queries, -(-keys // 4))))
    counter = (q % 2**14 << 18 | block, PURPOSE << 24 | i, q >> 14 << 22 | h << 12 | layer, np.full(1, step))
    words = np.stack(philox(counter, (seed & MASK, seed >> 32)), axis=-1).reshape(*shape[:3], -1)[..., :keys]
    return (words >= round(rate * 2**32)) / (1 - rate)


def softmax(scores, seen):
    """Return the softmax over keys that are seen; zero for a query that sees none; the sums' logarithms."""
    s = np.where(seen, scores, -np.inf)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - np.where(np.isfinite(top), top, 0))
    total = e.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        logs = (np.log(total) + top)[..., 0]
    return e / np.where(total > 0, total, 1), np.where(total[..., 0] > 0, logs, -np.inf)


def attention_jvp(q, k, v, tangents, scale, seen, added, factors):
    """Return y, dy, and for each of both the largest sum of the magnitudes of its terms.

    Parameters
    ----------
    q, k, v : (B, H, Lq, D), (B, G, Lk, D), (B, G, Lk, Dv) float64.
    tangents : three arrays (T, ...) or None.
    seen, added, factors : (B, H, Lq, Lk): what is seen, what is added to the scores, dropout's factors.
    """
    each = q.shape[1] // k.shape[1]
    k, v = np.repeat(k, each, axis=1), np.repeat(v, each, axis=1)
    dq, dk, dv = tangents
    dk, dv = (None if x is None else np.repeat(x, each, axis=2) for x in (dk, dv))
    p, logs = softmax(scale * q @ np.swapaxes(k, -1, -2) + np.where(seen, added, 0), seen)
    y, y_size = (p * factors) @ v, (p * factors) @ abs(v)
    ds, dy, dy_size = np.zeros(1), np.zeros(1), np.zeros(1)
    if dq is not None:
        ds = ds + scale * dq @ np.swapaxes(k, -1, -2)
    if dk is not None:
        ds = ds + scale * q @ np.swapaxes(dk, -1, -2)
    w = p * ds
    if dq is not None or dk is not None:
        mean = w.sum(-1, keepdims=True)
        dy = dy + (w * factors) @ v - y * mean
        dy_size = dy_size + (abs(w) * factors) @ abs(v) + y_size * abs(w).sum(-1, keepdims=True)
    if dv is not None:
        dy = dy + (p * factors) @ dv
        dy_size = dy_size + (p * factors) @ abs(dv)
    return y, dy, (y_size.max(initial=0), dy_size.max(initial=0)), logs


def gradients(q, k, v, signal, scale, seen, added, factors):
    """Return the error signals of q, k and v, and for each the largest sum of the magnitudes of its terms."""
    groups, each = k.shape[1], q.shape[1] // k.shape[1]
    wide_k, wide_v = np.repeat(k, each, axis=1), np.repeat(v, each, axis=1)
    p, _ = softmax(scale * q @ np.swapaxes(wide_k, -1, -2) + np.where(seen, added, 0), seen)
    y = (p * factors) @ wide_v
    of_p = factors * (signal @ np.swapaxes(wide_v, -1, -2))
    dots = (signal * y).sum(-1, keepdims=True)
    slopes = scale * p * (of_p - dots)
    sizes = abs(scale) * p * (abs(of_p) + (abs(signal) * abs(y)).sum(-1, keepdims=True))

    def over_groups(x):
        return x.reshape(x.shape[0], groups, each, *x.shape[2:]).sum(2)

    turned, turned_sizes = np.swapaxes(slopes, -1, -2), np.swapaxes(sizes, -1, -2)
    dropped = np.swapaxes(p * factors, -1, -2)
    found = slopes @ wide_k, over_groups(turned @ q), over_groups(dropped @ signal)
    bounds = sizes @ abs(wide_k), over_groups(turned_sizes @ abs(q)), over_groups(dropped @ abs(signal))
    return found, tuple(bound.max(initial=0) for bound in bounds)
