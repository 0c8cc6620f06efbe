"""Learning curves of the defaults by precision: ``python -m fgnumba.bench.precision.learning``.

Trains as ``fgtrain train`` does with no option (but to the last step, so that all curves have the same steps) once a
seed and setting of precisions. A seed decides the initial parameters, the order of the data and the noise, so that the
runs of a seed differ by the precision alone. Printed are the mean test accuracy by steps, and the mean of the paired
differences from float32 with its 95 % interval by Student's t, once for the last evaluation and once for the mean over
all of them.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple

import click

from fgnumba.bench.learning.compare_estimators import Budget, compare_recipes
from fgnumba.bench.learning.curves import Curve
from fgnumba.bench.measure import machine
from fgnumba.bench.measure.files import write
from fgnumba.bench.precision.settings import BF16, MIXED, Setting, possible
from fgnumba.datasets import load
from fgnumba.estimators import recipe
from fgnumba.kernels.emit.precision import FLOAT32
from fgnumba.runs.assembly import assemble
from fgnumba.runs.configuration import RunConfig

SETTINGS = (*(Setting(name) for name in (FLOAT32, "bf16x3", "bf16x2", BF16)), MIXED)
"""The settings that are compared, float32 first."""

SEEDS, EVALUATIONS = 8, 10
LEVEL = 0.95
"""Level of each interval; no allowance is made for the number of intervals."""


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences, and the ends of its interval.

    Parameters
    ----------
    mean : float
        The mean.
    low, high : float
        The ends.
    """

    mean: float
    low: float
    high: float


class Quantity(NamedTuple):
    """A number of a run that is compared.

    Parameters
    ----------
    name : str
        What it is.
    of : callable
        Returns it for a curve.
    """

    name: str
    of: Callable[[Curve], float]


QUANTITIES = (
    Quantity("last accuracy, %", lambda curve: 100 * curve.accuracies[-1]),
    Quantity("mean accuracy, %", lambda curve: 100 * fmean(curve.accuracies[1:])),
    Quantity("last loss", lambda curve: curve.losses[-1]),
    Quantity("mean loss", lambda curve: fmean(curve.losses[1:])),
)
"""What is compared of two curves. Means are over all evaluations after the first step."""


def student(level: float, degrees: int) -> float:
    """Return the quantile of Student's t between whose negative and itself lies a share of the distribution.

    It is right to 0.0005 from 7 degrees of freedom on, for a share of 0.95.
    Source: M. Abramowitz, I. Stegun, Handbook of Mathematical Functions, 26.7.5.

    Parameters
    ----------
    level : float
        The share.
    degrees : int
        Degrees of freedom.
    """
    z = NormalDist().inv_cdf((1 + level) / 2)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return sum(term / degrees**power for power, term in enumerate(terms))


def paired(values: Sequence[float], others: Sequence[float]) -> Difference:
    """Return the mean of `values` less `others`, which are of the same seeds in the same order, and its interval.

    Parameters
    ----------
    values, others : sequence of float
        A number for each seed.
    """
    apart = [one - other for one, other in zip(values, others, strict=True)]
    mean = fmean(apart)
    half = student(LEVEL, len(apart) - 1) * stdev(apart) / math.sqrt(len(apart))
    return Difference(mean, mean - half, mean + half)


def run(
    seeds: int = SEEDS, steps: int | None = None, advance: Callable[[str], None] = lambda what: None
) -> dict[str, Any]:
    """Train every setting that this processor has, and return the curves and differences as JSON values.

    Parameters
    ----------
    seeds : int
        Number of seeds, at least 2.
    steps : int, optional
        Number of steps. None (the default): what ``fgtrain train`` takes at most.
    advance : callable
        Called with a description of what is done next. Default: ignores it.
    """
    dataset = load("digits")
    defaults = assemble(RunConfig(device="cpu", precision=FLOAT32), dataset).config
    steps = steps or defaults.steps
    assert steps is not None
    assert defaults.estimator is not None
    settings = [setting for setting in SETTINGS if possible(setting)]
    entries = {
        str(setting): (
            recipe(defaults.estimator),
            defaults.updated(
                {
                    "precision": setting.precision,
                    "tangent_precision": setting.tangent_precision or setting.precision,
                }
            ),
        )
        for setting in settings
    }
    result = compare_recipes(
        entries, dataset, Budget("steps", steps), seeds=seeds, evaluations=EVALUATIONS, advance=advance
    )
    exact = result.of(FLOAT32)
    differences = {
        name: {
            quantity.name: asdict(
                paired([quantity.of(c) for c in result.of(name)], [quantity.of(c) for c in exact])
            )
            for quantity in QUANTITIES
        }
        for name in entries
        if name != FLOAT32
    }
    means = {
        name: [fmean(each) for each in zip(*(curve.accuracies for curve in result.of(name)), strict=True)]
        for name in entries
    }
    return {
        "machine": machine.facts(),
        "seeds": seeds,
        "steps": exact[0].steps,
        "accuracies": means,
        "differences": differences,
        "curves": [asdict(curve) for curve in result.curves],
    }


def as_text(report: dict[str, Any]) -> str:
    """Return a report as Markdown: the mean accuracies by steps, and the differences from float32.

    Parameters
    ----------
    report : dict
        The report, as :func:`run` returns it.
    """
    facts, steps = report["machine"], report["steps"][1:]
    lines = [f"{facts['processor']}, {facts['instruction_set']}; {report['seeds']} seeds", ""]
    lines += ["| test accuracy, %, after steps | " + " | ".join(map(str, steps)) + " |"]
    lines += ["| --- |" + " --- |" * len(steps)]
    for name, values in report["accuracies"].items():
        lines.append(f"| `{name}` | " + " | ".join(f"{100 * value:.2f}" for value in values[1:]) + " |")
    heads = [quantity.name for quantity in QUANTITIES]
    lines += ["", "| less float32's | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for name, found in report["differences"].items():
        cells = (f"{d['mean']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]" for d in map(found.get, heads))
        lines.append(f"| `{name}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


@click.command()
@click.option(
    "--seeds",
    type=click.IntRange(2),
    default=SEEDS,
    help=f"Number of runs of each precision.  [default: {SEEDS}]",
)
@click.option("--steps", type=click.IntRange(1), help="Number of steps.  [default: that of fgtrain train]")
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write all curves to this file as JSON.",
)
def command(seeds: int, steps: int | None, file: Path | None) -> None:
    """Compare learning curves of the defaults on the digits by precision, with paired seeds."""
    report = run(seeds, steps, lambda what: click.echo(what, err=True))
    if file is not None:
        write(file, json.dumps(report, indent=1) + "\n")
    click.echo(as_text(report))


if __name__ == "__main__":
    command()
