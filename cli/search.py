"""``fgtrain search``: search the learning rate of an estimator on a model and data set."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fgnumba.cli.message import say, show
from fgnumba.cli.options import FILE, examples, shared
from fgnumba.cli.sections import SECTIONS, Sectioned
from fgnumba.cli.signals import Ended

if TYPE_CHECKING:
    from fgnumba.runs.search import Trial


@click.command(
    cls=Sectioned,
    sections={"Search": ("lowest", "highest", "count", "falls", "steps", "out"), **SECTIONS},
    epilog=examples(
        "fgtrain search",
        "fgtrain search --model cnn --data mnist --estimator activity",
        "fgtrain search --lowest 1e-4 --highest 1e-1 --count 8 --out trials.jsonl",
        "fgtrain search --json > trials.json",
    ),
)
@shared("estimator")
@shared("direction", "directions", "optimizer", "momentum", "nesterov", "weight_decay", "clip_norm", "radius")
@shared("model", "widths", "data", "data_dir", "batch_size", "seed", "device", "config")
@click.option(
    "--lowest", type=float, default=1e-5, metavar="X", help="Lowest learning rate to try.  [default: 1e-5]"
)
@click.option(
    "--highest", type=float, default=1.0, metavar="X", help="Highest learning rate to try.  [default: 1]"
)
@click.option(
    "--count",
    type=int,
    default=16,
    metavar="N",
    help="Number of learning rates, evenly spaced on a logarithmic scale.  [default: 16]",
)
@click.option(
    "--falls",
    default="4",
    metavar="X,X,...",
    help="Decays to try with each learning rate, separated by commas: with X, the learning rate falls by the "
    "factor exp(X) from the first step to the last.  [default: 4, a factor of about 55]",
)
@click.option(
    "--steps",
    type=int,
    default=2000,
    metavar="N",
    help="Number of steps in the longest trials, those of the last round.  [default: 2000]",
)
@click.option(
    "--out",
    type=FILE,
    metavar="FILE",
    help="File of finished trials, one JSON object on each line. The same search, run again with the same "
    "file, does not repeat them.  [default: they are not written]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object in place of a table: trials, the best first, and the settings of the best one.",
)
def search(
    lowest: float,
    highest: float,
    count: int,
    falls: str,
    steps: int,
    out: Path | None,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Search for the best learning rate by successive halving.

    Many learning rates are tried in short runs. The best third is tried again in runs three times as long, and so on,
    until one or two are left. Each trial is judged on a tenth of the training data, which is held out; the test data
    are not used.

    The command prints all trials, and the options of `fgtrain train` that use the best one.
    """
    import fgnumba as fg
    from fgnumba.bench.learning.compare_estimators import recipe_of
    from fgnumba.cli.progress import interruptible, spinner
    from fgnumba.errors import printable
    from fgnumba.runs.assembly import written_model
    from fgnumba.runs.configuration import RunConfig
    from fgnumba.runs.search import HELD_OUT, Ledger, Search, Trial
    from fgnumba.runs.search import search as run

    try:
        powers = tuple(float(part) for part in falls.split(","))
    except ValueError:
        raise fg.ConfigError(f"falls is {falls!r}; numbers with commas between are required") from None
    ladder = Search(lowest, highest, count, powers, steps)
    settings = RunConfig() if config is None else RunConfig.from_toml(config)
    settings = settings.updated({name: value for name, value in options.items() if value is not None})
    dataset = fg.datasets.load(settings.data, data_dir=settings.data_dir)
    # A model that cannot be built is reported before the file of trials is created.
    written_model(settings, dataset.outputs)
    recipe = recipe_of(settings.estimator) if settings.estimator else None
    # The file belongs to these settings. The data may move, but their number must stay.
    facts = {name: value for name, value in settings.settings().items() if name != "data_dir"}
    facts |= {"version": fg.__version__, "examples": len(dataset.x_train), "held_out": HELD_OUT}
    ledger = Ledger(out, facts) if out else None
    total = sum(number for number, _ in ladder.rungs())
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
            trials = run(settings, dataset, ladder, ledger.trials if ledger else (), tell, recipe)
        except Ended as ended:
            raise Ended(ended.number, "run the same command again to continue" if ledger else "") from None
    if not as_json:
        show(_table(trials))
    best = trials[0]
    if best.accuracy is None:
        raise fg.DivergenceError("every trial of the last round diverged; search lower learning rates")
    chosen = {"learning_rate": best.learning_rate, "steps": best.steps, "decay": best.fall / best.steps}
    if as_json:
        show(json.dumps({"trials": [asdict(trial) for trial in trials], "best": chosen}))
    else:
        show(
            f"best: --learning-rate {best.learning_rate:g} --steps {best.steps} --decay {chosen['decay']:.4g}"
        )


def _table(trials: Sequence["Trial"]) -> str:
    lines = [f"{'steps':>7}  {'learning rate':>13}  {'falls by e to':>13}  {'accuracy':>8}  {'loss':>8}"]
    for trial in trials:
        outcome = "diverged" if trial.accuracy is None else f"{trial.accuracy:8.4f}  {trial.loss:8.4f}"
        lines.append(f"{trial.steps:7}  {trial.learning_rate:13g}  {trial.fall:13g}  {outcome}")
    return "\n".join(lines)


def _shown(trial: "Trial") -> str:
    outcome = "diverged" if trial.accuracy is None else f"accuracy {trial.accuracy:.4f}"
    return f"{trial.learning_rate:g}, {trial.steps} steps, {outcome}"
