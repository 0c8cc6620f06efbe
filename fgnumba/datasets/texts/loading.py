"""From a text file to a data set: the last tenth of it is the test part."""

import os

import numpy as np

from fgnumba.datasets.texts.alphabet import CHARACTERS, Symbols, checked_kind
from fgnumba.datasets.texts.dataset import TextDataset
from fgnumba.datasets.texts.reading import PIECE, read_symbols
from fgnumba.errors import DatasetError
from fgnumba.validation import whole_number
from fgnumba.validation.paths import AnyPath, path_of

CONTEXT = 64
"""Default length of a window."""
TESTED = 10
"""One symbol in this many is in the test part."""
MAX_CONTEXT = 1 << 24


def text(path: AnyPath, context: int = CONTEXT, symbols: str = CHARACTERS) -> TextDataset:
    """Load a text file as a data set whose symbols are to be predicted, each from those before it.

    The first nine tenths are the training part, the last tenth is the test part. The alphabet is that of the whole
    file, so that no symbol of the test part is unknown. Memory: one byte for each symbol, or two where there are more
    than 256 different ones.

    Parameters
    ----------
    path : str or path
        A UTF-8 file. A byte-order mark is left out; line breaks stay as they are, also those of Windows.
    context : int, optional
        The length L of a window, the number of symbols that a training step takes from each stream. By default 64.
    symbols : str, optional
        What is predicted: ``"characters"`` (the default) or the ``"bytes"`` of the file.

    Returns
    -------
    TextDataset
        The windows of both parts, and the alphabet.

    Raises
    ------
    ConfigError
        If `context` or `symbols` is impossible.
    DatasetError
        If the file cannot be read, is no UTF-8 text, or is too short, too long, or of too many different characters.

    Examples
    --------
    >>> import fgnumba as fg
    >>> dataset = fg.datasets.text("book.txt", context=64)  # doctest: +SKIP
    >>> dataset.x_train.shape  # doctest: +SKIP
    (15685, 64)
    """
    context = whole_number("context", context, 1, MAX_CONTEXT)
    kind = checked_kind(symbols)
    file = path_of(path, "path", DatasetError)
    if os.path.isdir(file):
        raise DatasetError(f"{file}: a folder is no text; a file is required")
    found, alphabet = read_symbols(file, kind)
    count = len(found)
    tested = count - count * (TESTED - 1) // TESTED
    # More symbols than the context to train on, and one in the test part to read and one to predict.
    fewest = max(TESTED + 1, -(-TESTED * (context + 1) // (TESTED - 1)))
    if count < fewest:
        raise DatasetError(
            f"{file}: {count:,} {kind}; at least {fewest:,} are required for a context of {context:,}"
        )
    unseen = len(alphabet) - _different(found[: count - tested], len(alphabet))
    notes = [
        f"{file.name}: {count:,} {kind}, {len(alphabet):,} different ones in the whole file",
        f"{file.name}: the last tenth, {tested:,} {kind}, is the test part",
    ]
    if unseen:
        notes.append(
            f"{file.name}: {unseen:,} of the {len(alphabet):,} {kind} occur in the test part alone, and are learned by "
            "no example"
        )
    return TextDataset(
        file.name, found[: count - tested], found[count - tested :], alphabet, context, tuple(notes)
    )


def _different(symbols: Symbols, most: int) -> int:
    """Return how many different symbols there are."""
    seen = np.zeros(most, bool)
    # NumPy makes int64 of what it indexes with, so a part at a time.
    for start in range(0, len(symbols), PIECE):
        seen[symbols[start : start + PIECE]] = True
    return int(seen.sum())
