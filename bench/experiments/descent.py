"""Descent along forward gradients on Beale's and Rosenbrock's functions, as in arXiv 2202.08587, section 5, figure 2.

    θ ← θ - η (∇f·v) v,  v ~ N(0, I)

It is compared with descent along exact gradients, with the same learning rate and from the same point.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fgnumba.bench.measure.result import Comparison, Request, Result
from fgnumba.colours import FORWARD, GRID, REVERSE
from fgnumba.functions import Objective, beale, rosenbrock
from fgnumba.runs.figures import blank

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SEEDS = 10
QUICK = 10
"""A quick run takes one step for this many of the paper's."""


@dataclass(frozen=True)
class Setting:
    """The paper's settings for a function; `final` holds the values at which the paper's runs end."""

    objective: Objective
    start: tuple[float, float]
    learning_rate: float
    steps: int
    final: float


SETTINGS = {
    "beale": Setting(beale, (0.0, 0.5), 0.01, 1000, 5.5e-5),
    "rosenbrock": Setting(rosenbrock, (-1.0, 0.0), 5e-4, 25_000, 5e-6),
}


def descent(request: Request) -> Result:
    """Run `SEEDS` descents along forward gradients and one along exact gradients.

    Parameters
    ----------
    request : Request
        The way in which the experiment is to be run. The descents use the seeds from its `seed` on.
    """
    name, seed, quick = request.name, request.seed, request.quick
    setting = SETTINGS[name]
    steps = setting.steps // QUICK if quick else setting.steps
    exact = _descend(setting, steps, None)
    forward = [_descend(setting, steps, np.random.default_rng([seed, i])) for i in range(SEEDS)]
    finals = [run["values"][-1] for run in forward]
    paper = "" if quick else f"about {setting.final:.1e}"
    comparisons = [
        Comparison("exact gradient, final value", f"{exact['values'][-1]:.2e}", paper),
        Comparison(f"forward gradient, median of {SEEDS} seeds", f"{np.median(finals):.2e}", paper),
        Comparison("forward gradient, least and most", f"{min(finals):.2e} to {max(finals):.2e}"),
    ]
    length = f", {steps} steps of the paper's {setting.steps}" if quick else f", {steps} steps"
    title = f"{name}: learning rate {setting.learning_rate:g}, from {setting.start}{length}"
    data = {
        "name": name,
        "quick": quick,
        "seed": seed,
        "steps": steps,
        "learning_rate": setting.learning_rate,
        "start": list(setting.start),
        "paper_final": setting.final,
        "exact": exact,
        "forward": forward,
    }
    return Result(title, comparisons, data, lambda: _draw(title, setting, exact, forward))


def _descend(setting: Setting, steps: int, generator: "np.random.Generator | None") -> dict[str, list[Any]]:
    """Return the values and points of a descent, along exact gradients if there is no generator of directions."""
    f, theta = setting.objective, np.array(setting.start)
    values, points, steps_kept = [f(theta)], [theta.tolist()], [0]
    kept = max(1, steps // 250)
    for step in range(1, steps + 1):
        if generator is None:
            # The directional derivatives along the two axes are the entries of the gradient.
            gradient = np.array([f.jvp(theta, axis)[1] for axis in np.eye(2)])
        else:
            v = generator.standard_normal(2)
            gradient = f.jvp(theta, v)[1] * v
        theta -= setting.learning_rate * gradient
        if step % kept == 0 or step == steps:
            values.append(f(theta))
            points.append(theta.tolist())
            steps_kept.append(step)
    return {"values": values, "points": points, "steps": steps_kept}


def _draw(
    title: str, setting: Setting, exact: dict[str, list[Any]], forward: list[dict[str, list[Any]]]
) -> "Figure":
    figure = blank(9, 3.6)
    paths, curves = figure.subplots(1, 2)
    points = np.array([exact["points"], *(run["points"] for run in forward)])
    low, high = points.min(axis=(0, 1)) - 0.3, points.max(axis=(0, 1)) + 0.3
    x, y = np.meshgrid(*(np.linspace(a, b, 120) for a, b in zip(low, high, strict=True)))
    heights = np.array([setting.objective(point) for point in np.stack([x.ravel(), y.ravel()], axis=1)])
    paths.contour(x, y, np.log10(heights.reshape(x.shape) + 1e-6), levels=18, colors=GRID, linewidths=0.6)
    steps = exact["steps"]
    for run in forward:
        paths.plot(*np.array(run["points"]).T, color=FORWARD, alpha=0.35, linewidth=0.8)
        curves.semilogy(steps, run["values"], color=FORWARD, alpha=0.35, linewidth=0.8)
    paths.plot(*np.array(exact["points"]).T, color=REVERSE, linewidth=1.6, label="exact gradient")
    curves.semilogy(steps, exact["values"], color=REVERSE, linewidth=1.6, label="exact gradient")
    paths.plot([], [], color=FORWARD, label="forward gradients")
    paths.plot(*setting.objective.minimum, marker="+", color="black", linestyle="none", label="minimum")
    paths.legend(fontsize=8, frameon=False)
    curves.set_xlabel("step")
    curves.set_title("f", loc="left", fontsize=10)
    figure.suptitle(title, fontsize=10)
    return figure


def redrawn(data: dict[str, Any]) -> "Figure":
    """Return the figure of a result again.

    Parameters
    ----------
    data : dict
        The result's ``data.json``.
    """
    return _draw(data["title"], SETTINGS[data["name"]], data["exact"], data["forward"])
