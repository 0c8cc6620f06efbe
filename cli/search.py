"""``fgtrain search``."""

from pathlib import Path
from typing import Any

import click

from fgnumba.cli.message import say, show
from fgnumba.cli.options import FILE, shared
from fgnumba.cli.progress import interruptible, spinner
from fgnumba.cli.signals import Ended


@click.command()
@click.option(
    "--estimator", metavar="NAME", help="As `fgtrain train` takes it.  [default: what suits the model]"
)
@shared("direction", "directions", "optimizer", "momentum", "nesterov", "weight_decay", "clip_norm", "radius")
@shared("model", "widths", "data", "data_dir", "batch_size", "seed", "device", "config")
@click.option("--lowest", type=float, default=1e-5, metavar="X", help="Least learning rate.  [default: 1e-5]")
@click.option("--highest", type=float, default=1.0, metavar="X", help="Greatest learning rate.  [default: 1]")
@click.option("--count", type=int, default=16, metavar="N", help="Learning rates.  [default: 16]")
@click.option("--falls", default="4", metavar="X,X,...", help="Powers of e that they fall by.  [default: 4]")
@click.option("--steps", type=int, default=2000, metavar="N", help="Of the longest runs.  [default: 2000]")
@click.option("--out", type=FILE, metavar="FILE", help="Finished trials; the same search goes on from them.")
def search(
    lowest: float,
    highest: float,
    count: int,
    falls: str,
    steps: int,
    out: Path | None,
    config: Path | None,
    **options: Any,
) -> None:
    """Search a learning rate, and how far it falls, by successive halving.

    Judged by a tenth of the training data, which is held out. Prints the trials and the options for `fgtrain train`.
    """
    import fgnumba as fg
    from fgnumba.bench.learning.compare_estimators import recipe_of
    from fgnumba.errors import printable
    from fgnumba.runs.assembly import written_model
    from fgnumba.runs.configuration import RunConfig
    from fgnumba.runs.search import HELD_OUT, Ledger, Search, Trial
    from fgnumba.runs.search import search as run

    try:
        powers = tuple(float(part) for part in falls.split(","))
    except ValueError:
        raise fg.ConfigError(f"falls is {falls!r}; numbers with commas between are required") from None
    what = Search(lowest, highest, count, powers, steps)
    settings = RunConfig() if config is None else RunConfig.from_toml(config)
    settings = settings.updated({name: value for name, value in options.items() if value is not None})
    dataset = fg.datasets.load(settings.data, data_dir=settings.data_dir)
    # What is refused leaves no file.
    written_model(settings, dataset.classes)
    chosen = recipe_of(settings.estimator) if settings.estimator else None
    # Not where the data lie, but how many there are.
    facts = {name: value for name, value in settings.settings().items() if name != "data_dir"}
    facts |= {"version": fg.__version__, "examples": len(dataset.x_train), "held_out": HELD_OUT}
    ledger = Ledger(out, facts) if out else None
    total = sum(number for number, _ in what.rungs())
    done = 0
    with interruptible(spinner(f"{total} trials")) as advance:

        def tell(trial: Trial) -> None:
            nonlocal done
            done += 1
            if ledger:
                try:
                    ledger.add(trial)
                except OSError as error:
                    say(printable(f"{out}: {error.strerror or error}; the search goes on"))
            advance(f"{done} of {total} trials: {_shown(trial)}")

        try:
            found = run(settings, dataset, what, ledger.trials if ledger else (), tell, chosen)
        except Ended as ended:
            raise Ended(ended.number, "the same command goes on from here" if ledger else "") from None
    lines = [f"{'steps':>7}  {'learning rate':>13}  {'falls by e to':>13}  {'accuracy':>8}  {'loss':>8}"]
    for trial in found:
        outcome = "diverged" if trial.accuracy is None else f"{trial.accuracy:8.4f}  {trial.loss:8.4f}"
        lines.append(f"{trial.steps:7}  {trial.learning_rate:13g}  {trial.fall:13g}  {outcome}")
    show("\n".join(lines))
    best = found[0]
    if best.accuracy is None:
        raise fg.DivergenceError("every trial of the last rung diverged; search lower learning rates")
    decay = best.fall / best.steps
    show(f"best: --learning-rate {best.learning_rate:g} --steps {best.steps} --decay {decay:.4g}")


def _shown(trial: Any) -> str:
    outcome = "diverged" if trial.accuracy is None else f"accuracy {trial.accuracy:.4f}"
    return f"{trial.learning_rate:g}, {trial.steps} steps, {outcome}"
