"""``fgtrain evaluate``."""

from pathlib import Path

import click

from fgnumba.cli.message import say, show
from fgnumba.cli.options import RUN


@click.command()
@click.argument("run", type=RUN, metavar="RUN")
@click.option("--data", metavar="NAME|FILE", help="Another data set of the same shape.  [default: the run's]")
@click.option("--data-dir", metavar="DIR", help="Folder of the IDX files of mnist or fashion-mnist.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: accuracy, loss, n.")
def evaluate(run: Path, data: str | None, data_dir: str | None, as_json: bool) -> None:
    """Evaluate the model of the run folder RUN on test data."""
    import fgnumba as fg
    from fgnumba.errors import printable
    from fgnumba.runs import run_folder
    from fgnumba.storage.json_lines import json_object

    found = run_folder.read(run)
    directory = data_dir if data_dir is not None or data is not None else found.config.data_dir
    dataset = fg.datasets.load(found.config.data if data is None else data, data_dir=directory)
    if dataset.input_shape != found.model.input_shape or dataset.classes > found.model.outputs:
        raise fg.ShapeError(
            f"{dataset.name}: examples {dataset.input_shape} in {dataset.classes} classes; the model of {run} "
            f"takes {found.model.input_shape} in {found.model.outputs}"
        )
    if data is None and found.data_sha256 not in (None, dataset.digest):
        say(
            printable(
                f"{run}: the data have changed since the run trained: {dataset.name} is not what it was"
            )
        )
    result = fg.evaluate(found.model, dataset.x_test, dataset.y_test)
    if as_json:
        show(json_object(result._asdict()))
    else:
        show(f"accuracy {result.accuracy:.4f}, loss {result.loss:.4f} on {result.n} test examples")
