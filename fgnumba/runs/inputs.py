"""New examples for a trained model, read from ``.npy`` or CSV files and brought to the shape and scale of its data."""

import csv
import io
import math
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.labels import warn
from fgnumba.datasets.npy import read_npy
from fgnumba.errors import DatasetError, DtypeError, RunError, ShapeError, shown
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.runs.configuration import CONFIG
from fgnumba.runs.run_folder import DIVISOR
from fgnumba.storage.files import open_regular, size_of

if TYPE_CHECKING:
    from fgnumba.runs.saved_run import Run

DIGITS, PIXELS = 16.0, 255.0
"""Largest pixel of the digits data, and of images of bytes: training divided by it."""
MAX_LINE = 1 << 20
"""Number of characters that a line of a CSV file may not reach."""
FAR = 2.0
"""Largest feature of which nothing is said where those of the training data are from 0 to 1."""
AS_NUMBERS = 10
"""Bytes of memory that a byte of a CSV file may need: two characters are a float64, its float32, and a flag."""


def read_examples(path: Path, run: "Run") -> npt.NDArray[np.float32]:
    """Read examples from a file and bring them to the shape and scale that a run's model takes.

    Parameters
    ----------
    path : Path
        A ``.npy`` array of shape (n, ``*input_shape``) or (n, features); for images of one channel, (H, W, 1), also
        (n, H, W). A single example needs no first axis. Floating-point numbers are on the scale of the training
        data; bytes (uint8) are divided as the run's were. A file that ends in ``.csv`` has an example on each line,
        its features with commas between; a first line of names is skipped.
    run : Run
        The run whose model will take the examples.

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
    RunError
        The run folder is damaged.

    Warns
    -----
    FgWarning
        If floating-point features are far beyond the training data, which were from 0 to 1.
    """
    table = path.suffix.lower() == ".csv"
    try:
        with open_regular(path) as file:
            x = _read_csv(file) if table else read_npy(file, size_of(file))
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from None
    x = _shaped(path, x, run.model.input_shape)
    if x.dtype == np.uint8:
        features = x.astype(np.float32) / np.float32(_scale(path, run))
    elif x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            features = x.astype(np.float32)
    else:
        raise DtypeError(
            f"{path}: dtype {x.dtype}; floating-point features on the scale of the training data, or uint8 pixels, "
            f"are required"
        )
    finite = np.isfinite(features)
    if not finite.all():
        index = tuple(np.argwhere(~finite)[0].tolist())
        raise DatasetError(f"{path}: {x[index]} at {index}; every feature must be a finite float32")
    if x.dtype.kind == "f":
        _warn_of_scale(path, run, features)
    return features.reshape(len(x), *run.model.input_shape)


def _shaped(path: Path, x: npt.NDArray[np.generic], shape: tuple[int, ...]) -> npt.NDArray[np.generic]:
    """Return the examples with a first axis that counts them, or raise ShapeError."""
    features = (math.prod(shape),)
    gray = shape[:2] if len(shape) == 3 and shape[2] == 1 else shape
    if x.shape in (shape, gray, features):
        x = x[np.newaxis]
    if x.shape[1:] not in (shape, gray, features) or x.ndim == 0 or len(x) == 0:
        required = ", ".join(("n", *map(str, shape)))
        raise ShapeError(f"{path}: shape {x.shape}; ({required}) with n >= 1 is required")
    return x


def _divisor(run: "Run") -> float | None:
    """Return what the bytes of a run's data were divided by, or None if they were no bytes."""
    data = run.config.data
    if data == "digits":
        return DIGITS
    if DIVISOR in run.facts:
        divisor = run.facts[DIVISOR]
        if type(divisor) is not int or divisor not in (1, int(PIXELS)):
            raise RunError(f"{CONFIG} is damaged: {DIVISOR} is {shown(divisor)}; 1 or 255 is required")
        return float(divisor)
    return None if data.lower().endswith(".npz") or run.config.target is not None else PIXELS


def _warn_of_scale(path: Path, run: "Run", features: npt.NDArray[np.float32]) -> None:
    """Warn of features that are pixels as they are, where training divided them."""
    if _divisor(run) in (DIGITS, PIXELS) and (largest := float(np.abs(features).max())) > FAR:
        warn(
            f"{path}: the features reach {largest:.4g}; those that the model was trained on are from 0 to 1, because "
            f"they were divided by {_divisor(run):g}"
        )


def _scale(path: Path, run: "Run") -> float:
    """Return the number by which the pixels of a run's data were divided before it trained on them."""
    scale = _divisor(run)
    if scale is None:
        raise DtypeError(
            f"{path}: dtype uint8; the data of the run, {shown(Path(run.config.data).name)}, have a scale of their "
            f"own: floating-point features on it are required"
        )
    return scale


def _read_csv(file: io.BufferedReader) -> npt.NDArray[np.float64]:
    """Return the numbers of a CSV file as (n, features) float64; the message of a ValueError names the line."""
    size, memory = size_of(file), physical_memory()
    if AS_NUMBERS * size > memory:
        raise ValueError(f"too large: its numbers need more than the {readable(memory)} of this machine")
    numbers, width = array("d"), 0
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        for line, cells in enumerate(csv.reader(_lines(text)), 1):
            row = _numbers(line, cells)
            if row is None:
                continue
            if width and len(row) != width:
                raise ValueError(f"line {line} has {len(row)} numbers; those before it have {width}")
            numbers.extend(row)
            width = len(row)
    except csv.Error as error:
        raise ValueError(f"not a CSV file: {error}") from None
    finally:
        text.detach()
    if not width:
        raise ValueError("no line of numbers; an example on each line is required")
    return np.frombuffer(numbers).reshape(-1, width)


def _lines(text: io.TextIOWrapper) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        if len(line) == MAX_LINE:
            raise ValueError(f"a line has more than {MAX_LINE - 1} characters")
        yield line


def _numbers(line: int, cells: list[str]) -> list[float] | None:
    """Return the numbers of a line; None for an empty line, and for names in the first one."""
    found = []
    for cell in cells:
        try:
            found.append(float(cell))
        except ValueError:
            if line == 1:
                return None
            raise ValueError(f"line {line}: {shown(cell)} is no number") from None
    return found or None
