"""``fgtrain search``: search the learning rate of an estimator on a model and data set."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fgnumba.cli.completion import names
from fgnumba.cli.message import say, show
from fgnumba.cli.options import FILE, examples, shared, trust_the_user
from fgnumba.cli.sections import SECTIONS, Sectioned
from fgnumba.cli.signals import Ended

ENGINES = ("halving", "optuna")

if TYPE_CHECKING:
    from fgnumba.datasets import Dataset
    from fgnumba.estimators import Recipe
    from fgnumba.runs.configuration import RunConfig
    from fgnumba.runs.jobs import Mapper
    from fgnumba.runs.search import Search, Trial


@click.command(
    cls=Sectioned,
    sections={
        "Search": (
            *("lowest", "highest", "engine", "count", "trials", "falls", "steps"),
            *("jobs", "out"),
        ),
        **SECTIONS,
    },
    epilog=examples(
        "fgtrain search",
        "fgtrain search --model cnn --data mnist --estimator activity",
        "fgtrain search --lowest 1e-4 --highest 1e-1 --count 8 --out trials.jsonl",
        "fgtrain search --engine optuna --trials 40 --jobs 2",
        "fgtrain search --json > trials.json",
    ),
)
@shared("estimator")
@shared("direction", "directions", "optimizer", "momentum", "nesterov", "weight_decay", "clip_norm", "radius")
@shared(
    *(
        "model",
        "widths",
        "data",
        "data_dir",
        "target",
        "drop",
        "symbols",
        "context",
        "loss",
        "augment",
        "batch_size",
    ),
    *("schedule", "warmup", "seed", "device", "precision", "tangent_precision", "config"),
)
@click.option(
    "--lowest", type=float, default=1e-5, metavar="X", help="Lowest learning rate to try.  [default: 1e-5]"
)
@click.option(
    "--highest", type=float, default=1.0, metavar="X", help="Highest learning rate to try.  [default: 1]"
)
@click.option(
    "--engine",
    default="halving",
    metavar="NAME",
    shell_complete=names(ENGINES),
    help="What chooses the trials: halving (successive halving), or optuna, whose sampler suggests each trial "
    "from the outcomes of those before; it needs `pip install 'fgnumba[optuna]'`.  [default: halving]",
)
@click.option(
    "--count",
    type=int,
    metavar="N",
    help="Number of learning rates that halving tries, evenly spaced on a logarithmic scale.  [default: 16]",
)
@click.option(
    "--trials",
    type=int,
    metavar="N",
    help="Number of trials that optuna makes, those in the file of --out included.  [default: 40]",
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
    help="Number of steps in the longest trials: those of the last round of halving, those of optuna that are not "
    "pruned.  [default: 2000]",
)
@shared("trust_code", "jobs")
@click.option(
    "--out",
    type=FILE,
    metavar="FILE",
    help="File of trials, one JSON object on each line: for optuna, a journal that Optuna's own tools read. The "
    "same search, run again with the same file, does not repeat what has ended.  [default: they are not written]",
)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object in place of a table: trials, the best first, and the settings of the best one.",
)
def search(
    engine: str,
    lowest: float,
    highest: float,
    count: int | None,
    trials: int | None,
    falls: str,
    steps: int,
    jobs: int,
    out: Path | None,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Search for the best learning rate.

    By default by successive halving: many learning rates are tried in short runs. The best third is tried again in runs
    three times as long, and so on, until one or two are left. With `--engine optuna`, each trial is suggested from the
    outcomes of those before, and is ended early if it is worse than most were at the same step.

    Each trial is judged on a tenth of the training data, which is held out: by its accuracy, or by its loss where
    targets are real numbers or the data are a text. The test data are not used. The command prints all trials, and the
    options of `fgtrain train` that use the best one.
    """
    import fgnumba as fg
    from fgnumba.bench.learning.compare_estimators import recipe_of
    from fgnumba.errors import did_you_mean, shown
    from fgnumba.runs.assembly import written_model
    from fgnumba.runs.configuration import RECIPES, RECIPES_VERSION, RENAMED, configured
    from fgnumba.runs.data import load_data
    from fgnumba.runs.jobs import mapper_of
    from fgnumba.runs.search import HELD_OUT, Search
    from fgnumba.training.arithmetic import arithmetic_of

    if engine not in ENGINES:
        raise fg.ConfigError(f"engine: unknown engine {shown(engine)}{did_you_mean(engine, ENGINES)}")
    for name, given, owner in (("count", count, "halving"), ("trials", trials, "optuna")):
        if given is not None and engine != owner:
            raise fg.ConfigError(f"{name} is {given}, and the engine {engine} has none; {owner} has")
    try:
        powers = tuple(float(part) for part in falls.split(","))
    except ValueError:
        raise fg.ConfigError(f"falls is {falls!r}; numbers with commas between are required") from None
    what = Search(lowest, highest, 16 if count is None else count, powers, steps)
    mapper = mapper_of(jobs)
    settings = configured(config, {name: value for name, value in options.items() if value is not None})
    if settings.optimizer == "auto":
        raise fg.ConfigError(
            "optimizer is 'auto', which measures its learning rate: there is none to search; another is required"
        )
    trust_the_user()
    dataset = load_data(settings)
    # A model that cannot be built is reported before the file of trials is created.
    written_model(settings, dataset.outputs)
    recipe = recipe_of(settings.estimator) if settings.estimator else None
    # The file belongs to these settings. The data may move, but their number must stay.
    other = ("data_dir", "precision", "tangent_precision")
    facts = {name: value for name, value in settings.settings().items() if name not in other}
    device = fg.device.resolve(settings.device, settings.precision, settings.tangent_precision)
    # Files of earlier versions, whose products were in float32, name no precision.
    facts |= {} if set(device.precisions) == {"float32"} else arithmetic_of(device)
    facts |= {"version": fg.__version__, "examples": len(dataset.x_train), "held_out": HELD_OUT}
    if settings.estimator is None or settings.estimator in RENAMED:
        # Under this name, or by default, a file of an earlier version has trials of another estimator.
        facts[RECIPES] = RECIPES_VERSION
    try:
        if engine == "halving":
            _halve(settings, dataset, what, out, facts, recipe, mapper, as_json)
        else:
            _ask_optuna(
                settings, dataset, what, 40 if trials is None else trials, out, facts, recipe, mapper, as_json
            )
    except Ended as ended:
        raise Ended(ended.number, "run the same command again to continue" if out else "") from None


def _halve(
    settings: "RunConfig",
    dataset: "Dataset",
    what: "Search",
    out: Path | None,
    facts: dict[str, Any],
    recipe: "Recipe | None",
    mapper: "Mapper",
    as_json: bool,
) -> None:
    from fgnumba.cli.progress import interruptible, spinner
    from fgnumba.errors import printable
    from fgnumba.runs.search import Ledger, Trial
    from fgnumba.runs.search import search as run

    ledger = Ledger(out, facts) if out else None
    total, done = sum(number for number, _ in what.rungs()), 0
    with interruptible(spinner(f"{total} trials")) as advance:

        def tell(trial: Trial) -> None:
            nonlocal done
            done += 1
            if ledger:
                try:
                    ledger.add(trial)
                except OSError as error:
                    say(printable(f"{out}: {error.strerror or error}; the search goes on"))
            advance(f"{done} of {total} trials: {_shown(trial, trial.steps)}")

        trials = run(settings, dataset, what, ledger.trials if ledger else (), tell, recipe, mapper)
    _report([(trial, trial.steps) for trial in trials], "every trial of the last round", as_json)


def _ask_optuna(
    settings: "RunConfig",
    dataset: "Dataset",
    what: "Search",
    total: int,
    out: Path | None,
    facts: dict[str, Any],
    recipe: "Recipe | None",
    mapper: "Mapper",
    as_json: bool,
) -> None:
    from fgnumba.cli.progress import interruptible, spinner
    from fgnumba.runs import optuna_search

    done = 0
    with interruptible(spinner(f"{total} trials")) as advance:

        def tell(ended: optuna_search.Finished) -> None:
            nonlocal done
            done += 1
            advance(f"{done} of {total} trials: {_shown(ended.trial, ended.taken)}")

        found = optuna_search.search_with_optuna(
            settings, dataset, what, total, out, facts, tell, recipe, mapper
        )
    _report([(ended.trial, ended.taken) for ended in found], "every trial", as_json)


def _report(trials: "Sequence[tuple[Trial, int]]", all_of_them: str, as_json: bool) -> None:
    """Print all trials, each with the number of steps that it took, and the settings of the first, the best."""
    from fgnumba.errors import DivergenceError

    if not as_json:
        show(_table(trials))
    best = trials[0][0]
    if best.loss is None:
        raise DivergenceError(f"{all_of_them} diverged; search lower learning rates")
    chosen = {"learning_rate": best.learning_rate, "steps": best.steps, "decay": best.fall / best.steps}
    if as_json:
        show(
            json.dumps(
                {"trials": [asdict(trial) | {"taken": taken} for trial, taken in trials], "best": chosen}
            )
        )
    else:
        show(
            f"best: --learning-rate {best.learning_rate:g} --steps {best.steps} --decay {chosen['decay']:.4g}"
        )


def _table(trials: "Sequence[tuple[Trial, int]]") -> str:
    # Real targets have losses alone.
    accuracies = any(trial.accuracy is not None for trial, _ in trials)
    head = f"{'steps':>7}  {'learning rate':>13}  {'falls by e to':>13}"
    lines = [head + f"  {'accuracy':>8}" * accuracies + f"  {'loss':>8}"]
    for trial, taken in trials:
        figures = [trial.accuracy] * accuracies + [trial.loss]
        outcome = "diverged" if trial.loss is None else "  ".join(f"{figure:8.4f}" for figure in figures)
        outcome += f"  pruned of {trial.steps} steps" if _pruned(trial, taken) else ""
        lines.append(f"{taken:7}  {trial.learning_rate:13g}  {trial.fall:13g}  {outcome}")
    return "\n".join(lines)


def _pruned(trial: "Trial", taken: int) -> bool:
    return trial.loss is not None and taken < trial.steps


def _shown(trial: "Trial", taken: int) -> str:
    if trial.loss is None:
        outcome = "diverged"
    else:
        outcome = f"loss {trial.loss:.4f}" if trial.accuracy is None else f"accuracy {trial.accuracy:.4f}"
    return f"{trial.learning_rate:g}, {taken} steps, {outcome}" + (", pruned" * _pruned(trial, taken))
