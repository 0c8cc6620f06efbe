"""``fgtrain predict``: classes, class probabilities or outputs of new examples."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli.message import show
from fgnumba.cli.options import FILE, RUN, examples, shared
from fgnumba.cli.sections import Sectioned

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fgnumba.runs.saved_run import Run


@click.command(
    cls=Sectioned,
    epilog=examples(
        "fgtrain predict runs/digits-mlp-1 images.npy",
        "fgtrain predict runs/digits-mlp-1 images.npy --output probabilities.npy",
        "fgtrain predict runs/digits-mlp-1 images.csv --output probabilities.csv",
        "fgtrain predict runs/iris-mlp-1 new.csv",
    ),
)
@click.argument("run", type=RUN, metavar="RUN")
@click.argument("inputs", type=FILE, metavar="INPUT.npy")
@click.option(
    "--output",
    type=FILE,
    metavar="FILE",
    help="Write the class probabilities, or the outputs of a regression, to this file and print nothing: a float32 "
    "array of shape (n, classes) in a .npy file, or a table with a column for each class in a .csv file.  "
    "[default: print the most probable classes]",
)
@shared("trust_code")
def predict(run: Path, inputs: Path, output: Path | None) -> None:
    """Predict the classes of new examples with the model in RUN.

    RUN is the folder of a run that has ended. INPUT.npy is an array of n examples, saved by numpy.save. Its shape is
    that of the training data, such as (n, 28, 28, 1) for mnist, or (n, 28, 28), or flattened to (n, features), such as
    (n, 784); one example needs no n. Floating-point numbers are on the scale of the training data, which is 0 to 1 for
    digits and mnist. Pixels that are bytes (uint8) are divided as in training, also those of an .npz file.

    A file that ends in .csv is read as text: an example on each line, its features with commas between. A first line of
    names is skipped. If the run trained on a table, INPUT is a table with the same columns (.csv, .parquet), of which
    the target's need not be there: what was done to the columns in training is done to them.

    Without --output, the command prints the most probable class of each example, one on each line: its label, or its
    number. Of a regression it prints the outputs, and where an example has several labels (bce), 1 or 0 for each of
    them.
    """
    from fgnumba.cli.predict_table import predict_table
    from fgnumba.errors import RunError, shown
    from fgnumba.runs import saved_run
    from fgnumba.runs.data import read_rules
    from fgnumba.runs.inputs import read_examples
    from fgnumba.runs.prediction import answers, predicted
    from fgnumba.runs.text_settings import is_text

    if output is not None and output.suffix.lower() not in ("", ".npy", ".csv"):
        raise RunError(f"output: {shown(output.name)}; a file that ends in .npy or .csv is required")
    if output is not None and output.exists() and inputs.exists() and output.samefile(inputs):
        raise RunError(f"output: {output} is the input, which would be overwritten; name another file")
    trained = saved_run.read(run)
    if is_text(vars(trained.config)):
        raise RunError(
            f"{run} was trained on a text: fgtrain sample continues one, and fgtrain evaluate --data reads one"
        )
    rules = read_rules(run)
    if rules is not None:
        predict_table(rules, trained, inputs, output)
        return
    values = predicted(trained, read_examples(inputs, trained))
    if output is None:
        show("\n".join(answers(trained, values)))
    else:
        write_values(output, values, trained)


def write_values(path: Path, values: "npt.NDArray[np.float32]", run: "Run") -> None:
    """Write predictions to a .npy file, or as text to one that ends in .csv; completely or not at all.

    Parameters
    ----------
    path : Path
        The file.
    values : ndarray
        (n, classes) float32.
    run : Run
        The run that predicted them, which names the columns of a CSV file.
    """
    import csv
    import io

    from fgnumba.cli.output import write_npy, write_output
    from fgnumba.runs.prediction import columns

    if path.suffix.lower() == ".csv":
        text = io.StringIO()
        # The nine digits of a float32 that is read back as the same number.
        lines = ([f"{value:.9g}" for value in row] for row in values.tolist())
        csv.writer(text, lineterminator="\n").writerows([columns(run), *lines])
        write_output(path, text.getvalue().encode())
        return
    write_npy(path, values)
