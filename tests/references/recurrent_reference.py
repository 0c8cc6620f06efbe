"""Layers of sequences and RMS normalisation in float64 NumPy; only the layers' descriptions are the library's.

All functions are analytic, so that a derivative is the imaginary part of the function of x + 1e-20 i dx: there is no
difference of two numbers, and so no cancellation. Complex numbers of a layer are pairs of real ones.
"""

from typing import Any

import numpy as np

from tests.references import attention_layers as attention

STEP = 1e-20


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def fed(layer: Any, p: Any, x: Any) -> Any:
    """Return x W + b of all positions: of symbols, rows of W."""
    product = p["weight"][x.real.astype(int)] if layer.symbols is not None else x @ p["weight"]
    return product + p.get("bias", 0.0)


def elementwise_lstm(layer: Any, p: Any, x: Any, state: Any) -> tuple[Any, Any]:
    units, (c,), rows = layer.units, state, []
    pz, pf = np.split(fed(layer, p, x), 2, axis=-1)
    wz, wf = p["recurrent"][:units], p["recurrent"][units:]
    for position in range(pz.shape[1]):
        z, f = np.tanh(pz[:, position] + wz * c), sigmoid(pf[:, position] + wf * c)
        c = f * c + (1 - f) * z
        rows.append(c)
    return rows, (c,)


def min_gru(layer: Any, p: Any, x: Any, state: Any) -> tuple[Any, Any]:
    (h,), rows = state, []
    candidate, pz = np.split(fed(layer, p, x), 2, axis=-1)
    for position in range(pz.shape[1]):
        z = sigmoid(pz[:, position])
        h = (1 - z) * h + z * candidate[:, position]
        rows.append(h)
    return rows, (h,)


def linear_recurrent_unit(layer: Any, p: Any, x: Any, state: Any) -> tuple[Any, Any]:
    size, rows = np.exp(-np.exp(p["nu"])), []
    gamma = np.sqrt(1 - size**2)
    u = fed(layer, p, x)
    if not layer.complex:
        (h,) = state
        for position in range(u.shape[1]):
            h = size * h + gamma * u[:, position]
            rows.append(h)
        return rows, (h,)
    re, im = size * np.cos(p["theta"]), size * np.sin(p["theta"])
    (h, g), (a, b) = state, np.split(u, 2, axis=-1)
    for position in range(u.shape[1]):
        h, g = re * h - im * g + gamma * a[:, position], re * g + im * h + gamma * b[:, position]
        rows.append(np.concatenate([h, g], axis=-1))
    return rows, (h, g)


def lstm(layer: Any, p: Any, x: Any, state: Any) -> tuple[Any, Any]:
    (h, c), rows = state, []
    product = fed(layer, p, x)
    for position in range(product.shape[1]):
        i, f, g, o = np.split(product[:, position] + h @ p["recurrent"], 4, axis=-1)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        rows.append(h)
    return rows, (h, c)


def gru(layer: Any, p: Any, x: Any, state: Any) -> tuple[Any, Any]:
    (h,), rows = state, []
    product = fed(layer, p, x)
    for position in range(product.shape[1]):
        pr, pz, pn = np.split(product[:, position], 3, axis=-1)
        r_part, z_part, n_part = np.split(h @ p["recurrent"], 3, axis=-1)
        r, z = sigmoid(pr + r_part), sigmoid(pz + z_part)
        n = np.tanh(pn + r * (n_part + p["recurrent_bias"]))
        h = (1 - z) * n + z * h
        rows.append(h)
    return rows, (h,)


SCANS = {
    "ElementwiseLSTM": (elementwise_lstm, 1),
    "MinGRU": (min_gru, 1),
    "LinearRecurrentUnit": (linear_recurrent_unit, 2),
    "LSTM": (lstm, 2),
    "GRU": (gru, 1),
}
"""A layer's function and the number of vectors of its state, by the name of its class."""

KINDS = (*SCANS, *attention.KINDS, "Embedding", "RMSNorm")


def states_of(layer: Any) -> int:
    """Return the number of vectors of a layer's state."""
    number = SCANS[type(layer).__name__][1]
    return 1 if number == 2 and not getattr(layer, "complex", True) else number


def scanned(layer: Any, p: Any, x: Any, state: Any = None) -> tuple[Any, Any]:
    """Return the outputs (B, L, ...) of a recurrent layer, and its last state, from `state` or zeros on."""
    zeros = (np.zeros((len(x), layer.units)),) * states_of(layer)
    rows, last = SCANS[type(layer).__name__][0](layer, p, x, state or zeros)
    return np.stack(rows, axis=1), last


def applied(layer: Any, p: Any, x: Any, factors: Any = 1.0) -> Any:
    """Return the output of a recurrent layer from zeros on, of an embedding, of attention, or of RMS normalisation."""
    kind = type(layer).__name__
    if kind in attention.KINDS:
        return attention.applied(layer, p, x, factors)
    if kind == "Embedding":
        return p["weight"][x.real.astype(int)]
    if kind == "RMSNorm":
        return p.get("scale", 1.0) * x / np.sqrt(np.mean(x**2, -1, keepdims=True) + layer.epsilon)
    return scanned(layer, p, x)[0]


def dual(layer: Any, p: Any, v: Any, x: Any, dx: Any, factors: Any = 1.0) -> tuple[Any, Any]:
    """Return y and its tangents (T, ...), from parameters p and x, and their tangents v and dx (T, ...)."""
    moved = [
        applied(layer, {name: p[name] + STEP * 1j * v[name][t] for name in p}, x + STEP * 1j * dx[t], factors)
        for t in range(len(dx))
    ]
    return applied(layer, p, x, factors), np.stack([y.imag / STEP for y in moved])
