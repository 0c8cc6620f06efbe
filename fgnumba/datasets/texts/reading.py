"""Read a text file as numbers of symbols.

The file is read twice, in pieces: once to see which symbols there are and how many, and once to fill an array of the
right size and dtype. So no more memory is taken than the symbols need, and that is compared with the machine's before.
"""

import codecs
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.texts.alphabet import CHARACTERS, MAX_SYMBOLS, Alphabet, Symbols, codes_of
from fgnumba.errors import DatasetError, shown
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.storage.files import open_regular, size_of

PIECE = 1 << 20
"""Bytes that are read at a time."""
MAX_BYTES = 1 << 31
"""Number of bytes that a file may have: its symbols lie in memory, and reading takes seconds for each GiB."""
_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_CODE_POINTS = 0x110000


def read_symbols(path: Path, kind: str) -> tuple[Symbols, Alphabet]:
    """Return the symbols of a text file, and its alphabet: all symbols that occur in the file.

    Parameters
    ----------
    path : pathlib.Path
        A UTF-8 file. A byte-order mark at its beginning is left out; line breaks stay as they are.
    kind : str
        What the symbols are: ``"characters"`` or ``"bytes"``.

    Returns
    -------
    symbols : ndarray, (N,) uint8 or uint16
        The number of each symbol in the alphabet.
    alphabet : Alphabet
        The different symbols.

    Raises
    ------
    DatasetError
        If the file cannot be read, is no UTF-8 text, is empty, or is too large for the machine's memory; if it holds
        null bytes, one symbol alone, or more than 65,536 different ones.
    """
    try:
        with open_regular(path) as file:
            size = size_of(file)
            if size > MAX_BYTES:
                raise DatasetError(f"{path}: {size:,} bytes; a text has at most {MAX_BYTES:,}")
            _check_mark(path, file.read(4))
            count, alphabet = _survey(path, file, kind)
            return _filled(path, file, count, alphabet), alphabet
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error})") from None


def _check_mark(path: Path, start: bytes) -> None:
    for mark, name in _OTHER_MARKS.items():
        if start.startswith(mark):
            raise DatasetError(f"{path}: {name} text; save it as UTF-8")


def _survey(path: Path, file: io.BufferedReader, kind: str) -> tuple[int, Alphabet]:
    """Return how many symbols there are, and which."""
    seen, count = np.zeros(_CODE_POINTS if kind == CHARACTERS else 256, bool), 0
    for codes in _pieces(path, file, kind):
        seen[codes] = True
        count += len(codes)
    found = np.flatnonzero(seen)
    if not count:
        raise DatasetError(f"{path}: is empty; a text is required")
    if len(found) > MAX_SYMBOLS:
        raise DatasetError(
            f"{path}: {len(found):,} different characters; at most {MAX_SYMBOLS:,} are possible: symbols='bytes' "
            "(--symbols bytes) has 256"
        )
    symbols: str | bytes = found.astype("<u4").tobytes().decode("utf-32-le")
    if kind != CHARACTERS:
        symbols = found.astype(np.uint8).tobytes()
    if len(found) < 2:
        raise DatasetError(f"{path}: holds {shown(symbols)} alone; two different {kind} are required")
    return count, Alphabet(symbols)


def _filled(path: Path, file: io.BufferedReader, count: int, alphabet: Alphabet) -> Symbols:
    needed = count * alphabet.dtype.itemsize
    if needed > physical_memory():
        raise DatasetError(
            f"{path}: {count:,} {alphabet.kind} need {readable(needed)}; this machine has {readable(physical_memory())}"
        )
    symbols: npt.NDArray[Any] = np.empty(count, alphabet.dtype)
    end = 0
    try:
        for codes in _pieces(path, file, alphabet.kind):
            numbers = alphabet.numbers(codes)
            if (alphabet.codes[numbers] != codes).any():
                raise ValueError("another symbol")
            symbols[end : end + len(codes)] = numbers
            end += len(codes)
    except (ValueError, IndexError):
        end = -1
    if end != count:
        raise DatasetError(f"{path}: has changed while it was read")
    # Windows of the text are views of this array, and share its elements.
    symbols.flags.writeable = False
    return symbols


def _pieces(path: Path, file: io.BufferedReader, kind: str) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield the code points, or the bytes, of a file from its beginning; raise DatasetError where it is no text."""
    mark = len(codecs.BOM_UTF8)
    file.seek(0)
    position = mark if file.read(mark) == codecs.BOM_UTF8 else 0
    file.seek(position)
    decoder, ended = codecs.getincrementaldecoder("utf-8")("strict"), False
    while not ended:
        piece = file.read(PIECE)
        ended = not piece
        null = piece.find(b"\0")
        if null >= 0:
            raise DatasetError(f"{path}: not text: byte {position + null:,} is a null byte")
        kept = len(decoder.getstate()[0])
        try:
            text = decoder.decode(piece, ended)
        except UnicodeDecodeError as error:
            raise DatasetError(
                f"{path}: not UTF-8 text: byte {position - kept + error.start:,} is wrong ({error.reason}); save it as "
                "UTF-8"
            ) from None
        position += len(piece)
        codes = codes_of(text if kind == CHARACTERS else piece)
        if len(codes):
            yield codes
