"""Gauss-Newton steps in the span of directions: ``python -m fgnumba.bench.learning.subspace``.

Learning: a perceptron of one hidden layer learns MNIST by weight perturbation alone, with ``subspace-gauss-newton`` and
with the mean of as many directions, whose rates are searched; the accuracy on the test data and the seconds of the
steps are printed. Steps: a step is timed beside JAX's with Gaussian directions, where JAX is installed, in turn.
"""

import time
from pathlib import Path
from statistics import fmean

import click
import numpy as np

import fgnumba as fg
from fgnumba.bench.measure import machine
from fgnumba.bench.measure.subspace_peers import jax_step
from fgnumba.bench.measure.timing import Contender, interleaved
from fgnumba.datasets import Dataset, load
from fgnumba.errors import ConfigError
from fgnumba.runs.assembly import assemble
from fgnumba.runs.configuration import RunConfig
from fgnumba.training.sources import batches_of

WIDTH = 100
SETTINGS = {
    "subspace-gauss-newton": (None,),
    # The rates of the mean: the default, and a third and thrice as much.
    "weight-perturbation": (1.0, 1 / 3, 3.0),
}


def learned(config: RunConfig, dataset: Dataset) -> tuple[float, float]:
    """Train as a configuration says, and return the test accuracy in per cent and the seconds of the steps.

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
    batches = batches_of(ready.model, dataset, config.batch_size, config.seed)
    trainer.step(*next(batches))
    seconds = 0.0
    for _ in range(steps - 1):
        batch = next(batches)
        start = time.perf_counter()
        trainer.step(*batch)
        seconds += time.perf_counter() - start
    return 100 * fg.evaluate(ready.model, dataset).accuracy, seconds


def timed(directions: int, batch: int) -> str:
    """Return a line with the time of a step, and its ratio to that of JAX where that is installed.

    Parameters
    ----------
    directions : int
        Number of directions T.
    batch : int
        Number of examples B.
    """
    rng = np.random.default_rng(0)
    x, y = rng.random((batch, 784), np.float32), rng.integers(0, 10, batch)
    model = fg.Sequential([fg.Dense(WIDTH, "relu"), fg.Dense(10)], 784, seed=0)
    trainer = fg.Trainer(
        model, estimator=fg.SubspaceGaussNewton(directions=directions), optimizer=fg.SGD(1e-3, momentum=0.9)
    )
    contenders: dict[str, Contender] = {"fgnumba": lambda: trainer.step(x, y)}
    try:
        peer = jax_step((784, WIDTH, 10), directions, 1e4, 1e-3)
    except ModuleNotFoundError:
        pass
    else:
        contenders["jax"] = lambda: peer(x, y)
    timings = interleaved(contenders, rounds=9)
    line = f"T = {directions}, B = {batch}: a step of {1e3 * timings.seconds('fgnumba'):.3g} ms"
    if "jax" not in contenders:
        return f"{line} (JAX is not installed)"
    return f"{line}, JAX's with Gaussian directions {timings.interval('jax', 'fgnumba')} times as long"


@click.command()
@click.option("--data-dir", type=click.Path(path_type=Path), metavar="DIR", help="Folder of MNIST's files.")
@click.option("--directions", type=int, default=128, metavar="T", help="Directions.  [default: 128]")
@click.option("--batch-size", type=int, default=256, metavar="B", help="Batch size.  [default: 256]")
@click.option("--steps", type=int, default=13_000, metavar="N", help="Number of steps.  [default: 13000]")
@click.option("--seeds", type=int, default=3, metavar="N", help="Number of seeds.  [default: 3]")
@click.option("--times-only", is_flag=True, help="Time steps, and train nothing.")
def command(
    data_dir: Path | None, directions: int, batch_size: int, steps: int, seeds: int, times_only: bool
) -> None:
    """Train by Gauss-Newton steps in the span of directions, and time a step."""
    print(f"On {machine.facts()['processor']}.")
    for count, batch in ((16, 64), (directions, batch_size), (512, 512)):
        print(timed(count, batch), flush=True)
    if times_only:
        return
    try:
        dataset = load("mnist", data_dir=None if data_dir is None else str(data_dir))
        for name, factors in SETTINGS.items():
            for factor in factors:
                _print_learned(name, factor, dataset, data_dir, directions, batch_size, steps, seeds)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


def _print_learned(
    name: str,
    factor: float | None,
    dataset: Dataset,
    data_dir: Path | None,
    directions: int,
    batch_size: int,
    steps: int,
    seeds: int,
) -> None:
    found = []
    for seed in range(seeds):
        config = RunConfig(
            model="mlp",
            widths=(WIDTH,),
            data="mnist",
            data_dir=None if data_dir is None else str(data_dir),
            estimator=name,
            directions=directions,
            batch_size=batch_size,
            steps=steps,
            seed=seed,
            device="cpu",
        )
        if factor is not None:
            rate = assemble(config, dataset).config.learning_rate
            assert rate is not None
            config = config.updated({"learning_rate": factor * rate})
        found.append(learned(config, dataset))
    accuracy, seconds = (fmean(values) for values in zip(*found, strict=True))
    rate_text = "" if factor is None else f", {factor:.2g} of the default rate"
    each = ", ".join(f"{one:.2f}" for one, _ in found)
    print(f"{name}{rate_text}: {accuracy:.2f} % ({each}) in {steps:,} steps, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    command()
