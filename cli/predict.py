"""``fgtrain predict``."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fgnumba.cli.message import show
from fgnumba.cli.options import FILE, RUN

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from fgnumba.runs.run_folder import Run


@click.command()
@click.argument("run", type=RUN, metavar="RUN")
@click.argument("inputs", type=FILE, metavar="INPUT.npy")
@click.option(
    "--output", type=FILE, metavar="FILE", help="Write class probabilities (n, classes) as float32 .npy."
)
def predict(run: Path, inputs: Path, output: Path | None) -> None:
    """Predict the classes of the examples in INPUT.npy.

    INPUT.npy holds floating-point features (n, ...) on the scale of the training data (digits and mnist: 0 to 1), of
    the model's input shape or flattened. Without --output, prints the likeliest class of each, a line an example.
    """
    from fgnumba.runs import run_folder

    found = run_folder.read(run)
    x = read_inputs(inputs, found)
    probabilities = softmax(found.model(x))
    if output is None:
        show("\n".join(map(str, probabilities.argmax(axis=1))))
    else:
        write_array(output, probabilities)


def read_inputs(path: Path, run: "Run") -> "npt.NDArray[np.floating]":
    """Return the examples in `path`, checked, in the shape that the model of `run` takes."""
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
    """Return probabilities (n, classes) float32, computed in float64."""
    import numpy as np

    z = logits.astype(np.float64)
    z = np.exp(z - z.max(axis=1, keepdims=True))
    return (z / z.sum(axis=1, keepdims=True)).astype(np.float32)


def write_array(path: Path, array: "npt.NDArray[np.float32]") -> None:
    """Write a .npy file, whole or not at all."""
    import io

    import numpy as np

    from fgnumba.cli.output import write_output

    content = io.BytesIO()
    np.save(content, array)
    write_output(path, content.getvalue())
