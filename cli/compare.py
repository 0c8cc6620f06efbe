"""``fgtrain compare``: train with several gradient estimators at an equal budget."""

from pathlib import Path
from typing import Any

import click

from fgnumba.cli import completion
from fgnumba.cli.options import FOLDER, Columns, examples, joined, shared, trust_the_user
from fgnumba.cli.sections import SECTIONS, Sectioned

DEFAULT = "feedback,local-feedback,activity-layerwise,weight-perturbation,reverse-mode"
FOR_STREAMS, FOR_WINDOWS = "rtrl,weight-perturbation", "block-feedback,weight-perturbation"
"""What is compared on texts that a model reads as streams, or in windows."""


@click.command(
    cls=Sectioned,
    sections={
        "Comparison": (
            *("estimators", "seeds", "steps", "seconds", "products", "evaluations", "target"),
            *("jobs", "out"),
        ),
        **SECTIONS,
        "Data": ("data", "data_dir", "column", "drop"),
    },
    epilog=examples(
        "fgtrain compare",
        "fgtrain compare --target 0.95 --seeds 3",
        "fgtrain compare --seeds 4 --jobs 2",
        "fgtrain compare --estimators feedback,reverse-mode --model cnn --seconds 60",
    ),
)
@click.option(
    "--estimators",
    shell_complete=completion.listed((*completion.ESTIMATORS, completion.REVERSE_MODE)),
    metavar="NAME,...",
    help="Estimators to compare, separated by commas: names that `fgtrain info` lists, and reverse-mode "
    f"(backpropagation).  [default: {DEFAULT.replace(',', ', ')}; for a text {FOR_STREAMS.replace(',', ', ')}, or for "
    f"a model of windows {FOR_WINDOWS.replace(',', ', ')}]",
)
@shared(
    "model",
    "widths",
    "data",
    "data_dir",
    "drop",
    "symbols",
    "context",
    "loss",
    "direction",
    "directions",
    "optimizer",
    "learning_rate",
    "decay",
    "schedule",
    "warmup",
)
@click.option(
    "--column",
    type=Columns(),
    multiple=True,
    callback=joined,
    help="Column of a table that is to be predicted: what `fgtrain train` calls --target, which is an accuracy here.  "
    "[default: the data are no table]",
)
@shared(
    "momentum",
    "nesterov",
    "weight_decay",
    "clip_norm",
    "radius",
    "augment",
    "batch_size",
    "seed",
    "config",
    "trust_code",
)
@click.option(
    "--seeds",
    type=int,
    default=1,
    metavar="N",
    help="Number of runs of each estimator, with the seeds SEED, SEED + 1, ....  [default: 1]",
)
@click.option(
    "--steps", type=int, metavar="N", help="Budget of each run: a number of training steps.  [default: 2000]"
)
@click.option(
    "--seconds",
    type=float,
    metavar="X",
    help="Budget of each run: seconds of training, evaluations not counted. Give one budget.",
)
@click.option(
    "--products",
    type=float,
    metavar="X",
    help="Budget of each run: a number of multiply-adds, such as 1e12. Give one budget.",
)
@click.option(
    "--evaluations",
    type=int,
    default=20,
    metavar="N",
    help="Number of evaluations of each run, the points of its curves.  [default: 20]",
)
@click.option(
    "--target",
    type=float,
    metavar="X",
    help="Report how many steps and seconds each estimator took to reach the test accuracy X, such as 0.95.",
)
@shared("jobs")
@click.option(
    "--out",
    type=FOLDER,
    metavar="DIR",
    help="Folder to write data.json and figure.svg into; it must not hold a result already.  "
    "[default: compared/DATA-MODEL; compared/DATA-MODEL-2, -3, ... if it does]",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print what data.json holds, and the folder, as one JSON object."
)
def compare(
    estimators: str | None,
    seeds: int,
    steps: int | None,
    seconds: float | None,
    products: float | None,
    evaluations: int,
    target: float | None,
    column: str | tuple[str, ...] | None,
    jobs: int,
    out: Path | None,
    config: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Train a model with several estimators at an equal budget.

    The budget is a number of steps, of seconds, or of multiply-adds. Each estimator uses the optimizer and the learning
    rate that a search found for it. The command prints a table of losses and accuracies, and writes all curves to
    data.json and figure.svg.
    """
    import fgnumba as fg
    from fgnumba.bench.learning.compare_estimators import Budget
    from fgnumba.bench.learning.compare_estimators import compare as run
    from fgnumba.cli.output import leave, results_folder
    from fgnumba.cli.progress import interruptible, spinner
    from fgnumba.runs.assembly import written_model
    from fgnumba.runs.configuration import configured, named
    from fgnumba.runs.data import load_data, with_loss
    from fgnumba.runs.jobs import mapper_of
    from fgnumba.runs.presets import TEXT_MODELS
    from fgnumba.runs.text_settings import is_text, reads_windows
    from fgnumba.training.names import loss_of

    given = {"steps": steps, "seconds": seconds, "products": products}
    budgets = {kind: amount for kind, amount in given.items() if amount is not None} or {"steps": 2000}
    if len(budgets) > 1:
        raise fg.ConfigError(f"{' and '.join(budgets)} are both given; give one budget")
    ((kind, amount),) = budgets.items()
    mapper = mapper_of(jobs)
    options["target"] = column
    settings = configured(config, {name: value for name, value in options.items() if value is not None})
    trust_the_user()
    if estimators is None:
        estimators = DEFAULT
        if is_text(vars(settings)):
            own = settings.model not in TEXT_MODELS or settings.layers is not None
            windows = "weight-perturbation" if own else FOR_WINDOWS
            estimators = windows if reads_windows(vars(settings)) else FOR_STREAMS
    name = named(settings)
    with results_folder(out, Path("compared", name)) as folder:
        dataset = load_data(settings)
        if loss_of(with_loss(settings, dataset).loss).metric != "accuracy":
            raise fg.ConfigError(
                f"{dataset.name}: estimators are compared by accuracy, and regression has none"
            )
        # A model that cannot be built is reported before the work begins.
        written_model(settings, dataset.outputs)
        with interruptible(spinner(f"comparing on {name}")) as advance:
            result = run(
                [name.strip() for name in estimators.split(",") if name.strip()],
                settings,
                dataset,
                Budget(kind, amount),
                seeds=seeds,
                evaluations=evaluations,
                target=target,
                advance=advance,
                mapper=mapper if jobs > 1 else None,
            )
        leave(result, folder, as_json)
