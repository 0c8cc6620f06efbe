"""The text of a run: loaded as its configuration says, and the alphabet kept in its folder."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets import Alphabet, Dataset, TextDataset, load
from fgnumba.datasets.texts.alphabet import CHARACTERS
from fgnumba.datasets.texts.loading import CONTEXT
from fgnumba.datasets.texts.reading import read_symbols
from fgnumba.errors import ConfigError, DatasetError, RunError, shown
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.run_folder import ALPHABET
from fgnumba.runs.saved_run import Run
from fgnumba.runs.text_settings import is_text
from fgnumba.storage.durable import replace
from fgnumba.training.evaluation import Evaluation, evaluated_stream
from fgnumba.training.names import loss_of
from fgnumba.training.scoring import metrics_of
from fgnumba.validation.paths import path_of


def text_of(config: RunConfig) -> TextDataset | None:
    """Return the text of a configuration, or None if its data are something else.

    Parameters
    ----------
    config : RunConfig
        The configuration.

    Raises
    ------
    DatasetError
        The text cannot be loaded.
    ConfigError
        The model predicts symbols of a text, and the data are something else.
    """
    if not is_text(vars(config)):
        return None
    if config.data == RunConfig.data:
        raise ConfigError(f"model {config.model} reads a text: the path of one is required (--data FILE.txt)")
    context, symbols = config.context or CONTEXT, config.symbols or CHARACTERS
    return load(config.data, context=context, symbols=symbols)


def write_alphabet(folder: Path, dataset: Dataset) -> None:
    """Write the alphabet of a text into a run folder; other data sets have none.

    Parameters
    ----------
    folder : Path
        The run folder.
    dataset : Dataset
        The run's data set.

    Raises
    ------
    RunError
        The file cannot be written.
    """
    if isinstance(dataset, TextDataset):
        try:
            replace(folder / ALPHABET, dataset.coding.to_json().encode())
        except OSError as error:
            raise RunError(f"{folder / ALPHABET} cannot be written: {error.strerror or error}") from None


def read_alphabet(folder: Path, outputs: int) -> Alphabet | None:
    """Return the alphabet in a run folder, or None if the run's data are no text.

    Parameters
    ----------
    folder : Path
        The run folder.
    outputs : int
        The number of outputs of the run's model at each position, which is that of symbols.

    Raises
    ------
    RunError
        The file is damaged, or is that of another model.
    """
    path = path_of(folder, "run") / ALPHABET
    if not path.exists():
        return None
    try:
        alphabet = Alphabet.from_json(path)
    except DatasetError as error:
        raise RunError(str(error)) from None
    if len(alphabet) != outputs:
        raise RunError(f"{path} is damaged: {len(alphabet)} symbols; the model predicts {outputs}")
    return alphabet


def evaluated(run: Run, alphabet: Alphabet, data: str | None) -> tuple[str, Evaluation, bool]:
    """Return the evaluation of a run's model on a text as one stream.

    Parameters
    ----------
    run : Run
        The run.
    alphabet : Alphabet
        The run's alphabet.
    data : str or None
        The path of another text, all of which is read. None: the test part of the run's own.

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
    """
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
    return name, evaluated_stream(run.model, loss, metrics_of(None, loss), *pair, alphabet), changed


def in_alphabet(what: str, text: str, alphabet: Alphabet) -> list[int]:
    """Return the numbers of the symbols of a text that a user gave.

    Parameters
    ----------
    what : str
        The name of the option, for the message.
    text : str
        The text.
    alphabet : Alphabet
        The alphabet of a run.

    Raises
    ------
    DatasetError
        The text has a symbol that is not in the alphabet.
    """
    unknown = alphabet.unknown(text)
    if unknown is not None:
        raise DatasetError(
            f"{what}: {shown(unknown)} is none of the {len(alphabet)} {alphabet.kind} that the model was trained on"
        )
    return [int(number) for number in alphabet.encode(text)]


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
