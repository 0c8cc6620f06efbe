"""Attention, its tangents and its slope in closed form, in float64."""

import numpy as np

from tests.references.reference import MASK, philox

ATTENDED = 6


def factors(shape, rate, layer, step, seed):
    """Return dropout's factors (B, H, Lq, Lk), one counter after another."""
    found = np.empty(shape)
    key = seed & MASK, seed >> 32
    for example, head, query in np.ndindex(*shape[:3]):
        for quad in range(-(-shape[3] // 4)):
            c0, c1 = (query % 2**14) << 18 | quad, ATTENDED << 24 | example
            four = philox((c0, c1, (query >> 14) << 22 | head << 12 | layer, step), key)
            kept = np.array(four)[: shape[3] - 4 * quad] >= round(rate * 2**32)
            found[example, head, query, 4 * quad : 4 * quad + 4] = kept / (1 - rate)
    return found


def _scores(q, k, scale, causal, mask):
    """Return the scores (B, H, Lq, Lk), -inf where a key is not seen."""
    scores = scale * q @ k.swapaxes(-1, -2)
    queries, keys = scores.shape[-2:]
    if mask is not None:
        added = np.where(mask, 0.0, -np.inf) if mask.dtype == np.bool_ else mask
        scores = scores + added
    if causal:
        seen = np.arange(keys) <= np.arange(queries)[:, None] + keys - queries
        scores = np.where(seen, scores, -np.inf)
    return scores


def _softmax(scores):
    """Return p, 0 in rows where no key is seen, and the logarithms of the sums of exponentials."""
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    top = np.where(top > -np.inf, top, 0.0)
    e = np.exp(scores - top)
    total = e.sum(-1, keepdims=True)
    with np.errstate(divide="ignore"):
        return e / np.where(total > 0, total, 1.0), (top + np.log(total))[..., 0]


def _repeated(x, heads):
    """Return keys or values (…, G, L, D) once for each head that reads them."""
    return np.repeat(x, heads // x.shape[-3], -3)


def attention(q, k, v, scale, causal=False, mask=None, m=1.0):
    """Return y and its tangents, and the logarithms of the sums of exponentials.

    Parameters
    ----------
    q, k, v : array, (1 + T, B, heads, L, size)
        Values and tangents.
    scale : float
        Scale of the scores.
    causal : bool
        Whether a query sees only keys up to its own, where the last query is as far as the last key.
    mask : array or None
        Broadcast to (B, H, Lq, Lk): of bool, which keys are seen; else what is added.
    m : array or float
        Dropout's factors.

    Returns
    -------
    tuple of array
        (1 + T, B, H, Lq, Dv) and (B, H, Lq).
    """
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    k, v = _repeated(k, q.shape[2]), _repeated(v, q.shape[2])
    p, log_sum_exp = _softmax(_scores(q[0], k[0], scale, causal, mask))
    y = (p * m) @ v[0]
    found = [y]
    for dq, dk, dv in zip(q[1:], k[1:], v[1:], strict=True):
        slope = p * scale * (dq @ k[0].swapaxes(-1, -2) + q[0] @ dk.swapaxes(-1, -2))
        found.append((p * m) @ dv + (slope * m) @ v[0] - y * slope.sum(-1, keepdims=True))
    return np.array(found), log_sum_exp


def gradients(q, k, v, signal, scale, causal=False, mask=None, m=1.0):
    """Return the error signals of q, k and v, (B, heads, L, size), from that of y."""
    q, k, v, signal = (np.asarray(x, np.float64) for x in (q, k, v, signal))
    heads, groups = q.shape[1], k.shape[1]
    each_k, each_v = _repeated(k, heads), _repeated(v, heads)
    p, _ = _softmax(_scores(q, each_k, scale, causal, mask))
    dp = m * (signal @ each_v.swapaxes(-1, -2))
    ds = scale * p * (dp - (p * dp).sum(-1, keepdims=True))

    def added(x):
        return x.reshape(len(x), groups, heads // groups, *x.shape[2:]).sum(2)

    dk, dv = ds.swapaxes(-1, -2) @ q, (p * m).swapaxes(-1, -2) @ signal
    return ds @ each_k, added(dk), added(dv)
