"""``fgtrain predict``: classes or class probabilities of new examples."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli.message import show
from fgnumba.cli.options import FILE, RUN, examples

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fgnumba.runs.saved_run import Run


@click.command(
    epilog=examples(
        "fgtrain predict runs/digits-mlp-1 images.npy",
        "fgtrain predict runs/digits-mlp-1 images.npy --output probabilities.npy",
    )
)
@click.argument("run", type=RUN, metavar="RUN")
@click.argument("inputs", type=FILE, metavar="INPUT.npy")
@click.option(
    "--output",
    type=FILE,
    metavar="FILE.npy",
    help="Write the class probabilities to this file, a float32 array of shape (n, classes), and print "
    "nothing.  [default: print the most probable classes]",
)
def predict(run: Path, inputs: Path, output: Path | None) -> None:
    """Predict the classes of new examples with the model in RUN.

    RUN is the folder of a run that has ended. INPUT.npy is an array of n examples, saved by numpy.save. Its shape is
    that of the training data, such as (n, 28, 28, 1) for mnist, or flattened to (n, features), such as (n, 784). Its
    values are floating-point numbers on the scale of the training data, which is 0 to 1 for digits and mnist.

    Without --output, the command prints the number of the most probable class of each example, one on each line.
    """
    from fgnumba.runs import saved_run

    trained = saved_run.read(run)
    x = read_inputs(inputs, trained)
    probabilities = softmax(trained.model(x))
    if output is None:
        show("\n".join(map(str, probabilities.argmax(axis=1))))
    else:
        write_array(output, probabilities)


def read_inputs(path: Path, run: "Run") -> "npt.NDArray[np.floating]":
    """Read examples from a .npy file and check them.

    Parameters
    ----------
    path : Path
        File of floating-point features of shape (n, ``*input_shape``) or (n, features), n >= 1.
    run : Run
        Run whose model will take the examples.

    Returns
    -------
    ndarray
        The examples as (n, ``*input_shape``) float32.

    Raises
    ------
    DatasetError
        The file cannot be read, or a feature is not a finite float32.
    DtypeError, ShapeError
        The array's dtype or shape is not what the model takes.
    """
    import math

    import numpy as np

    from fgnumba.datasets.npy import read_npy
    from fgnumba.errors import DatasetError, DtypeError, ShapeError
    from fgnumba.storage.files import open_regular, size_of

    try:
        with open_regular(path) as file:
            x = read_npy(file, size_of(file))
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None
    shape = run.model.input_shape
    if x.dtype.kind != "f":
        raise DtypeError(
            f"{path}: dtype {x.dtype}; floating-point features on the scale of the training data are required"
        )
    if x.shape[1:] not in (shape, (math.prod(shape),)) or x.ndim == 0 or len(x) == 0:
        required = ", ".join(("n", *map(str, shape)))
        raise ShapeError(f"{path}: shape {x.shape}; ({required}) with n >= 1 is required")
    with np.errstate(over="ignore"):
        features = x.astype(np.float32)
    finite = np.isfinite(features)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0].tolist())
        raise DatasetError(f"{path}: {x[index]} at {index}; every feature must be a finite float32")
    return features.reshape(len(x), *shape)


def softmax(logits: "npt.NDArray[np.float32]") -> "npt.NDArray[np.float32]":
    """Return the class probabilities of (n, classes) logits as float32, computed in float64."""
    import numpy as np

    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return (z / z.sum(axis=1, keepdims=True)).astype(np.float32)


def write_array(path: Path, array: "npt.NDArray[np.float32]") -> None:
    """Write an array to a .npy file, completely or not at all."""
    import io

    import numpy as np

    from fgnumba.cli.output import write_output

    content = io.BytesIO()
    np.save(content, array)
    write_output(path, content.getvalue())
