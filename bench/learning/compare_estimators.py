"""Estimators on equal terms: the same model, data and batches, and as many steps, seconds or products for each."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from fgnumba.bench.measure import machine
from fgnumba.bench.measure.result import Result
from fgnumba.bench.reverse.estimator import RECIPE as REVERSE
from fgnumba.datasets import Dataset
from fgnumba.errors import ConfigError, DivergenceError, did_you_mean, printable, shown
from fgnumba.estimators import RECIPES, Recipe
from fgnumba.runs.assembly import Assembled, assemble
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.figures import blank
from fgnumba.training.evaluation import evaluate
from fgnumba.validation import real_number, whole_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

REVERSE_MODE = "reverse-mode"
BUDGETS = ("steps", "seconds", "products")
COLOURS = ("#c1440e", "#1f5fa8", "#3d8b37", "#b08900", "#7a4fa3", "#d1709f", "#5b5b5b", "#2aa5a0", "#8a5a2b")


def recipe_of(name: str) -> Recipe:
    """Return the recipe of an estimator, or of reverse mode; ConfigError where there is none."""
    known = {**RECIPES, REVERSE_MODE: REVERSE}
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"estimator: unknown estimator {shown(name)}{did_you_mean(str(name), known)}")
    return known[name]


@dataclass(frozen=True)
class Budget:
    """What each entry may use up.

    Parameters
    ----------
    kind : ``steps``, ``seconds`` of steps (not of evaluations), or ``products``: multiply-adds.
    amount : of them.

    Raises
    ------
    ConfigError
    """

    kind: str
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in BUDGETS:
            raise ConfigError(f"budget is {self.kind!r}; one of {', '.join(BUDGETS)} is required")
        real_number(self.kind, self.amount, above_zero=True)

    def steps(self, seconds: float, products: float) -> int:
        """Return how many steps it is worth, of so many seconds and products each."""
        each = {"steps": 1.0, "seconds": seconds, "products": products}[self.kind]
        return max(1, int(self.amount / each))


@dataclass
class Curve:
    """What an entry reached.

    Parameters
    ----------
    steps, seconds, products, losses, accuracies : of each evaluation, on the test data; the first is before any step.
    ended : why it ended before its budget, None where it did not.
    """

    name: str
    seed: int
    settings: dict[str, Any]
    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    products: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    ended: str | None = None

    def first(self, accuracy: float, what: str) -> float | None:
        """Return what it had used up of ``steps``, ``seconds`` or ``products`` when it first reached an accuracy."""
        used: list[float] = getattr(self, what)
        return next((u for u, a in zip(used, self.accuracies, strict=True) if a >= accuracy), None)


class Runner:
    """An entry at work: its trainer, its batches, its curve."""

    def __init__(
        self, name: str, chosen: Recipe, config: RunConfig, dataset: Dataset, budget: Budget
    ) -> None:
        self.dataset, self.batch, self._recipe = dataset, min(config.batch_size, len(dataset.x_train)), chosen
        seconds, products = self._cost(config) if budget.kind != "steps" else (1.0, 1.0)
        self.total = budget.steps(seconds, products)
        self.ready = self._assemble(config.updated({"steps": self.total}))
        plan = self.ready.trainer.bind(self.batch)
        self._products = float(sum(operation.multiply_adds for operation in plan.operations))
        self._batches = dataset.batches(self.batch, config.seed)
        keys = ("estimator", "optimizer", "learning_rate", "decay", "steps", "directions", "batch_size")
        settings = {key: getattr(self.ready.config, key) for key in keys}
        settings |= {"multiply_adds": self._products, "nbytes": plan.nbytes}
        self.curve = Curve(name, config.seed, settings)
        self._seconds = 0.0
        self._evaluate()

    def _assemble(self, config: RunConfig) -> Assembled:
        # Directions that were asked for go to those that take any.
        asked = {name: getattr(config, name) for name in ("direction", "directions")}
        taken = {name: value if name in self._recipe.takes else None for name, value in asked.items()}
        # The exact gradient that the others are compared with is computed on the CPU.
        return assemble(config.updated({**taken, "device": "cpu"}), self.dataset, self._recipe)

    def _cost(self, config: RunConfig) -> tuple[float, float]:
        """Return the seconds and products of a step, of a trainer that is thrown away."""
        trainer = self._assemble(config.updated({"steps": 1})).trainer
        plan, batches = trainer.bind(self.batch), self.dataset.batches(self.batch, config.seed)
        times = []
        for _ in range(20):
            x, y = next(batches)
            start = time.perf_counter()
            try:
                trainer.step(x, y)
            except DivergenceError:
                break
            times.append(time.perf_counter() - start)
        products = float(sum(operation.multiply_adds for operation in plan.operations))
        # One step is enough of what diverges in its first.
        return sorted(times)[len(times) // 2] if times else math.inf, max(1.0, products)

    def _evaluate(self) -> None:
        found, steps = (
            evaluate(self.ready.model, self.dataset.x_test, self.dataset.y_test),
            self.ready.trainer.steps_done,
        )
        self.curve.steps.append(steps)
        self.curve.seconds.append(self._seconds)
        self.curve.products.append(steps * self._products)
        self.curve.losses.append(found.loss)
        self.curve.accuracies.append(found.accuracy)

    def run_to(self, share: float) -> None:
        """Take steps up to a share of the budget, and evaluate."""
        until = round(self.total * share)
        trainer = self.ready.trainer
        if self.curve.ended or trainer.steps_done >= until:
            return
        try:
            while trainer.steps_done < until:
                x, y = next(self._batches)
                start = time.perf_counter()
                trainer.step(x, y)
                self._seconds += time.perf_counter() - start
        except DivergenceError as error:
            self.curve.ended = str(error)
            return
        self._evaluate()


def compare(
    names: Sequence[str],
    config: RunConfig,
    dataset: Dataset,
    budget: Budget,
    *,
    seeds: int = 1,
    evaluations: int = 20,
    target: float | None = None,
    advance: Callable[[str], None] = lambda what: None,
) -> "EstimatorResult":
    """Train with each estimator in turn, a part of its budget at a time, and return curves, table and figure.

    Parameters
    ----------
    names : of ``fgnumba.estimators.RECIPES``, or ``reverse-mode``; each with its own optimiser and learning rate where
        `config` gives none.
    config : of all of them.
    seeds : runs of each, with the seeds of `config` and those after.
    target : accuracy whose first time is reported.

    Raises
    ------
    ConfigError
    """
    if not names:
        raise ConfigError("estimators: none is named")
    entries = {name: (recipe_of(name), config.updated({"estimator": name})) for name in names}
    return compare_recipes(
        entries, dataset, budget, seeds=seeds, evaluations=evaluations, target=target, advance=advance
    )


def compare_recipes(
    entries: Mapping[str, tuple[Recipe, RunConfig]],
    dataset: Dataset,
    budget: Budget,
    *,
    seeds: int = 1,
    evaluations: int = 20,
    target: float | None = None,
    advance: Callable[[str], None] = lambda what: None,
) -> "EstimatorResult":
    """Compare recipes, each with a configuration of its own, as :func:`compare` does; results go by their names."""
    whole_number("seeds", seeds)
    whole_number("evaluations", evaluations)
    if target is not None and real_number("target", target) > 1:
        raise ConfigError(f"target is {target!r}; an accuracy from 0 to 1 is required")
    curves: list[Curve] = []
    names, first = list(entries), next(iter(entries.values()))[1]
    for seed in range(first.seed, first.seed + seeds):
        advance(f"seed {seed}")
        runners = [
            Runner(name, chosen, config.updated({"seed": seed}), dataset, budget)
            for name, (chosen, config) in entries.items()
        ]
        for part in range(1, evaluations + 1):
            for runner in runners:
                runner.run_to(part / evaluations)
                last = runner.curve
                advance(f"seed {seed}, {part} of {evaluations}: {last.name} {last.accuracies[-1]:.4f}")
        curves += [runner.curve for runner in runners]
    title = printable(f"{first.model} on {dataset.name}")
    title += f", {budget.amount:g} {budget.kind} each, {seeds} seed(s)"
    data = {
        "machine": machine.facts(),
        # What all share; the folder of the data is a matter of the machine.
        "config": {
            name: value for name, value in first.settings().items() if name not in ("data_dir", "estimator")
        },
        "budget": asdict(budget),
        "target": target,
        "curves": [{**asdict(curve), "losses": [_finite(loss) for loss in curve.losses]} for curve in curves],
    }
    return EstimatorResult(title, [], data, lambda: draw(title, names, curves), names, curves, target)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class EstimatorResult(Result):
    """Outcome of a comparison: a row an estimator, means over seeds."""

    names: Sequence[str] = ()
    curves: Sequence[Curve] = ()
    target: float | None = None

    def table(self) -> str:
        """Return the rows as aligned text."""
        heads = ["estimator", "rate", "steps", "seconds", "products", "test loss", "accuracy"]
        if self.target is not None:
            heads += [f"steps to {self.target:g}", "seconds"]
        lines = [heads, *(self._row(name) for name in self.names)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
        return "\n".join(
            "  ".join(
                f"{cell:{width}}" if column == 0 else f"{cell:>{width}}"
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            )
            for line in lines
        )

    def of(self, name: str) -> list[Curve]:
        """Return an estimator's curves, a seed each."""
        return [curve for curve in self.curves if curve.name == name]

    def _row(self, name: str) -> list[str]:
        curves = self.of(name)
        n = len(curves)
        ended = sum(curve.ended is not None for curve in curves)
        row = [
            name,
            f"{curves[0].settings['learning_rate']:.3g}",
            f"{sum(c.steps[-1] for c in curves) / n:.0f}",
            f"{sum(c.seconds[-1] for c in curves) / n:.1f}",
            f"{sum(c.products[-1] for c in curves) / n:.2e}",
            "diverged" if ended else f"{sum(c.losses[-1] for c in curves) / n:.4f}",
            f"{sum(c.accuracies[-1] for c in curves) / n:.4f}",
        ]
        if self.target is not None:
            for what in ("steps", "seconds"):
                found = [c.first(self.target, what) for c in curves]
                reached = [value for value in found if value is not None]
                row.append("never" if len(reached) < n else f"{sum(reached) / n:.4g}")
        return row


def draw(title: str, names: Sequence[str], curves: Sequence[Curve]) -> "Figure":
    """Return the figure: test loss and error over steps, seconds and products; a line a seed."""
    figure = blank(11, 5.6)
    axes = figure.subplots(2, 3, sharey="row", sharex="col")
    for index, name in enumerate(names):
        for number, curve in enumerate(c for c in curves if c.name == name):
            style: dict[str, Any] = {"color": COLOURS[index % len(COLOURS)], "linewidth": 1.2}
            errors = [100 * (1 - accuracy) for accuracy in curve.accuracies]
            for column, what in enumerate(("steps", "seconds", "products")):
                used = getattr(curve, what)
                label = name if number == 0 and column == 0 else None
                axes[0, column].plot(used, curve.losses, label=label, **style)
                axes[1, column].plot(used, errors, **style)
    for column, what in enumerate(("step", "seconds of steps", "multiply-adds")):
        axes[1, column].set_xlabel(what)
        axes[1, column].locator_params(axis="x", nbins=5)
    axes[0, 0].set(ylabel="test loss", yscale="log")
    axes[1, 0].set(ylabel="test error, %", yscale="log")
    axes[0, 0].legend(fontsize=7, frameon=False)
    # Names of files may hold anything, dollar signs too.
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure
