"""Ways to train one network, each with the same time and the same number of trials for its learning rate.

The time is that of a number of steps of reverse mode. Each contender gets as many steps of its own as fit into it, by
the shortest of many interleaved times of its compiled step; what Python does between steps is not counted. All take
plain gradient descent, whose update keeps nothing beside the parameters, with a rate that falls to 1/20.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import fgnumba as fg
from fgnumba.bench.measure.timing import shortest
from fgnumba.bench.reverse import ReverseMode, ReversePlan
from fgnumba.datasets import Dataset
from fgnumba.datasets.split import Split
from fgnumba.errors import ConfigError, DivergenceError
from fgnumba.estimators import Estimator, recipe
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.model.graph import Graph
from fgnumba.training.defaults import default_learning_rate
from fgnumba.training.evaluation import evaluate
from fgnumba.training.sources import batches_of

BATCH = 64
DIRECTIONS = (1, 8, 64)
"""Numbers of directions of weight perturbation, each a contender."""
KEEPING = ("activity", "feedback", "local-noise-feedback")
"""Estimators that need forward passes only, and keep activations."""
REVERSE_MODE, CHECKPOINTED = "reverse mode", "reverse mode, checkpointed"
RATE, OVER_DEFAULT = 0.1, 4.0
"""The middle of the rates that are tried; of those of weight perturbation, over ``default_learning_rate``."""
COARSE, COARSE_FACTOR = 5, 8.0
FALL = 3.0
"""The rate of the last step is e⁻³ of the first one's."""
HELD_OUT = 0.2
HALVINGS = 10
"""How often a rate is halved with which one of the seeds diverges."""
TIMING_RATE = 1e-12
"""Rate of the steps that are timed, with which no parameter changes."""


@dataclass(frozen=True)
class Contender:
    """A way to train.

    Parameters
    ----------
    name : str
        Its name in tables and figures.
    estimator : Estimator
        The estimator.
    rate : float
        The learning rate in the middle of those that are tried.
    """

    name: str
    estimator: Estimator
    rate: float = RATE

    @property
    def forward(self) -> bool:
        """Whether it needs forward passes only."""
        return not isinstance(self.estimator, ReverseMode)


@dataclass
class Standing:
    """What a contender needs, and what it reached.

    Parameters
    ----------
    nbytes : int
        Bytes beside the parameters: buffers, scratch memory, and what the estimator keeps from step to step.
    seconds : float
        Time of a step.
    over_reverse : float
        The same, over that of reverse mode.
    steps : int
        Number of steps that the time allows.
    rate : float
        The learning rate that the trials chose.
    losses, accuracies : list of float
        On the test data, for each seed. The loss of a run that diverged is infinite.
    """

    nbytes: int
    seconds: float
    over_reverse: float
    steps: int
    rate: float = math.nan
    losses: tuple[float, ...] = ()
    accuracies: tuple[float, ...] = ()


def weights(directions: int) -> str:
    """Return the name of weight perturbation with a number of directions."""
    return f"weights, T = {directions}"


def contenders(parameters: int) -> list[Contender]:
    """Return the contenders without a limit of memory; reverse mode comes last.

    Parameters
    ----------
    parameters : int
        Number of the network's parameters P, on which the rates of weight perturbation depend.
    """
    found = [
        Contender(
            weights(t),
            fg.WeightPerturbation("rank1", directions=t),
            OVER_DEFAULT * default_learning_rate(parameters, t),
        )
        for t in DIRECTIONS
    ]
    found += [Contender(name, recipe(name).build(name, None, None)) for name in KEEPING]
    return [*found, Contender(REVERSE_MODE, ReverseMode())]


def trainer_of(
    contender: Contender, model: Graph, rate: float, decay: float = 0.0, seed: int = 0
) -> fg.Trainer:
    """Return a trainer of a model by a contender."""
    return fg.Trainer(model, estimator=contender.estimator, optimizer=fg.SGD(rate, decay=decay), seed=seed)


def bytes_beside(trainer: fg.Trainer) -> int:
    """Return the bytes that a step needs beside the model's parameters."""
    state = trainer.state
    own = sum(parameter.packed.nbytes for parameter in state.parameters.values())
    return trainer.bind(BATCH).nbytes + own + sum(array.nbytes for array in state.arrays.values())


def within(limit: int, model: Graph) -> Contender:
    """Return reverse mode with as few layers computed again as fit into a limit of bytes, or in the least memory.

    Parameters
    ----------
    limit : int
        The most bytes.
    model : Graph
        The model.
    """

    def plan(estimator: ReverseMode) -> ReversePlan:
        estimate = trainer_of(Contender(CHECKPOINTED, estimator), model, TIMING_RATE).bind(BATCH)
        return estimate.plan  # type: ignore[attr-defined]

    try:
        found = plan(ReverseMode(memory_limit=limit))
    except ConfigError:
        found = plan(ReverseMode(checkpoint=True, kept=1))
    # The search for the number is not made again for every run.
    return Contender(CHECKPOINTED, ReverseMode(checkpoint=True, kept=found.kept))


def clock() -> float:
    """Return the time by which steps are measured: that of the thread alone, where there is one thread."""
    return time.thread_time() if thread_count() == 1 else time.perf_counter()


def stepping(trainer: fg.Trainer, x: Any, y: Any) -> Callable[[], object]:
    """Return a function that takes a trainer's compiled step on a batch, after the first one."""
    trainer.step(x, y)
    estimate, inputs = trainer.bind(BATCH), trainer.model.checked_input(x)
    return lambda: estimate.run(inputs, y)


def timed(entries: Sequence[Contender], model: Graph, dataset: Dataset, budget: int) -> dict[str, Standing]:
    """Return what each contender needs, from interleaved measurements.

    Parameters
    ----------
    entries : sequence of Contender
        The contenders, reverse mode among them.
    model : Graph
        The model.
    dataset : Dataset
        The data, of which one batch is used.
    budget : int
        The time of a run, in steps of reverse mode.
    """
    x, y = dataset.x_train[:BATCH], dataset.y_train[:BATCH]
    trainers = {entry.name: trainer_of(entry, model, TIMING_RATE) for entry in entries}
    runs = {name: stepping(trainer, x, y) for name, trainer in trainers.items()}
    seconds = shortest(runs, clock)
    found = {}
    for name, trainer in trainers.items():
        over = seconds[name] / seconds[REVERSE_MODE]
        found[name] = Standing(bytes_beside(trainer), seconds[name], over, max(1, round(budget / over)))
    return found


def train(contender: Contender, model: Graph, dataset: Dataset, rate: float, steps: int, seed: int) -> bool:
    """Train a model, and return whether its loss stayed finite.

    Parameters
    ----------
    contender : Contender
        The way to train.
    model : Graph
        The model.
    dataset : Dataset
        The data.
    rate : float
        Learning rate of the first step.
    steps : int
        Number of steps.
    seed : int
        Seed of the batches and of the directions.
    """
    trainer = trainer_of(contender, model, rate, FALL / steps, seed)
    batches = batches_of(model, dataset, BATCH, seed)
    try:
        for _ in range(steps):
            x, y = next(batches)
            trainer.step(x, y)
    except DivergenceError:
        return False
    return True


def chosen_rate(middle: float, refinements: int, loss_at: Callable[[float], float]) -> float:
    """Return the best of a number of learning rates that is the same for every contender.

    Five rates are tried, each 8 times the one before; then those on either side of the best one, at half the distance
    on a scale of logarithms, and so on.

    Parameters
    ----------
    middle : float
        The third of the five rates.
    refinements : int
        How often the distance is halved; each takes two more trials.
    loss_at : callable
        Returns the held-out loss with a rate.
    """
    losses = {
        rate: loss_at(rate) for rate in (middle * COARSE_FACTOR ** (i - COARSE // 2) for i in range(COARSE))
    }
    factor = COARSE_FACTOR
    for _ in range(refinements):
        factor = math.sqrt(factor)
        best = min(losses, key=losses.__getitem__)
        losses |= {rate: loss_at(rate) for rate in (best / factor, best * factor)}
    return min(losses, key=losses.__getitem__)


def reach(
    contender: Contender,
    standing: Standing,
    make: Callable[[int], Graph],
    data: Split,
    seeds: Sequence[int],
    refinements: int,
) -> None:
    """Choose a contender's rate on held-out data, train with it, and note what the test data say.

    Parameters
    ----------
    contender : Contender
        The way to train.
    standing : Standing
        What it needs; its rate, losses and accuracies are set.
    make : callable
        Returns a new model by its seed.
    data : Split
        The data to train on, those that choose the rate, and the test data.
    seeds : sequence of int
        Seeds of the runs; the trials of rates use the first.
    refinements : int
        As :func:`chosen_rate` takes it.
    """

    def loss_at(rate: float) -> float:
        model = make(seeds[0])
        if not train(contender, model, data.training, rate, standing.steps, seeds[0]):
            return math.inf
        return _finite(evaluate(model, data.x, data.y).loss)

    standing.rate = chosen_rate(contender.rate, refinements, loss_at)
    models = [make(seed) for seed in seeds]
    for _ in range(HALVINGS):
        runs = zip(models, seeds, strict=True)
        if all(train(contender, one, data.training, standing.rate, standing.steps, s) for one, s in runs):
            break
        # The trials had one seed, and another may diverge at the edge of what is stable.
        standing.rate, models = standing.rate / 2, [make(seed) for seed in seeds]
    found = [evaluate(model, data.training.x_test, data.training.y_test) for model in models]
    standing.losses = tuple(_finite(each.loss) for each in found)
    standing.accuracies = tuple(each.accuracy for each in found)


def _finite(loss: float) -> float:
    return loss if math.isfinite(loss) else math.inf
