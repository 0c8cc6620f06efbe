"""Evaluation of a run on a text: the test part of its own, or all of another one."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets import Alphabet
from fgnumba.datasets.texts.reading import read_symbols
from fgnumba.errors import DatasetError, RunError, shown
from fgnumba.runs.run_folder import ALPHABET
from fgnumba.runs.saved_run import Run
from fgnumba.runs.texts import text_of
from fgnumba.training.evaluation import Evaluation, evaluated_stream
from fgnumba.training.names import loss_of
from fgnumba.training.scoring import metrics_of
from fgnumba.training.window_evaluation import checked_stride
from fgnumba.validation.paths import path_of


def evaluated(
    run: Run, alphabet: Alphabet, data: str | None, stride: int | None = None
) -> tuple[str, Evaluation, bool]:
    """Return the evaluation of a run's model on a text, as one stream or in windows.

    Parameters
    ----------
    run : Run
        The run.
    alphabet : Alphabet
        The run's alphabet.
    data : str or None
        The path of another text, all of which is read. None: the test part of the run's own.
    stride : int, optional
        The distance between windows. None (the default): they lie side by side, or the model has none.

    Returns
    -------
    name : str
        The name of the text.
    result : Evaluation
        The loss and the metrics.
    changed : bool
        Whether the run's own text has changed since the run trained on it.

    Raises
    ------
    DatasetError
        The text cannot be loaded, or has a symbol that is not in the alphabet.
    ConfigError
        A stride is no length up to that of a window, or the model reads no windows.
    """
    checked_stride(run.model, stride)
    loss = loss_of(run.config.loss)
    changed = False
    if data is not None:
        name, symbols = Path(data).name, stream_in(path_of(data, "data", DatasetError), alphabet)
    else:
        dataset = text_of(run.config)
        if dataset is None:
            raise RunError(
                f"{ALPHABET} is there, and the data of the run, {shown(run.config.data)}, are no text"
            )
        name, symbols = dataset.name, _translated(dataset.name, dataset.testing, dataset.coding, alphabet)
        changed = run.data_sha256 not in (None, dataset.digest)
    pair = symbols[:-1], symbols[1:]
    result = evaluated_stream(run.model, loss, metrics_of(None, loss), *pair, alphabet, stride)
    return name, result, changed


def stream_in(path: Path, alphabet: Alphabet) -> npt.NDArray[Any]:
    """Return the symbols of a text file by the numbers of an alphabet, (N,) with N of at least 2.

    Parameters
    ----------
    path : Path
        The file.
    alphabet : Alphabet
        The alphabet of a run.

    Raises
    ------
    DatasetError
        The file cannot be read, or has a symbol that is not in the alphabet.
    """
    return _translated(path, *read_symbols(path, alphabet.kind), alphabet)


def _translated(
    where: object, symbols: npt.NDArray[Any], own: Alphabet, alphabet: Alphabet
) -> npt.NDArray[Any]:
    """Return symbols that are numbers of one alphabet as numbers of another one."""
    known = set(alphabet.symbols)
    unknown = [symbol for symbol in own.symbols if symbol not in known]
    if unknown:
        raise DatasetError(
            f"{where}: {shown(unknown[0])} is none of the {len(alphabet)} {alphabet.kind} that the model was trained on"
        )
    # With no symbol unknown, alphabets of one length are the same.
    return symbols if len(own) == len(alphabet) else np.take(alphabet.encode(own.symbols), symbols)
