"""Optimisers on a GPU: one pass over a parameter, its stored gradient and its moments.

The update rules are those of ``cpu``. Nothing is written where ``result.finite`` is 0.
"""

import math

import numpy as np

from fgnumba.kernels.cuda.kernel import device_function, kernel
from fgnumba.kernels.cuda.layout import THREADS, element, elementwise
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.primitives import (
    Address,
    Floats,
    Size,
    block_x,
    divide,
    load_f32x4,
    load_f64,
    load_i64,
    shared,
    store_f32x4,
    store_f64,
    thread,
    zeros,
)
from fgnumba.kernels.cuda.program import Launch, Operation
from fgnumba.kernels.cuda.sums import SLOT, block_sum
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.ops.optimizer import (
    ADAM,
    AVERAGE,
    BALL_L2,
    BALL_LINF,
    CORRECT,
    MOMENTUM,
    NESTEROV,
    RATES,
    SGD,
)
from fgnumba.kernels.shared.loss.cuda import FINITE
from fgnumba.validation.launcher import launcher

__all__ = [
    "ADAM",
    "AVERAGE",
    "BALL_L2",
    "BALL_LINF",
    "CORRECT",
    "MOMENTUM",
    "NESTEROV",
    "RATES",
    "SGD",
    "bind",
    "bind_factor",
    "bind_squares",
    "square_sums",
]

BLOCK = 4096
"""Number of elements whose squares a block of threads adds up."""

_LINES = BLOCK // PANEL
_QUADS = PANEL // 4

_OFFSETS = {name: offset for name, (_, offset, *_) in (RATES.fields or {}).items()}
LEARNING_RATE, MOMENTUM_RATE = _OFFSETS["learning_rate"], _OFFSETS["momentum"]
"""Bytes from the beginning of a ``RATES`` to each of its fields."""
_BETA2, _EPSILON = _OFFSETS["beta2"], _OFFSETS["epsilon"]
_WEIGHT_DECAY, _DECOUPLED_DECAY = _OFFSETS["weight_decay"], _OFFSETS["decoupled_decay"]
_CORRECTION, _CORRECTION2 = _OFFSETS["correction"], _OFFSETS["correction2"]
_RADIUS, _CLIP_NORM, _FACTOR, _NORM = (_OFFSETS[name] for name in ("radius", "clip_norm", "factor", "norm"))

_ZERO, _ONE = np.float32(0), np.float32(1)


@launcher
def bind(
    threads: int,
    *,
    theta: DeviceArray,
    gradient: DeviceArray,
    rule: int,
    rates: DeviceArray,
    result: DeviceArray,
    first_moment: DeviceArray | None = None,
    second_moment: DeviceArray | None = None,
) -> Operation:
    """Bind the update of one parameter, as ``cpu.bind`` does.

    Parameters
    ----------
    threads : int
        Not used.
    theta : DeviceArray
        The parameter, packed, updated.
    gradient : DeviceArray
        Its gradient, packed alike.
    rule : int
        The optimiser's rule, one of the numbers of ``cpu``.
    rates : DeviceArray
        (1,) ``RATES``, read when the operation runs.
    result : DeviceArray
        (1,) ``loss.RESULT``.
    first_moment, second_moment : DeviceArray or None
        Moments, packed alike and updated, where the rule has them.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads each array that the rule names once, writes all but the gradient once; four elements a thread.
    """
    arguments = {
        "theta": theta,
        "gradient": gradient,
        "first_moment": address(first_moment),
        "second_moment": address(second_moment),
        "n": theta.size // 4,
        "rule": rule,
        "rates": rates,
        "result": result,
    }
    keeps = (theta, gradient, first_moment, second_moment, rates, result)
    return Operation("optimizer", (elementwise(_update, theta.size // 4, arguments),), keeps=keeps)


@device_function
def _rate(rates: int, field: int) -> np.float32:
    return np.float32(load_f64(rates + field))


@device_function
def _moved(
    rule: int, rates: int, theta: np.float32, g: np.float32, m: np.float32, v: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """Return θ, m and v after a step."""
    rate, mu = _rate(rates, LEARNING_RATE), _rate(rates, MOMENTUM_RATE)
    step = _rate(rates, _FACTOR) * g + _rate(rates, _WEIGHT_DECAY) * theta
    if rule == SGD:
        theta = theta - rate * step
    elif rule == MOMENTUM:
        m = mu * m + step
        theta = theta - rate * m
    elif rule == NESTEROV:
        m = mu * m + step
        theta = theta - rate * (step + mu * m)
    elif rule == ADAM:
        # 1 - β in float64: of a β near 1, float32 leaves few digits.
        rest = np.float32(np.float64(1) - load_f64(rates + MOMENTUM_RATE))
        rest2 = np.float32(np.float64(1) - load_f64(rates + _BETA2))
        m = mu * m + rest * step
        v = _rate(rates, _BETA2) * v + rest2 * step * step
        size = np.float32(math.sqrt(v)) / np.float32(math.sqrt(_rate(rates, _CORRECTION2)))
        shrink = rate * _rate(rates, _DECOUPLED_DECAY)
        move = rate / _rate(rates, _CORRECTION) * m / (size + _rate(rates, _EPSILON))
        theta = theta - (move + shrink * theta)
    elif rule == AVERAGE:
        m = m + (_ONE - mu) * (g - m)
    elif rule == CORRECT:
        rise = (_ONE - mu) * theta
        theta = theta + m
        m = m + rise
    elif rule == BALL_L2:
        theta = theta - rate * (_rate(rates, _FACTOR) * m + theta)
    else:
        sign = _ONE if m > _ZERO else (-_ONE if m < _ZERO else _ZERO)
        theta = theta - rate * (_rate(rates, _RADIUS) * sign + theta)
    return theta, m, v


@kernel("optimizer")
def _update(
    theta: Address,
    gradient: Address,
    first_moment: Address,
    second_moment: Address,
    n: Size,
    rule: Size,
    rates: Address,
    result: Address,
) -> None:
    e = element()
    if e >= n or load_i64(result + FINITE) == 0:
        return
    at = 16 * e
    x, g, m, v = zeros(4), zeros(4), zeros(4), zeros(4)
    if rule != AVERAGE:
        x = load_f32x4(theta + at)
    if rule < CORRECT:
        g = load_f32x4(gradient + at)
    if rule != SGD:
        m = load_f32x4(first_moment + at)
    if rule == ADAM:
        v = load_f32x4(second_moment + at)
    a = _moved(rule, rates, x[0], g[0], m[0], v[0])
    b = _moved(rule, rates, x[1], g[1], m[1], v[1])
    c = _moved(rule, rates, x[2], g[2], m[2], v[2])
    d = _moved(rule, rates, x[3], g[3], m[3], v[3])
    if rule != AVERAGE:
        store_f32x4(theta + at, (a[0], b[0], c[0], d[0]))
    if rule != SGD and rule < BALL_L2:
        store_f32x4(first_moment + at, (a[1], b[1], c[1], d[1]))
    if rule == ADAM:
        store_f32x4(second_moment + at, (a[2], b[2], c[2], d[2]))


def square_sums(size: int) -> int:
    """Return the number of sums that :func:`bind_squares` writes for an array of `size` elements."""
    return -(-size // BLOCK)


@launcher
def bind_squares(
    threads: int,
    *,
    values: DeviceArray,
    columns: int,
    groups: int,
    squares: DeviceArray,
) -> Operation:
    """Bind the sums of an array's squares, as ``cpu.bind_squares`` does.

    Parameters
    ----------
    threads : int
        Not used.
    values : DeviceArray
        The array, packed: (panels, K, 32) or (panels * 32,).
    columns : int
        Number of columns of the canonical array N; those of the padding count as 0.
    groups : int
        Number of groups of the columns.
    squares : DeviceArray
        (``square_sums(values.size)``,) float64, written.

    Returns
    -------
    Operation
        The launch.

    Notes
    -----
    Cost: reads the values once.
    """
    rows = 1 if values.ndim == 1 else values.shape[1]
    panels = values.size // (rows * PANEL)
    assert len(squares) == square_sums(values.size)
    arguments = {
        "values": values,
        "lines": panels * rows,
        "rows": rows,
        "columns": columns // groups,
        "group_panels": panels // groups,
        "squares": squares,
    }
    launch = Launch(_squares, (len(squares), 1, 1), arguments)
    return Operation("squares", (launch,), keeps=(values, squares))


@device_function
def _square(values: Floats, lanes: int) -> np.float32:
    """Return the sum of the squares of the first `lanes` of four numbers."""
    total = values[0] * values[0]
    total = total + (values[1] * values[1] if lanes > 1 else _ZERO)
    total = total + (values[2] * values[2] if lanes > 2 else _ZERO)
    return total + (values[3] * values[3] if lanes > 3 else _ZERO)


@kernel("optimizer-squares")
def _squares(
    values: Address, lines: Size, rows: Size, columns: Size, group_panels: Size, squares: Address
) -> None:
    slot = shared(SLOT)
    total = np.float64(0)
    for i in range(thread(), _LINES * _QUADS, THREADS):
        line, lane = block_x() * _LINES + i // _QUADS, i % _QUADS * 4
        if line < lines:
            panel, _ = divide(line, rows)
            _, across = divide(panel, group_panels)
            left = columns - across * PANEL - lane
            if left > 0:
                total = total + np.float64(_square(load_f32x4(values + 4 * (line * PANEL + lane)), left))
    total = block_sum(total, slot)
    if thread() == 0:
        store_f64(squares + 8 * block_x(), total)


@launcher
def bind_factor(*, squares: DeviceArray, ball: bool, rates: DeviceArray) -> Operation:
    """Bind the norm of a gradient, and the factor by which an update scales it, as ``cpu.bind_factor`` does.

    norm = √Σ squares, and factor = radius / norm for a `ball`, else min(1, clip_norm / norm).

    Parameters
    ----------
    squares : DeviceArray
        Sums of squares, float64.
    ball : bool
        Whether updates stay in a ball.
    rates : DeviceArray
        (1,) ``RATES``, whose norm and factor are written.

    Returns
    -------
    Operation
        The launch.
    """
    arguments = {"squares": squares, "size": len(squares), "ball": int(ball), "rates": rates}
    return Operation("norm", (Launch(_norm_and_factor, (1, 1, 1), arguments),), keeps=(squares, rates))


@kernel("optimizer-factor")
def _norm_and_factor(squares: Address, size: Size, ball: Size, rates: Address) -> None:
    slot = shared(SLOT)
    total = np.float64(0)
    for block in range(thread(), size, THREADS):
        total = total + load_f64(squares + 8 * block)
    norm = np.float64(math.sqrt(block_sum(total, slot)))
    if thread() == 0:
        factor = np.float64(0) if ball else np.float64(1)
        if norm > np.float64(0):
            factor = load_f64(rates + (_RADIUS if ball else _CLIP_NORM)) / norm
            if not ball and factor > np.float64(1):
                factor = np.float64(1)
        store_f64(rates + _FACTOR, factor)
        store_f64(rates + _NORM, norm)
