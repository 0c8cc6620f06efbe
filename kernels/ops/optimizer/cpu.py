"""Optimisers on the CPU: one pass over a parameter, its stored gradient g and its moments.

    SGD          θ ← θ - η g'                            g' = f g + λ θ, where the factor f clips g
    MOMENTUM     m ← μ m + g',  θ ← θ - η m
    NESTEROV     m ← μ m + g',  θ ← θ - η (g' + μ m)
    ADAM         m ← β₁ m + (1 - β₁) g',  v ← β₂ v + (1 - β₂) g'²,
                 θ ← θ - η (m / c₁) / (√(v / c₂) + ε) - η λ' θ      c_k = 1 - β_kⁱ
    AVERAGE      m ← m + (1 - β₁) (g - m)
    CORRECT      θ ← θ + m,  m ← m + (1 - β₁) (θ - m)    θ: a gradient without m, the control variate put back here
    BALL_L2      θ ← θ - η (f m + θ)                     f = radius / ‖m‖: Frank–Wolfe
    BALL_LINF    θ ← θ - η (radius sign(m) + θ)

Nothing is written if ``result.finite`` is 0.

Sources: B. T. Polyak, 1964; Y. Nesterov, 1983, as in I. Sutskever et al., ICML 2013; D. P. Kingma, J. Ba, arXiv
1412.6980; I. Loshchilov, F. Hutter, arXiv 1711.05101; M. Frank, P. Wolfe, 1956.
"""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.machine.work import parts_for, split
from fgnumba.kernels.ops.optimizer import ADAM, AVERAGE, BALL_L2, CORRECT, MOMENTUM, NESTEROV, RATES, SGD
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.validation.launcher import launcher

BLOCK = 16 * 1024
"""Elements whose squares one thread sums, whatever the number of threads."""

_UPDATE = record("theta", "gradient", "first_moment", "second_moment", "size", "rule", "rates", "result")
_SQUARES = record("values", "rows", "panels", "columns", "group_panels", "squares")
_FACTOR = record("squares", "size", "ball", "rates")


@launcher
def bind(
    threads: int,
    *,
    theta: npt.NDArray[np.float32],
    gradient: npt.NDArray[np.float32],
    rule: int,
    rates: npt.NDArray[Any],
    result: npt.NDArray[Any],
    first_moment: npt.NDArray[np.float32] | None = None,
    second_moment: npt.NDArray[np.float32] | None = None,
) -> Operation:
    """Bind the update of one parameter.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    theta : array, packed, float32
        The parameter, updated in place.
    gradient : array, packed like theta, float32
        g.
    rule : int
        SGD, MOMENTUM, NESTEROV, ADAM, AVERAGE, CORRECT, BALL_L2 or BALL_LINF.
    rates : array, (1,) ``RATES``
        Learning rate and other numbers of the rule.
    result : array, (1,) ``loss.RESULT``
        Nothing is updated unless its `finite` is 1.
    first_moment, second_moment : array, packed like theta, float32, or None
        m and v. Those that the rule uses are required.

    Notes
    -----
    Cost: reads each array once, and writes all but the gradient once.
    """
    fields = {
        "theta": address(theta),
        "gradient": address(gradient),
        "first_moment": address(first_moment),
        "second_moment": address(second_moment),
        "size": theta.size,
        "rule": rule,
        "rates": address(rates),
        "result": address(result),
    }
    keeps = (theta, gradient, first_moment, second_moment, rates, result)
    parts = parts_for(theta.size * 8, -(-theta.size // PANEL), threads)
    return Operation("optimizer", _update_entry(), filled(_UPDATE, fields), parts, keeps=keeps)


@cache
def _update_entry() -> int:
    return kernel("optimizer", _update, 3)


def _update(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _UPDATE), 1)[0]
    if carray(pointer(a.result, RESULT), 1)[0].finite == 0:
        return
    r = carray(pointer(a.rates, RATES), 1)[0]
    begin, end = split(a.size // PANEL, parts, part)
    n, at = (end - begin) * PANEL, begin * PANEL * 4
    theta = carray(pointer(a.theta + at, np.float32), n)
    g = carray(pointer(a.gradient + at, np.float32), n)
    m = carray(pointer(a.first_moment + at, np.float32), n)
    rate, factor, decay = np.float32(r.learning_rate), np.float32(r.factor), np.float32(r.weight_decay)
    mu, radius = np.float32(r.momentum), np.float32(r.radius)
    if a.rule == SGD:
        for i in range(n):
            theta[i] -= rate * (factor * g[i] + decay * theta[i])
    elif a.rule == MOMENTUM:
        for i in range(n):
            m[i] = mu * m[i] + (factor * g[i] + decay * theta[i])
            theta[i] -= rate * m[i]
    elif a.rule == NESTEROV:
        for i in range(n):
            step = factor * g[i] + decay * theta[i]
            m[i] = mu * m[i] + step
            theta[i] -= rate * (step + mu * m[i])
    elif a.rule == ADAM:
        _adam(a, r, at, n, theta, g, m)
    elif a.rule == AVERAGE:
        rest = np.float32(1) - mu
        for i in range(n):
            m[i] += rest * (g[i] - m[i])
    elif a.rule == CORRECT:
        rest = np.float32(1) - mu
        for i in range(n):
            rise = rest * theta[i]
            theta[i] += m[i]
            m[i] += rise
    elif a.rule == BALL_L2:
        for i in range(n):
            theta[i] -= rate * (factor * m[i] + theta[i])
    else:
        for i in range(n):
            sign = np.float32(m[i] > np.float32(0)) - np.float32(m[i] < np.float32(0))
            theta[i] -= rate * (radius * sign + theta[i])


@register_jitable
def _adam(a: Any, r: Any, at: int, n: int, theta: Any, g: Any, m: Any) -> None:
    v = carray(pointer(a.second_moment + at, np.float32), n)
    factor, decay = np.float32(r.factor), np.float32(r.weight_decay)
    beta, beta2 = np.float32(r.momentum), np.float32(r.beta2)
    rest, rest2 = np.float32(1.0 - r.momentum), np.float32(1.0 - r.beta2)
    rate = np.float32(r.learning_rate / r.correction)
    inverse = np.float32(1.0 / np.sqrt(r.correction2))
    epsilon, shrink = np.float32(r.epsilon), np.float32(r.learning_rate * r.decoupled_decay)
    for i in range(n):
        step = factor * g[i] + decay * theta[i]
        m[i] = beta * m[i] + rest * step
        v[i] = beta2 * v[i] + rest2 * step * step
        theta[i] -= rate * m[i] / (np.sqrt(v[i]) * inverse + epsilon) + shrink * theta[i]


def square_sums(size: int) -> int:
    """Return how many sums :func:`bind_squares` writes for an array of `size` elements."""
    return -(-size // BLOCK)


@launcher
def bind_squares(
    threads: int,
    *,
    values: npt.NDArray[np.float32],
    columns: int,
    groups: int,
    squares: npt.NDArray[np.float64],
) -> Operation:
    """Bind the sums of an array's squares, block by block, without the padding of its panels.

    Parameters
    ----------
    threads : int
        Number of threads that may share the work.
    values : array, (panels, K, PANEL) or (panels * PANEL,) float32
        The packed array.
    columns : int
        N, its number of columns without padding.
    groups : int
        Number of groups that the columns are divided into.
    squares : array, (``square_sums(values.size)``,) float64
        Written: the sums.

    Notes
    -----
    Cost: reads the values once. The sums do not depend on the number of threads.
    """
    rows = 1 if values.ndim == 1 else values.shape[1]
    panels = values.size // (rows * PANEL)
    fields = {
        "values": address(values),
        "rows": rows,
        "panels": panels,
        "columns": columns // groups,
        "group_panels": panels // groups,
        "squares": address(squares),
    }
    parts = parts_for(values.size * 2, len(squares), threads)
    return Operation("squares", _squares_entry(), filled(_SQUARES, fields), parts, keeps=(values, squares))


@cache
def _squares_entry() -> int:
    return kernel("optimizer-squares", _squares, 3)


def _squares(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _SQUARES), 1)[0]
    lines = a.panels * a.rows
    a_block = BLOCK // PANEL
    blocks = (lines + a_block - 1) // a_block
    begin, end = split(blocks, parts, part)
    values = carray(pointer(a.values, np.float32), (lines, PANEL))
    squares = carray(pointer(a.squares, np.float64), blocks)
    for block in range(begin, end):
        total = np.float64(0)
        for line in range(block * a_block, min(lines, (block + 1) * a_block)):
            lanes = min(PANEL, a.columns - line // a.rows % a.group_panels * PANEL)
            row = np.float32(0)
            for lane in range(lanes):
                row += values[line, lane] * values[line, lane]
            total += np.float64(row)
        squares[block] = total


@launcher
def bind_factor(*, squares: npt.NDArray[np.float64], ball: bool, rates: npt.NDArray[Any]) -> Operation:
    """Bind norm = √Σ squares, and the factor that follows from it.

    Parameters
    ----------
    squares : array, float64
        The sums of squares that :func:`bind_squares` wrote.
    ball : bool
        True: factor = radius / norm. False: factor = min(1, clip_norm / norm).
    rates : array, (1,) ``RATES``
        `radius` or `clip_norm` is read, and `norm` and `factor` are written.
    """
    fields = {"squares": address(squares), "size": len(squares), "ball": ball, "rates": address(rates)}
    return Operation("norm", _factor_entry(), filled(_FACTOR, fields), keeps=(squares, rates))


@cache
def _factor_entry() -> int:
    return kernel("optimizer-factor", _factor, 3)


def _factor(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _FACTOR), 1)[0]
    squares = carray(pointer(a.squares, np.float64), a.size)
    total = np.float64(0)
    for block in range(a.size):
        total += squares[block]
    norm = np.sqrt(total)
    rates = carray(pointer(a.rates, RATES), 1)
    rates[0].norm = norm
    if a.ball:
        rates[0].factor = rates[0].radius / norm if norm > 0 else 0.0
    else:
        rates[0].factor = min(1.0, rates[0].clip_norm / norm) if norm > 0 else 1.0
