"""Derivatives of a program along a direction, from differences in 50 digits, and the size of its roundings.

A program is run with its inputs at x + t v for t = 0, ±h (±2h beyond the second derivative), with h = 2⁻⁴⁰ and 50
digits (80 beyond the second): central differences are then right to 1e-20 and better, far below float64's roundings.

A rounding of the program's own
-------------------------------
What error is to be expected of float64 depends on the program: where terms cancel, on their size. It is measured. The
runs at x + t v also give, for each operation's result r, the Taylor coefficients r₀ + r₁ t + r₂ t²/2 + … . A program
that computes values and derivatives side by side in float64 rounds each of them separately, by at most 2⁻⁵³ of itself.
So the program is run again with

    r  +  2⁻⁵³ (± r₀  ± r₁ t  ± r₂ t²/2 …)

in the place of each result r and of each input, with signs drawn at random, and its derivatives are taken by the same
differences. Their root-mean-square distance from the exact ones over `DRAWS` draws is *one rounding of the program's
own*, entry by entry of the result. It does not depend on the way in which the derivatives are computed: a formula that
cancels where the derivative itself does not (1 - tanh² far from 0, say) exceeds it.
"""

import math
import random
from dataclasses import dataclass

import numpy as np
from mpmath import mp

from tests.functions.exact_numbers import Number, Run, made, plain, running
from tests.functions.exact_numpy import numpy_and_math
from tests.tolerances import D

DRAWS = 8
STENCILS = {
    1: (-1, 0, 1),
    2: (-1, 0, 1),
    4: (-2, -1, 0, 1, 2),
}
LARGEST = 1e5
"""A program with a larger intermediate result is not used: what matters is cancellation, not size."""
MARGIN = 1e-4
"""Nor is one that decides by less than this: float64 might decide otherwise."""


class Unsuitable(Exception):  # noqa: N818
    """A program that is too near to a kink, a jump or a pole."""


def _digits(order):
    return 50 if order <= 2 else 80


def compile_exactly(source: str, name: str):
    """Return a program's function with exact numbers in the place of floats."""
    body = "\n".join(line for line in source.splitlines() if not line.startswith(("import ", "from ")))
    numpy, scalars = numpy_and_math()
    space = {"np": numpy, "math": scalars, "njit": lambda function: function}
    space |= {"float": lambda value: value if isinstance(value, Number) else float(value)}
    exec(compile(body, "<exact>", "exec"), space)
    return space[name]


def differences(values, h, order):
    """Return the derivatives 0 … `order` of what was sampled at the stencil's points."""
    if order <= 2:
        low, mid, high = values
        found = [mid, (high - low) / (2 * h), (high - 2 * mid + low) / (h * h)]
        return found[: order + 1]
    a, b, c, d, e = values
    first, second = (a - 8 * b + 8 * d - e) / (12 * h), (-a + 16 * b - 30 * c + 16 * d - e) / (12 * h * h)
    return [c, first, second, (e - 2 * d + 2 * b - a) / (2 * h**3), (a - 4 * b + 6 * c - 4 * d + e) / h**4]


def leaves(result) -> list:
    """Return the numbers of a result: a number, an array or a tuple of such."""
    if isinstance(result, tuple):
        return [leaf for part in result for leaf in leaves(part)]
    return [plain(entry) for entry in np.asarray(result, dtype=object).flat]


def _inputs(primal, tangent, t):
    """Return x + t v of one argument; inputs count as results, so that they are disturbed, too."""
    if tangent is None:
        return primal
    if isinstance(primal, tuple):
        return tuple(_inputs(*pair, t) for pair in zip(primal, tangent, strict=True))
    if isinstance(primal, np.ndarray):
        moved = np.empty(primal.shape, dtype=object)
        for index in np.ndindex(primal.shape):
            moved[index] = made(mp.mpf(float(primal[index])) + t * mp.mpf(float(tangent[index])))
        return moved
    return made(mp.mpf(float(primal)) + t * mp.mpf(float(tangent)))


def _evaluate(function, primals, tangents, t, run):
    with running(run):
        arguments = [_inputs(*pair, t) for pair in zip(primals, tangents, strict=True)]
        return leaves(function(*arguments))


@dataclass(frozen=True)
class Derivatives:
    """The derivatives d^k/dt^k of every number of a result.

    Parameters
    ----------
    exact : (order + 1, numbers) float64.
    rounding : (order + 1, numbers) float64: one rounding of the program's own, of each.
    margin : the least by which a decision was made.
    operations : their number.
    """

    exact: np.ndarray
    rounding: np.ndarray
    margin: float
    operations: int


def along(source: str, name: str, primals, tangents, order: int = 1, seed: int = 0) -> Derivatives:
    """Return the derivatives of a program's function along `tangents` (None: an argument that carries none).

    Raises
    ------
    Unsuitable : the program decides by a hair, or its numbers grow or have no value.
    """
    function = compile_exactly(source, name)
    points = STENCILS[order]
    with mp.workdps(_digits(order)):
        h = mp.mpf(2) ** -40
        runs = [Run() for _ in points]
        try:
            values = [
                _evaluate(function, primals, tangents, point * h, run)
                for point, run in zip(points, runs, strict=True)
            ]
        except (ZeroDivisionError, OverflowError, TypeError, ValueError) as error:
            raise Unsuitable(f"{type(error).__name__}: {error}") from error
        margin = min(run.margin for run in runs)
        if margin < MARGIN:
            raise Unsuitable(f"a decision by {float(margin):.1e}")
        traces = [run.trace for run in runs]
        if any(
            not mp.isfinite(r) or isinstance(r, mp.mpc) or abs(r) > LARGEST for r in traces[len(points) // 2]
        ):
            raise Unsuitable("numbers that are large, complex or none")
        exact = [differences(column, h, order) for column in zip(*values, strict=True)]
        scales = [differences(row, h, order) for row in zip(*traces, strict=True)]
        squares = _squares(function, (primals, tangents), points, h, exact, scales, seed)
        return Derivatives(
            np.array([[float(d) for d in entry] for entry in exact]).T,
            np.array([[math.sqrt(s / DRAWS) for s in entry] for entry in squares]).T,
            float(margin),
            len(scales),
        )


def _squares(function, inputs, points, h, exact, scales, seed):
    """Return the sums of squares of what disturbed runs differ by."""
    order, draw = len(exact[0]) - 1, random.Random(seed)
    squares = [[0.0] * (order + 1) for _ in exact]
    factorials = [math.factorial(k) for k in range(order + 1)]
    for _ in range(DRAWS):
        signs = [
            [draw.choice((-D, D)) * c / f for c, f in zip(row, factorials, strict=True)] for row in scales
        ]
        values = []
        for point in points:
            t = point * h
            shifts = [mp.fsum(c * t**k for k, c in enumerate(row)) for row in signs]
            values.append(_evaluate(function, inputs[0], inputs[1], t, Run(shifts)))
        for entry, column in enumerate(zip(*values, strict=True)):
            for k, found in enumerate(differences(column, h, order)):
                squares[entry][k] += float(found - exact[entry][k]) ** 2
    return squares
