"""Comparison of gradient estimators at an equal budget: the same model, data and batches, and equally many steps,
seconds or multiply-adds ("products") for each.
"""

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
    """Return the recipe of an estimator, or of reverse mode; raise ConfigError if there is none of that name.

    Parameters
    ----------
    name : str
        Name of an estimator, or ``reverse-mode``.
    """
    known = {**RECIPES, REVERSE_MODE: REVERSE}
    if not isinstance(name, str) or name not in known:
        raise ConfigError(f"estimator: unknown estimator {shown(name)}{did_you_mean(str(name), known)}")
    return known[name]


@dataclass(frozen=True)
class Budget:
    """The budget of each run of a comparison.

    Parameters
    ----------
    kind : str
        ``steps``, ``seconds`` (time of steps, without evaluations), or ``products`` (multiply-adds).
    amount : float
        How many of them, above 0.

    Raises
    ------
    ConfigError
        There is no such kind, or the amount is not above 0.
    """

    kind: str
    amount: float

    def __post_init__(self) -> None:
        if self.kind not in BUDGETS:
            raise ConfigError(f"budget is {self.kind!r}; one of {', '.join(BUDGETS)} is required")
        real_number(self.kind, self.amount, above_zero=True)

    def steps(self, seconds: float, products: float) -> int:
        """Return the number of steps that the budget allows, at least 1.

        Parameters
        ----------
        seconds : float
            Time of a step in seconds.
        products : float
            Number of multiply-adds of a step.
        """
        each = {"steps": 1.0, "seconds": seconds, "products": products}[self.kind]
        return max(1, int(self.amount / each))


@dataclass
class Curve:
    """The course of a run. Its first evaluation is before the first step.

    Parameters
    ----------
    name : str
        Name of the estimator.
    seed : int
        Seed of the run.
    settings : dict
        Settings of the run, as JSON values.
    steps : list of int
        Number of steps before each evaluation.
    seconds : list of float
        Time that these steps took, without evaluations.
    products : list of float
        Number of multiply-adds of these steps.
    losses : list of float
        Test loss in each evaluation.
    accuracies : list of float
        Test accuracy in each evaluation.
    ended : str or None
        Why the run ended before its budget was used up, or None (the default) if it did not.
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
        """Return how much the run had used when it first reached an accuracy, or None if it never did.

        Parameters
        ----------
        accuracy : float
            The test accuracy, from 0 to 1.
        what : str
            The quantity to return: ``steps``, ``seconds`` or ``products``.
        """
        used: list[float] = getattr(self, what)
        return next((u for u, a in zip(used, self.accuracies, strict=True) if a >= accuracy), None)


class Runner:
    """A run of the comparison: its trainer, its batches and its curve.

    Parameters
    ----------
    name : str
        Name of the estimator.
    chosen : Recipe
        The estimator's recipe.
    config : RunConfig
        The settings of the run.
    dataset : Dataset
        The data set.
    budget : Budget
        The budget.
    """

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
        # The options --direction and --directions only apply to estimators that take them.
        asked = {name: getattr(config, name) for name in ("direction", "directions")}
        taken = {name: value if name in self._recipe.takes else None for name, value in asked.items()}
        # Everything runs on the CPU, because reverse mode, with which the estimators are compared, runs there only.
        return assemble(config.updated({**taken, "device": "cpu"}), self.dataset, self._recipe)

    def _cost(self, config: RunConfig) -> tuple[float, float]:
        """Return the seconds and multiply-adds of a step, measured with a trainer that is not used further."""
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
        # If the first step diverges, an infinite time gives the run a budget of one step.
        return sorted(times)[len(times) // 2] if times else math.inf, max(1.0, products)

    def _evaluate(self) -> None:
        evaluation, steps = (
            evaluate(self.ready.model, self.dataset.x_test, self.dataset.y_test),
            self.ready.trainer.steps_done,
        )
        self.curve.steps.append(steps)
        self.curve.seconds.append(self._seconds)
        self.curve.products.append(steps * self._products)
        self.curve.losses.append(evaluation.loss)
        self.curve.accuracies.append(evaluation.accuracy)

    def run_to(self, share: float) -> None:
        """Take steps until a share of the budget is used up, and evaluate the model.

        Parameters
        ----------
        share : float
            The share, above 0 to 1.
        """
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
    """Train with several estimators in turn, a part of the budget of each at a time.

    Parameters
    ----------
    names : sequence of str
        Names from ``fgnumba.estimators.RECIPES``, or ``reverse-mode``.
    config : RunConfig
        The settings of all runs. Where it gives no optimiser or learning rate, each estimator uses its own.
    dataset : Dataset
        The data set.
    budget : Budget
        The budget of each run.
    seeds : int
        Number of runs of each estimator, with the seeds from that of `config` on. Default: 1.
    evaluations : int
        Number of evaluations of each run after the first. Default: 20.
    target : float, optional
        A test accuracy; the table then shows when each estimator first reached it. None is the default.
    advance : callable
        Called with a description of the progress. Default: ignores it.

    Returns
    -------
    EstimatorResult
        The curves, table and figure.

    Raises
    ------
    ConfigError
        An estimator is unknown, or a setting is impossible.
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
    """Compare recipes, each with a configuration of its own, as :func:`compare` does.

    Parameters
    ----------
    entries : mapping
        A recipe and a configuration by each name in the table.
    dataset : Dataset
        The data set.
    budget : Budget
        The budget of each run.
    seeds : int
        Number of runs of each entry. Default: 1.
    evaluations : int
        Number of evaluations of each run after the first. Default: 20.
    target : float, optional
        A test accuracy; the table then shows when each entry first reached it. None is the default.
    advance : callable
        Called with a description of the progress. Default: ignores it.
    """
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
        # The settings that all runs share, without the folder of the data, which differs from machine to machine.
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
    """The result of a comparison. Its table has a row for each estimator, with means over the seeds."""

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
        """Return the curves of an estimator, one for each seed.

        Parameters
        ----------
        name : str
            The estimator.
        """
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
                amounts = [c.first(self.target, what) for c in curves]
                reached = [value for value in amounts if value is not None]
                row.append("never" if len(reached) < n else f"{sum(reached) / n:.4g}")
        return row


def draw(title: str, names: Sequence[str], curves: Sequence[Curve]) -> "Figure":
    """Return the figure of a comparison: test loss and error over steps, seconds and multiply-adds.

    Parameters
    ----------
    title : str
        Title of the figure.
    names : sequence of str
        The estimators, each of which has a colour.
    curves : sequence of Curve
        The runs; each is a line.
    """
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
    # A file name in the title may contain dollar signs, which must not be read as mathematics.
    figure.suptitle(title, fontsize=10, parse_math=False)
    return figure
