"""The MNIST row of M. Ren et al., arXiv 2210.03310: noise on weights, on activities, with local losses; reverse mode.

The perceptron, its two hidden layers of 256, the batches and the seed are shared; each estimator has an optimiser and a
rate that suit it, and as many steps. Feedback, which the paper does not have, stands beside them.
"""

from dataclasses import dataclass

import fgnumba as fg
from fgnumba.bench.learning.compare_estimators import Budget, EstimatorResult, compare_recipes
from fgnumba.bench.measure.result import Comparison, Request, Result
from fgnumba.bench.reverse.estimator import RECIPE as REVERSE
from fgnumba.estimators import Recipe, recipe
from fgnumba.runs.configuration import RunConfig

STEPS = 30_000
QUICK = 100
"""A quick run takes one step where a whole one takes so many."""

WIDTHS = (256, 256)


@dataclass(frozen=True)
class Row:
    """An estimator, and the error that the paper reports, in percent; None where it has none.

    Parameters
    ----------
    settings : of the run's configuration, beside the shared ones.
    """

    label: str
    recipe: Recipe
    paper: float | None
    settings: dict[str, object]


def rows() -> list[Row]:
    """Return the rows: reverse mode, the paper's three estimators, and feedback."""
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
    """Train with each, and stand the errors beside the paper's."""
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
        what = f"test error, %: {row.label}"
        comparisons.append(Comparison(what, "diverged" if curve.ended else f"{error:.2f}", paper))
    length = f"{steps} steps of {STEPS}" if request.quick else f"{steps} steps"
    title = f"784-256-256-10 perceptron on MNIST, batch {config.batch_size}, {length}, seed {request.seed}"
    data = {"name": request.name, "quick": request.quick, "seed": request.seed, "steps": steps, **found.data}
    return Result(title, comparisons, data, found.draw)
