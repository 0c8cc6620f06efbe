"""Forward gradients at a point of Beale's function, and their mean, as in arXiv 2202.08587, figure 1.

At (1.5, -0.1) the gradient is (-3.434, -0.808). Each forward gradient is (∇f·v) v for v ~ N(0, I). Their mean tends to
the gradient, and its standard error falls with the square root of their number.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

from fgnumba.bench.measure.result import Comparison, Request, Result
from fgnumba.colours import ACTIVITY, FORWARD, GREY, MEAN, REVERSE
from fgnumba.functions import beale
from fgnumba.runs.figures import blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINT = (1.5, -0.1)
PAPER_GRADIENT = (-3.434, -0.808)
SHOWN, MANY, QUICK_MANY = 5, 100_000, 1000


def monte_carlo(request: Request) -> Result:
    """Draw five forward gradients for the figure, and many for their mean.

    Parameters
    ----------
    request : Request
        The way in which the experiment is to be run.
    """
    name, seed, quick = request.name, request.seed, request.quick
    count = QUICK_MANY if quick else MANY
    gradient = np.array([beale.jvp(POINT, axis)[1] for axis in np.eye(2)])
    directions = np.random.default_rng(seed).standard_normal((count, 2))
    samples = np.array([beale.jvp(POINT, v)[1] * v for v in directions])
    shown, mean = samples[:SHOWN], samples.mean(axis=0)
    error = samples.std(axis=0, ddof=1) / np.sqrt(count)
    comparisons = [
        Comparison("gradient", _pair(gradient), _pair(np.array(PAPER_GRADIENT))),
        Comparison(f"mean of {SHOWN} forward gradients", _pair(shown.mean(axis=0))),
        Comparison(f"mean of {count:,}", _pair(mean)),
        Comparison("its standard error", _pair(error)),
    ]
    data = {
        "name": name,
        "quick": quick,
        "seed": seed,
        "point": list(POINT),
        "gradient": gradient.tolist(),
        "directions": directions[:SHOWN].tolist(),
        "forward_gradients": shown.tolist(),
        "count": count,
        "mean": mean.tolist(),
        "standard_error": error.tolist(),
    }
    title = f"{name}: forward gradients of Beale's function at {POINT}" + (", fewer" if quick else "")
    return Result(title, comparisons, data, lambda: _draw(title, gradient, directions[:SHOWN], shown, mean))


def _pair(values: np.ndarray) -> str:
    return f"({values[0]:.3f}, {values[1]:.3f})"


def _draw(
    title: str, gradient: np.ndarray, directions: np.ndarray, shown: np.ndarray, mean: np.ndarray
) -> "Figure":
    figure = blank(5, 4.4)
    axis = figure.subplots()
    origin, tail = np.array(POINT), POINT
    arrows = [(v, GREY, "direction v" if i == 0 else None) for i, v in enumerate(directions)]
    arrows += [(g, FORWARD, "forward gradient" if i == 0 else None) for i, g in enumerate(shown)]
    arrows += [(shown.mean(axis=0), ACTIVITY, f"mean of {SHOWN}"), (mean, MEAN, "mean of many")]
    arrows += [(gradient, REVERSE, "gradient")]
    for vector, colour, label in arrows:
        axis.annotate(
            "",
            xy=tuple(origin + vector),
            xytext=tail,
            arrowprops={"arrowstyle": "->", "color": colour, "lw": 1.4},
        )
        axis.plot(*(origin + vector), color=colour, label=label)
    reach = np.abs(np.array([vector for vector, _, _ in arrows])).max() * 1.1
    axis.set_xlim(POINT[0] - reach, POINT[0] + reach)
    axis.set_ylim(POINT[1] - reach, POINT[1] + reach)
    axis.legend(fontsize=8, frameon=False)
    axis.set_title(title, fontsize=9, loc="left")
    return figure


def redrawn(data: dict[str, Any]) -> "Figure":
    """Return the figure of a result again.

    Parameters
    ----------
    data : dict
        The result's ``data.json``.
    """
    names = ("gradient", "directions", "forward_gradients", "mean")
    return _draw(data["title"], *(np.array(data[name]) for name in names))
