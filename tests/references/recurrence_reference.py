"""Recurrences in float64 NumPy, position by position, and their tangents by complex steps.

Each function takes pre-activations p (B, L, G, H), vectors of parameters, and a state before, a tuple of (B, H). It
returns outputs (B, L, parts, H), gates (B, L, G, H) and the state after. All of it is analytic, so that the imaginary
part of f(x + i h v) is h times the derivative along v, without a difference.
"""

from typing import Any

import numpy as np

STEP = 1e-30


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def _through(p: Any, state: tuple[Any, ...], step: Any) -> tuple[Any, Any, tuple[Any, ...]]:
    outputs, gates = [], []
    for position in range(p.shape[1]):
        out, gate, state = step(position, p[:, position], state)
        outputs.append(np.stack(out, axis=1))
        gates.append(np.stack(gate, axis=1))
    return np.stack(outputs, axis=1), np.stack(gates, axis=1), state


def elementwise_lstm(p: Any, vectors: tuple[Any, ...], state: tuple[Any, ...]) -> Any:
    """Return outputs, gates and the state after; the vector is [wz | wf], (2, H)."""
    (w,) = vectors

    def step(position, now, before):
        (c,) = before
        z, f = np.tanh(now[:, 0] + w[0] * c), sigmoid(now[:, 1] + w[1] * c)
        c = f * c + (1 - f) * z
        return (c,), (z, f), (c,)

    return _through(p, state, step)


def min_gru(p: Any, vectors: tuple[Any, ...], state: tuple[Any, ...]) -> Any:
    """Return outputs, gates and the state after; there are no vectors."""

    def step(position, now, before):
        (h,) = before
        z = sigmoid(now[:, 1])
        h = (1 - z) * h + z * now[:, 0]
        return (h,), (now[:, 0], z), (h,)

    return _through(p, state, step)


def linear_recurrent_unit(p: Any, vectors: tuple[Any, ...], state: tuple[Any, ...]) -> Any:
    """Return outputs, the product itself and the state after; the vectors are ν and θ, or ν alone."""
    size = np.exp(-np.exp(vectors[0]))
    gamma = np.sqrt(1 - size**2)

    def step(position, now, before):
        if len(vectors) == 1:
            (h,) = before
            h = size * h + gamma * now[:, 0]
            return (h,), (now[:, 0],), (h,)
        a, b = before
        real, imaginary = size * np.cos(vectors[1]), size * np.sin(vectors[1])
        after = (
            real * a - imaginary * b + gamma * now[:, 0],
            real * b + imaginary * a + gamma * now[:, 1],
        )
        return after, (now[:, 0], now[:, 1]), after

    return _through(p, state, step)


def lstm(p: Any, q: Any, vectors: tuple[Any, ...], state: tuple[Any, ...]) -> Any:
    """Return outputs, gates and the state after, h and c; q (B, L, 4, H) is the product with the recurrent weight."""

    def step(position, now, before):
        total = now + q[:, position]
        i, f, o = (sigmoid(total[:, gate]) for gate in (0, 1, 3))
        g = np.tanh(total[:, 2])
        c = f * before[1] + i * g
        h = o * np.tanh(c)
        return (h,), (i, f, g, o), (h, c)

    return _through(p, state, step)


def gru(p: Any, q: Any, vectors: tuple[Any, ...], state: tuple[Any, ...]) -> Any:
    """Return outputs, gates and the state after; q (B, L, 3, H) is the product of h, the vector a bias in it."""

    def step(position, now, before):
        r, z = (sigmoid(now[:, gate] + q[:, position, gate]) for gate in (0, 1))
        n = np.tanh(now[:, 2] + r * (q[:, position, 2] + vectors[0]))
        h = (1 - z) * n + z * before[0]
        return (h,), (r, z, n), (h,)

    return _through(p, state, step)


def moved(value: Any, tangent: Any) -> Any:
    """Return arguments, nested in tuples, moved by a complex step along their tangents."""
    if isinstance(value, tuple):
        return tuple(moved(*pair) for pair in zip(value, tangent, strict=True))
    return value + 1j * STEP * tangent


def derivatives(function: Any, arguments: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return the derivatives of a recurrence's outputs and of the state after, along tangents of all arguments."""
    outputs, _, state = function(*moved(arguments, tangents))
    return outputs.imag / STEP, tuple(part.imag / STEP for part in state)
