"""Comparison of gradient estimators at an equal budget: the same model, data and batches, and equally many steps,
seconds or multiply-adds ("products") for each.
"""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from fgnumba.bench.learning.curves import Curve, EstimatorResult, draw
from fgnumba.bench.measure import machine
from fgnumba.bench.reverse.estimator import RECIPE as REVERSE
from fgnumba.datasets import Dataset
from fgnumba.errors import ConfigError, DivergenceError, printable
from fgnumba.estimators import Recipe, recipe
from fgnumba.runs.assembly import Assembled, assemble
from fgnumba.runs.augmentations import augmentation_of
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.jobs import Mapper
from fgnumba.training.evaluation import evaluate
from fgnumba.training.sources import Feed
from fgnumba.validation import real_number, whole_number

REVERSE_MODE = "reverse-mode"
BUDGETS = ("steps", "seconds", "products")


def recipe_of(name: str) -> Recipe:
    """Return the recipe of an estimator, or of reverse mode; raise ConfigError if there is none of that name.

    Parameters
    ----------
    name : str
        Name of an estimator, or ``reverse-mode``.
    """
    return REVERSE if name == REVERSE_MODE else recipe(name, (REVERSE_MODE,))


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
        self._batches = self._feed(self.ready)
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

    def _feed(self, ready: Assembled) -> Iterator[tuple[Any, Any]]:
        config, augment = ready.config, augmentation_of(ready.config.augment)
        return Feed(ready.model, self.dataset, self.batch, config.seed, augment=augment).pairs(0)

    def _cost(self, config: RunConfig) -> tuple[float, float]:
        """Return the seconds and multiply-adds of a step, measured with a trainer that is not used further."""
        ready = self._assemble(config.updated({"steps": 1}))
        trainer = ready.trainer
        plan = trainer.bind(self.batch)
        batches = self._feed(ready)
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
            evaluate(self.ready.model, self.dataset, loss=self.ready.trainer.loss),
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
    mapper: Mapper | None = None,
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
    mapper : Mapper, optional
        Runs whole runs, several at a time, as one of ``fgnumba.runs.jobs.mapper_of`` does. The curves are the same, but
        for their seconds. None (the default): all runs of a seed take turns in this process.

    Returns
    -------
    EstimatorResult
        The curves, table and figure.

    Raises
    ------
    ConfigError
        An estimator is unknown, or a setting is impossible; or there is a mapper, and the budget is one of seconds,
        which would depend on what else runs.
    """
    if not names:
        raise ConfigError("estimators: none is named")
    entries = {name: (recipe_of(name), config.updated({"estimator": name})) for name in names}
    return compare_recipes(
        entries,
        dataset,
        budget,
        seeds=seeds,
        evaluations=evaluations,
        target=target,
        advance=advance,
        mapper=mapper,
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
    mapper: Mapper | None = None,
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
    mapper : Mapper, optional
        Runs whole runs, several at a time; see :func:`compare`. Default: None.
    """
    whole_number("seeds", seeds)
    whole_number("evaluations", evaluations)
    if target is not None and real_number("target", target) > 1:
        raise ConfigError(f"target is {target!r}; an accuracy from 0 to 1 is required")
    if mapper is not None and budget.kind == "seconds":
        raise ConfigError(
            "seconds: runs at the same time slow each other down; a budget of seconds needs one job"
        )
    names, first = list(entries), next(iter(entries.values()))[1]
    runs = [
        [
            _Run(name, chosen, config.updated({"seed": seed}), dataset, budget, evaluations)
            for name, (chosen, config) in entries.items()
        ]
        for seed in range(first.seed, first.seed + seeds)
    ]
    curves = _in_turn(runs, advance) if mapper is None else _side_by_side(runs, advance, mapper)
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


class _Run(NamedTuple):
    name: str
    chosen: Recipe
    config: RunConfig
    dataset: Dataset
    budget: Budget
    evaluations: int

    def runner(self) -> Runner:
        return Runner(self.name, self.chosen, self.config, self.dataset, self.budget)


def _in_turn(runs: Sequence[Sequence[_Run]], advance: Callable[[str], None]) -> list[Curve]:
    """Return the curves of the runs of each seed, which take turns: what slows the machine down meets all of them."""
    curves = []
    for runs_of_seed in runs:
        seed, evaluations = runs_of_seed[0].config.seed, runs_of_seed[0].evaluations
        advance(f"seed {seed}")
        runners = [run.runner() for run in runs_of_seed]
        for part in range(1, evaluations + 1):
            for runner in runners:
                runner.run_to(part / evaluations)
                last = runner.curve
                advance(f"seed {seed}, {part} of {evaluations}: {last.name} {last.accuracies[-1]:.4f}")
        curves += [runner.curve for runner in runners]
    return curves


def _side_by_side(
    runs: Sequence[Sequence[_Run]], advance: Callable[[str], None], mapper: Mapper
) -> list[Curve]:
    """Return the curves of all runs, in the order of the runs and not of their ends."""
    tasks = [run for runs_of_seed in runs for run in runs_of_seed]
    curves = dict[int, Curve]()
    advance(f"{len(tasks)} runs")
    with contextlib.closing(mapper(_whole, tasks)) as results:
        for index, curve in results:
            curves[index] = curve
            ended = f"seed {curve.seed}, {curve.name} {curve.accuracies[-1]:.4f}"
            advance(f"{len(curves)} of {len(tasks)} runs: {ended}")
    return [curves[index] for index in range(len(tasks))]


def _whole(run: _Run) -> Curve:
    runner = run.runner()
    for part in range(1, run.evaluations + 1):
        runner.run_to(part / run.evaluations)
    return runner.curve


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
