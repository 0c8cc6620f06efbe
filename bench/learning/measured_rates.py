"""Measured learning rates beside those of the searches: ``python -m fgnumba.bench.learning.measured_rates``.

Each estimator trains a model twice for every seed, in turn: with its default learning rate, which a search found, and
with ``--optimizer auto``, which measures it. Both runs of a seed have the same initial parameters, batches, noise and
fall of the rate. Printed is a table: the mean test accuracies, the mean of the paired differences with its 95 %
interval by Student's t, the measured peak over the searched rate, and the share of the processor's time that measuring
took, of all threads; with FGNUMBA_NUM_THREADS=1 none waits.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import click

from fgnumba.bench.measure import machine
from fgnumba.datasets import Dataset, load
from fgnumba.errors import ConfigError, DivergenceError
from fgnumba.optimizers import AUTO
from fgnumba.runs.assembly import assemble
from fgnumba.runs.configuration import RunConfig
from fgnumba.training.evaluation import evaluate
from fgnumba.training.sources import batches_of

LEVEL = 0.95
"""Level of each interval; no allowance is made for the number of rows."""
HEADS = ("model", "data", "estimator", "steps", "searched, %", "measured, %", "difference", "rate", "time, %")


@dataclass(frozen=True)
class Run:
    """A run and what it took.

    Parameters
    ----------
    accuracy : float
        Test accuracy in per cent after the last step; NaN if the run diverged.
    rate : float
        The peak of the learning rate: that of the last step over its share.
    share : float
        The share of the time of the steps that measuring took, of the processor time.
    """

    accuracy: float
    rate: float
    share: float


def run(config: RunConfig, dataset: Dataset) -> Run:
    """Train as a configuration says, and return how the run ended.

    Parameters
    ----------
    config : RunConfig
        The settings, with the number of steps.
    dataset : Dataset
        The data set.
    """
    ready = assemble(config, dataset)
    trainer, steps = ready.trainer, ready.config.steps
    assert steps is not None
    measure, spent = trainer.meter.look, 0.0

    def timed(*arguments: Any) -> None:
        nonlocal spent
        start = time.process_time()
        measure(*arguments)
        spent += time.process_time() - start

    trainer.meter.look = timed  # type: ignore[assignment, method-assign]
    batches = batches_of(ready.model, dataset, min(config.batch_size, len(dataset.x_train)), config.seed)
    total, first = 0.0, 0.0
    try:
        for step in range(steps):
            batch = next(batches)
            start = time.process_time()
            trainer.step(*batch)
            total += time.process_time() - start
            if step == 1:
                # Both passes have been bound by now, which is no part of a step.
                first, spent = total, 0.0
    except DivergenceError:
        return Run(math.nan, math.nan, math.nan)
    rate = trainer.last_rate * math.exp((steps - 1) * (ready.config.decay or 0.0))
    accuracy = 100 * evaluate(ready.model, dataset, loss=trainer.loss).accuracy
    return Run(accuracy, rate, spent / max(total - first, 1e-9))


def row(config: RunConfig, dataset: Dataset, seeds: Sequence[int]) -> list[str]:
    """Return a row of the table.

    Parameters
    ----------
    config : RunConfig
        The settings that both runs of a seed share.
    dataset : Dataset
        The data set.
    seeds : sequence of int
        The seeds, at least two.
    """
    pairs = []
    for seed in seeds:
        settings = replace(config, seed=seed)
        pairs.append((run(settings, dataset), run(replace(settings, optimizer=AUTO), dataset)))
    apart = [measured.accuracy - searched.accuracy for searched, measured in pairs]
    half = _student(len(apart) - 1) * stdev(apart) / math.sqrt(len(apart))
    mean = fmean(apart)
    return [
        config.model,
        config.data,
        str(config.estimator),
        f"{config.steps:,}",
        f"{fmean(searched.accuracy for searched, _ in pairs):.2f}",
        f"{fmean(measured.accuracy for _, measured in pairs):.2f}",
        f"{mean:+.2f} [{mean - half:+.2f}, {mean + half:+.2f}]",
        f"{fmean(measured.rate / searched.rate for searched, measured in pairs):.2g}",
        f"{100 * fmean(measured.share for _, measured in pairs):.1f}",
    ]


def _student(degrees: int) -> float:
    """Return the quantile of Student's t for an interval of LEVEL."""
    # Not at the top: SciPy is for tests and benchmarks alone.
    from scipy.special import stdtrit

    return float(stdtrit(degrees, (1 + LEVEL) / 2))


@click.command()
@click.option("--model", default="mlp", metavar="NAME", help="Model.  [default: mlp]")
@click.option("--data", default="digits", metavar="NAME", help="Data set.  [default: digits]")
@click.option("--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Folder of its files.")
@click.option(
    "--estimators",
    default="feedback,local-feedback,activity,weight-perturbation",
    metavar="NAME,...",
    help="Estimators, separated by commas.  [default: feedback, local-feedback, activity, weight-perturbation]",
)
@click.option("--directions", type=int, metavar="T", help="Directions of weight perturbation.")
@click.option("--steps", type=int, default=1000, metavar="N", help="Number of steps.  [default: 1000]")
@click.option("--seeds", type=int, default=5, metavar="N", help="Number of seeds, at least 2.  [default: 5]")
def command(
    model: str,
    data: str,
    data_dir: Path | None,
    estimators: str,
    directions: int | None,
    steps: int,
    seeds: int,
) -> None:
    """Compare measured learning rates with those of the searches."""
    if seeds < 2:
        raise click.ClickException(f"seeds is {seeds}; at least 2 are required")
    try:
        dataset = load(data, data_dir=None if data_dir is None else str(data_dir))
        print("| " + " | ".join(HEADS) + " |")
        print("|" + " --- |" * len(HEADS))
        for name in estimators.split(","):
            config = RunConfig(
                model=model,
                data=data,
                data_dir=None if data_dir is None else str(data_dir),
                estimator=name,
                directions=directions if name == "weight-perturbation" else None,
                steps=steps,
                device="cpu",
            )
            print("| " + " | ".join(row(config, dataset, range(seeds))) + " |", flush=True)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None
    print(f"\nOn {machine.facts()['processor']}.")


if __name__ == "__main__":
    command()
