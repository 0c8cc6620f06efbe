"""The text of a run: loaded as its configuration says, and the alphabet kept in its folder."""

from pathlib import Path

from fgnumba.datasets import Alphabet, Dataset, TextDataset, load
from fgnumba.datasets.texts.alphabet import CHARACTERS
from fgnumba.datasets.texts.loading import CONTEXT
from fgnumba.errors import ConfigError, DatasetError, RunError, shown
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.run_folder import ALPHABET, write_beside
from fgnumba.runs.text_settings import is_text
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
        write_beside(folder / ALPHABET, dataset.coding.to_json())


def read_alphabet(folder: Path, config: RunConfig, outputs: int) -> Alphabet | None:
    """Return the alphabet in a run folder, or None if the run's data are no text.

    Parameters
    ----------
    folder : Path
        The run folder.
    config : RunConfig
        The run's configuration.
    outputs : int
        The number of outputs of the run's model at each position, which is that of symbols.

    Raises
    ------
    RunError
        The file is missing or damaged, or has another number of symbols than the model.
    """
    path = path_of(folder, "run") / ALPHABET
    if not is_text(vars(config)):
        return None
    if not path.exists():
        raise RunError(
            f"{path} is missing; fgtrain train --resume {folder} --steps N, N being more, writes it again"
        )
    try:
        alphabet = Alphabet.from_json(path)
    except DatasetError as error:
        raise RunError(str(error)) from None
    if len(alphabet) != outputs:
        raise RunError(f"{path} is damaged: {len(alphabet)} symbols; the model predicts {outputs}")
    return alphabet


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
