"""How a descent on a GPU updates entries of a parameter, once g is known for them; the rules are those of ``cpu``."""

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function
from fgnumba.kernels.cuda.primitives import (
    Floats,
    load_f32,
    load_f32x4,
    load_f64,
    store_f32,
    store_f32x4,
    zeros,
)
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.ops.descent import MOMENTUM, STORE
from fgnumba.kernels.ops.optimizer.cuda import LEARNING_RATE, MOMENTUM_RATE

_ZERO = np.float32(0)


@device_function
def _moved(
    rule: int, rate: np.float32, momentum: np.float32, theta: np.float32, moment: np.float32, g: np.float32
) -> tuple[np.float32, np.float32]:
    """Return an entry of θ, and its m, after a step."""
    if rule == STORE:
        return g, moment
    moment = momentum * moment + g if rule == MOMENTUM else g
    return theta - rate * moment, moment


@device_function
def _move_four(rule: int, rates: int, theta: int, moment: int, at: int, g: Floats) -> None:
    """Update four entries that lie `at` bytes from the parameter's first."""
    rate, momentum = np.float32(load_f64(rates + LEARNING_RATE)), np.float32(load_f64(rates + MOMENTUM_RATE))
    x, m = zeros(4), zeros(4)
    if rule != STORE:
        x = load_f32x4(theta + at)
    if rule == MOMENTUM:
        m = load_f32x4(moment + at)
    a = _moved(rule, rate, momentum, x[0], m[0], g[0])
    b = _moved(rule, rate, momentum, x[1], m[1], g[1])
    c = _moved(rule, rate, momentum, x[2], m[2], g[2])
    d = _moved(rule, rate, momentum, x[3], m[3], g[3])
    store_f32x4(theta + at, (a[0], b[0], c[0], d[0]))
    if rule == MOMENTUM:
        store_f32x4(moment + at, (a[1], b[1], c[1], d[1]))


@device_function
def move_rows(
    rule: int,
    rates: int,
    theta: int,
    moment: int,
    at: int,
    left: int,
    a: Floats,
    b: Floats,
    c: Floats,
    d: Floats,
) -> None:
    """Update four entries of each of four rows.

    Parameters
    ----------
    rule : int
        STORE, SGD or MOMENTUM.
    rates : int
        Address of a ``RATES``.
    theta, moment : int
        Addresses of the parameter and of its m.
    at : int
        Bytes from the parameter's first entry to the first of these.
    left : int
        Number of rows from the first of the four to the panel's end.
    a, b, c, d : floats
        g of the four entries of each row.
    """
    if left > 0:
        _move_four(rule, rates, theta, moment, at, a)
    if left > 1:
        _move_four(rule, rates, theta, moment, at + 4 * PANEL, b)
    if left > 2:
        _move_four(rule, rates, theta, moment, at + 8 * PANEL, c)
    if left > 3:
        _move_four(rule, rates, theta, moment, at + 12 * PANEL, d)


@device_function
def move_one(rule: int, rates: int, theta: int, moment: int, at: int, g: np.float32) -> None:
    """Update one entry.

    Parameters
    ----------
    rule : int
        STORE, SGD or MOMENTUM.
    rates : int
        Address of a ``RATES``.
    theta, moment : int
        Addresses of the parameter and of its m.
    at : int
        Bytes from the parameter's first entry to this one.
    g : float32
        g of the entry.
    """
    rate, momentum = np.float32(load_f64(rates + LEARNING_RATE)), np.float32(load_f64(rates + MOMENTUM_RATE))
    x, m = _ZERO, _ZERO
    if rule != STORE:
        x = load_f32(theta + at)
    if rule == MOMENTUM:
        m = load_f32(moment + at)
    x, m = _moved(rule, rate, momentum, x, m, g)
    store_f32(theta + at, x)
    if rule == MOMENTUM:
        store_f32(moment + at, m)
