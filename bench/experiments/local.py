"""The MNIST row of M. Ren et al., arXiv 2210.03310: perturbed weights or activities, local losses, reverse mode.

All estimators train the same perceptron, which has two hidden layers of 256 units, with the same batches, seed and
number of steps. Each has an optimiser and a learning rate that suit it. Feedback, which the paper does not have, is
added for comparison.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import fgnumba as fg
from fgnumba.bench.learning import curves
from fgnumba.bench.learning.compare_estimators import Budget, compare_recipes
from fgnumba.bench.learning.curves import EstimatorResult
from fgnumba.bench.measure.result import Comparison, Request, Result
from fgnumba.bench.reverse.estimator import RECIPE as REVERSE
from fgnumba.estimators import Recipe, recipe
from fgnumba.runs.configuration import RunConfig

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS = 30_000
QUICK = 100
"""A quick run takes one step for this many of a whole one."""

WIDTHS = (256, 256)
LIKE = {
    "reverse mode": "reverse-mode",
    "weights, 64 directions": "weight-perturbation",
    "activities, 8 draws": "activity-layerwise",
    "activities, local losses, 32 draws": "local",
    "feedback": "feedback",
    "feedback, local losses": "local-feedback",
}
"""The estimator of each row, after which its curve is drawn."""


@dataclass(frozen=True)
class Row:
    """An estimator, its settings, and the test error in percent that the paper reports, or None if it reports none.

    The settings are those of the run's configuration that differ from the shared ones.
    """

    label: str
    recipe: Recipe
    paper: float | None
    settings: dict[str, object]


def rows() -> list[Row]:
    """Return the rows of the table: reverse mode, the paper's three estimators, and feedback."""
    momentum: dict[str, object] = {"optimizer": "sgd", "momentum": 0.9, "learning_rate": 0.02}
    weights, layerwise, local = recipe("weight-perturbation"), recipe("activity-layerwise"), recipe("local")
    return [
        Row("reverse mode", REVERSE, 2.66, {}),
        Row("weights, 64 directions", weights, 9.25, {"directions": 64, "learning_rate": 0.004}),
        Row("activities, 8 draws", layerwise, 3.24, {"directions": 8, **momentum}),
        Row("activities, local losses, 32 draws", local, 2.55, {"directions": 32, **momentum}),
        Row("feedback", recipe("feedback"), None, {}),
        Row("feedback, local losses", recipe("local-feedback"), None, {}),
    ]


def local_losses(request: Request) -> Result:
    """Train with each estimator, and compare the test errors with the paper's.

    Parameters
    ----------
    request : Request
        The way in which the experiment is to be run.
    """
    dataset = fg.datasets.load("mnist", data_dir=request.data_dir)
    steps = STEPS // QUICK if request.quick else STEPS
    config = RunConfig(device="cpu", model="mlp", widths=WIDTHS, data="mnist", seed=request.seed)
    entries = {row.label: (row.recipe, config.updated(row.settings)) for row in rows()}
    found: EstimatorResult = compare_recipes(
        entries,
        dataset,
        Budget("steps", steps),
        evaluations=10 if request.quick else 30,
        advance=request.advance,
    )
    comparisons = []
    for row in rows():
        (curve,) = found.of(row.label)
        error = 100 * (1 - curve.accuracies[-1])
        paper = "" if row.paper is None or request.quick else f"{row.paper:.2f}"
        quantity = f"test error, %: {row.label}"
        comparisons.append(Comparison(quantity, "diverged" if curve.ended else f"{error:.2f}", paper))
    length = f"{steps} steps of {STEPS}" if request.quick else f"{steps} steps"
    title = f"784-256-256-10 perceptron on MNIST, batch {config.batch_size}, {length}, seed {request.seed}"
    data = {"name": request.name, "quick": request.quick, "seed": request.seed, "steps": steps, **found.data}
    return Result(title, comparisons, data, lambda: redrawn({"title": found.title, **found.data}))


def redrawn(data: dict[str, Any]) -> "Figure":
    """Return the figure of a result again.

    Parameters
    ----------
    data : dict
        The result's ``data.json``.
    """
    return curves.redrawn(data, LIKE)
