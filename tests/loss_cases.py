"""Losses of extreme outputs in float64, for tests on every device; they share no code with the library."""

from typing import Any

import numpy as np
from scipy import special

MOST = float(np.finfo(np.float32).max)

LOGITS = {
    "equal": [0.3] * 7,
    "a common offset": [1e7, 1e7 + 1, 1e7 + 3, 1e7 - 5],
    "of both ends": [1e38, -1e38, 0.0, 1e38],
    "as far apart as can be": [MOST, -MOST, 0.0],
    "one class": [3.0],
    "one class, huge": [-3e38],
    "one is minus infinity": [-np.inf, 0.0, 1.0, 2.0],
    "all are minus infinity": [-np.inf] * 3,
    "one is infinite": [0.0, 1.0, np.inf],
    "two are infinite": [np.inf, 0.0, np.inf],
    "infinite of both signs": [np.inf, -np.inf, 1.0],
    "NaN first": [np.nan, 0.0, 1.0],
    "NaN last": [0.0, 1.0, np.nan],
    "NaN beside infinity": [np.inf, np.nan, 0.0],
}


def cross_entropy(z: Any, dz: Any, target: Any) -> tuple[float, float, Any]:
    """Return loss, derivative and residual of one example's logits."""
    z, dz = z.astype(np.float64), dz.astype(np.float64)
    with np.errstate(all="ignore"):
        shifted = z - z.max()
        p = special.softmax(shifted) if np.isfinite(shifted.max()) else np.full(z.shape, np.nan)
        loss = float(special.logsumexp(shifted) - shifted[target]) if np.isfinite(p).all() else np.nan
    residual = p.copy()
    # 1 - p of the target, from the others: without cancellation.
    residual[target] = -np.delete(p, target).sum() if np.isfinite(p).all() else np.nan
    return loss, float((residual * dz).sum()), residual


def squared(z: Any, dz: Any, y: Any) -> tuple[float, Any, Any]:
    """Return loss, derivatives (T,) and residual of outputs (B, N)."""
    difference = z.astype(np.float64) - y
    derivatives = 2 * (difference * dz.astype(np.float64)).mean(axis=(1, 2))
    return float((difference**2).mean()), derivatives, 2 * difference / z.shape[1]


def binary(z: Any, dz: Any, y: Any) -> tuple[float, Any, Any]:
    """Return loss, derivatives (T,) and residual of outputs (B, N) with labels from 0 to 1."""
    z, y = z.astype(np.float64), y.astype(np.float64)
    slope = (1 - y) * special.expit(z) - y * special.expit(-z)
    # The larger of the two terms has no logarithm of a small number: nothing cancels.
    losses = (1 - y) * np.logaddexp(0, z) + y * np.logaddexp(0, -z)
    return float(losses.mean()), (slope * dz.astype(np.float64)).mean(axis=(1, 2)), slope / z.shape[1]


def huber(z: Any, dz: Any, y: Any, delta: float) -> tuple[float, Any, Any]:
    """Return loss, derivatives (T,) and residual of outputs (B, N)."""
    difference = z.astype(np.float64) - y
    losses, slope = special.huber(delta, difference), np.clip(difference, -delta, delta)
    return float(losses.mean()), (slope * dz.astype(np.float64)).mean(axis=(1, 2)), slope / z.shape[1]


def weighted_cross_entropy(z: Any, dz: Any, y: Any, smoothing: float, weights: Any) -> tuple[float, Any, Any]:
    """Return loss, derivatives (T,) and residual of logits (B, C), with a weight for each example."""
    z, dz = z.astype(np.float64), dz.astype(np.float64)
    batch, classes = z.shape
    q = np.full(z.shape, smoothing / classes)
    q[np.arange(batch), y] += 1 - smoothing
    shifted = z - z.max(axis=1, keepdims=True)
    losses = special.logsumexp(shifted, axis=1) - (q * shifted).sum(axis=1)
    residual = special.softmax(z, axis=1) - smoothing / classes
    # The target's entry from the others: without cancellation.
    residual[np.arange(batch), y] = 0
    residual[np.arange(batch), y] = -residual.sum(axis=1)
    residual *= np.asarray(weights, np.float64)[:, None]
    return float(np.mean(weights * losses)), (residual * dz).sum(axis=2).mean(axis=1), residual
