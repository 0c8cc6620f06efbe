"""``fgtrain evaluate``: accuracy and loss of a trained model on test data."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli import completion
from fgnumba.cli.message import say, show
from fgnumba.cli.options import RUN, examples, shared, trust_named
from fgnumba.cli.sections import Sectioned

if TYPE_CHECKING:
    from fgnumba import Evaluation, Graph


@click.command(
    cls=Sectioned,
    epilog=examples(
        "fgtrain evaluate runs/digits-mlp-1",
        "fgtrain evaluate runs/digits-mlp-1 --json",
        "fgtrain evaluate runs/mnist-cnn-1 --data fashion-mnist",
        "fgtrain evaluate runs/book-char-lstm-1 --data other.txt",
    ),
)
@click.argument("run", type=RUN, metavar="RUN")
@click.option(
    "--data",
    shell_complete=completion.names(completion.DATA, or_file=True, group="fgnumba.datasets"),
    metavar="NAME|FILE",
    help="Another data set whose examples have the same shape, as `fgtrain train --data` takes it; all of a text.  "
    "[default: the data set that the run trained on]",
)
@click.option(
    "--data-dir",
    shell_complete=completion.folders,
    metavar="DIR",
    help="Folder that holds the files of a published data set.  [default: the run's, if --data is not given]",
)
@click.option(
    "--stride",
    type=int,
    metavar="S",
    help="Distance from window to window of a text, for a model that reads windows of L symbols, such as a "
    "transformer: each prediction counts once, and has at least L - S symbols before it.  [default: L, windows side "
    "by side]",
)
@shared("trust_code")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print one JSON object with accuracy, loss and n, the number of test examples.",
)
def evaluate(run: Path, data: str | None, data_dir: str | None, stride: int | None, as_json: bool) -> None:
    """Evaluate the trained model in RUN on test data.

    RUN is the folder of a run that has ended. The command prints the accuracy (from 0 to 1), the mean loss of an
    example, and the number of test examples. Of a text it prints nats and bits per character and the perplexity of the
    whole test part, which the model reads as one stream or, like a transformer, in windows of the run's context.
    """
    import fgnumba as fg
    from fgnumba.runs import saved_run
    from fgnumba.runs.data import for_evaluation
    from fgnumba.runs.text_evaluation import evaluated as of_text
    from fgnumba.runs.texts import read_alphabet

    trust_named(data)
    trained = saved_run.read(run)
    alphabet = read_alphabet(run, trained.config, trained.model.outputs)
    if alphabet is not None:
        if data_dir is not None:
            raise fg.ConfigError(
                f"data_dir is {data_dir!r}; {run} was trained on a text, which is one file: --data"
            )
        name, result, changed = of_text(trained, alphabet, data, stride)
        if changed:
            _say_changed(run, name)
        _print(result, as_json, _how(trained.model, stride))
        return
    if stride is not None:
        raise fg.ConfigError(f"stride is {stride}; {run} was not trained on a text, which has windows")
    dataset = for_evaluation(trained.config, run, trained.labels, trained.data_sha256, data, data_dir)
    if dataset.input_shape != trained.model.input_shape or dataset.outputs > trained.model.outputs:
        raise fg.ShapeError(
            f"{dataset.name}: examples have shape {dataset.input_shape} and {dataset.outputs} classes; "
            f"the model of {run} takes {trained.model.input_shape} and {trained.model.outputs}"
        )
    if data is None and trained.data_sha256 not in (None, dataset.digest):
        _say_changed(run, dataset.name)
    result = fg.evaluate(trained.model, dataset.x_test, dataset.y_test, loss=trained.config.loss)
    _print(result, as_json)


def _say_changed(run: Path, name: str) -> None:
    from fgnumba.errors import printable

    say(
        printable(
            f"{run}: the data set {name} has changed since the run trained on it; "
            f"the result is of the changed data"
        )
    )


def _how(model: "Graph", stride: int | None) -> str:
    """Return how a model reads a text."""
    if not model.reads_windows:
        return "read as one stream"
    length = model.input_shape[0]
    return f"in windows of {length}, {'side by side' if stride in (None, length) else f'{stride} apart'}"


def _print(result: "Evaluation", as_json: bool, how: str = "") -> None:
    from fgnumba.cli.figures import of_text
    from fgnumba.storage.json_lines import json_object

    if as_json:
        show(json_object({"accuracy": result.accuracy, "loss": result.loss, "n": result.n, **result.metrics}))
        return
    text = of_text(result.metrics)
    if text is not None:
        show(f"{text}, accuracy {result.accuracy:.4f} on {result.n:,} symbols, {how}")
    else:
        name = "accuracy" if "accuracy" in result.metrics else "r2"
        show(f"{name} {result.metrics[name]:.4f}, loss {result.loss:.4f} on {result.n} test examples")
