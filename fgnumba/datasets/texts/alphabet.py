"""Alphabets: the different symbols of a text, each of which has a number."""

import codecs
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError, did_you_mean, shown
from fgnumba.storage.files import read_whole
from fgnumba.storage.json_lines import parsed
from fgnumba.validation.arrays import as_array

CHARACTERS, BYTES = "characters", "bytes"
KINDS = (CHARACTERS, BYTES)
"""What the symbols of a text can be."""
MAX_SYMBOLS = 1 << 16
"""Most different symbols of a text: each is stored in at most two bytes, and a model has an output for each."""
_LARGEST_FILE = 16 * MAX_SYMBOLS
"""Bytes that the file of an alphabet may have: an escaped character takes at most twelve."""
_VERSION = 1

Symbols = npt.NDArray[np.uint8] | npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Alphabet:
    """The different symbols of a text in ascending order; the number of a symbol is its place among them.

    Parameters
    ----------
    symbols : str or bytes
        The characters, or the bytes, each once, in ascending order; at least 2 and at most 65,536.

    Raises
    ------
    DatasetError
        If the symbols are not of this kind.

    Examples
    --------
    >>> import fgnumba as fg
    >>> alphabet = fg.datasets.Alphabet(" abr")
    >>> alphabet.encode("bar").tolist(), alphabet.decode([2, 1, 3])
    ([2, 1, 3], 'bar')
    """

    symbols: str | bytes

    def __post_init__(self) -> None:
        if not isinstance(self.symbols, str | bytes):
            raise DatasetError(f"alphabet is {shown(self.symbols)}; text or bytes are required")
        codes = self.codes
        if not 2 <= len(codes) <= MAX_SYMBOLS:
            raise DatasetError(f"alphabet has {len(codes):,} symbols; 2 to {MAX_SYMBOLS:,} are required")
        if (np.diff(codes.astype(np.int64)) <= 0).any():
            raise DatasetError("alphabet: the symbols are not in ascending order, each once")
        if isinstance(self.symbols, str) and ((codes >= 0xD800) & (codes < 0xE000)).any():
            raise DatasetError("alphabet: a surrogate is no character")

    @property
    def kind(self) -> str:
        """What the symbols are: ``"characters"`` or ``"bytes"``."""
        return CHARACTERS if isinstance(self.symbols, str) else BYTES

    @property
    def dtype(self) -> "np.dtype[Any]":
        """The dtype of the numbers of symbols: uint8 for at most 256 symbols, else uint16."""
        return np.dtype(np.uint8 if len(self) <= 256 else np.uint16)

    @cached_property
    def codes(self) -> npt.NDArray[np.uint32]:
        """The code point, or the byte, of each symbol."""
        return codes_of(self.symbols)

    @cached_property
    def begins(self) -> npt.NDArray[np.bool_]:
        """Whether each symbol begins a character, (V,): bytes 0x80 to 0xBF continue one in UTF-8."""
        if self.kind == CHARACTERS:
            return np.ones(len(self), bool)
        return (self.codes < 0x80) | (self.codes >= 0xC0)

    def __len__(self) -> int:
        return len(self.symbols)

    def numbers(self, codes: npt.NDArray[np.uint32]) -> Symbols:
        """Return the numbers of code points, or bytes, all of which are in the alphabet."""
        # A table of the code points is faster than a search among them, and as large as the alphabet's last one.
        numbers: Symbols = self._table[codes]
        return numbers

    @cached_property
    def _table(self) -> Symbols:
        table = np.zeros(int(self.codes[-1]) + 1, self.dtype)
        table[self.codes] = np.arange(len(self))
        return table

    def encode(self, text: str | bytes) -> Symbols:
        """Return the numbers of the symbols of a text.

        Parameters
        ----------
        text : str or bytes
            The text. For an alphabet of bytes, text stands for its bytes in UTF-8.

        Returns
        -------
        ndarray, (L,) uint8 or uint16
            A number below ``len(alphabet)`` for each symbol.

        Raises
        ------
        DatasetError
            If a symbol is not in the alphabet, or the text is of another kind.
        """
        if isinstance(text, str) and self.kind == BYTES:
            text = text.encode("utf-8", "surrogatepass")
        if not isinstance(text, str | bytes) or isinstance(text, str) != isinstance(self.symbols, str):
            required = "text" if self.kind == CHARACTERS else "text or bytes"
            raise DatasetError(f"text is {shown(text)}; {required} is required")
        index = self._unknown(text)
        if index is not None:
            raise DatasetError(
                f"text[{index}] is {shown(text[index])}, which is none of the {len(self)} {self.kind} of the alphabet"
            )
        return self.numbers(codes_of(text))

    def unknown(self, text: str) -> str | int | None:
        """Return the first symbol of a text that is not in the alphabet, or None if there is none."""
        symbols: str | bytes = text if self.kind == CHARACTERS else text.encode("utf-8", "surrogatepass")
        index = self._unknown(symbols)
        return None if index is None else symbols[index]

    def _unknown(self, text: str | bytes) -> int | None:
        known = np.isin(codes_of(text), self.codes)
        return None if known.all() else int(np.argmin(known))

    def decode(self, symbols: npt.ArrayLike) -> str:
        """Return the text of numbers of symbols.

        Parameters
        ----------
        symbols : array_like, (L,) of whole numbers
            The numbers, each below ``len(alphabet)``.

        Returns
        -------
        str
            The text. Bytes are decoded as UTF-8; those that are none become U+FFFD.

        Raises
        ------
        DatasetError
            If there is something else among the numbers.
        """
        codes = self._codes_of_numbers(symbols)
        if self.kind == BYTES:
            return codes.astype(np.uint8).tobytes().decode("utf-8", "replace")
        return codes.astype("<u4").tobytes().decode("utf-32-le")

    def decoder(self) -> Callable[[int], str]:
        """Return a function that is called with the numbers of a text, one by one, and returns what each adds to it.

        Bytes add nothing until a character is complete.
        """
        if self.kind == CHARACTERS:
            return lambda number: chr(self.codes[number])
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda number: decoder.decode(bytes((int(self.codes[number]),)))

    def _codes_of_numbers(self, symbols: npt.ArrayLike) -> npt.NDArray[np.uint32]:
        numbers = as_array("symbols", symbols)
        if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
            raise DatasetError(
                f"symbols have shape {numbers.shape}, {numbers.dtype}; whole numbers (L,) are required"
            )
        possible = (numbers >= 0) & (numbers < len(self))
        if not possible.all():
            index = int(np.argmin(possible))
            raise DatasetError(f"symbols[{index}] is {numbers[index]}; 0 to {len(self) - 1} are possible")
        return self.codes[numbers.astype(np.int64)]

    def to_json(self) -> str:
        """Return the alphabet as JSON text, which :meth:`from_json` reads back."""
        symbols = self.symbols if isinstance(self.symbols, str) else list(self.symbols)
        return json.dumps(
            {"version": _VERSION, "symbols": self.kind, "alphabet": symbols}, ensure_ascii=False, indent=1
        )

    @classmethod
    def from_json(cls, path: Path) -> "Alphabet":
        """Return the alphabet in a file that :meth:`to_json` made.

        Parameters
        ----------
        path : pathlib.Path
            The file.

        Raises
        ------
        DatasetError
            If the file cannot be read, or holds something else.
        """
        try:
            facts = parsed(read_whole(Path(path), _LARGEST_FILE).decode("utf-8-sig"))
            if facts.get("version") != _VERSION:
                raise DatasetError(f"version is {shown(facts.get('version'))}; {_VERSION} is required")
            return cls(_symbols_of(facts.get("symbols"), facts.get("alphabet")))
        except OSError as error:
            raise DatasetError(f"{path}: {error.strerror or error}") from None
        except (ValueError, DatasetError) as error:
            raise DatasetError(f"{path} is damaged: {error}") from None


def _symbols_of(kind: Any, alphabet: Any) -> str | bytes:
    if kind == CHARACTERS and isinstance(alphabet, str):
        return alphabet
    if kind == BYTES and isinstance(alphabet, list) and all(type(one) is int for one in alphabet):
        return bytes(alphabet)
    raise ValueError(f"symbols is {shown(kind)} and alphabet {shown(alphabet)}; an alphabet is required")


def codes_of(text: str | bytes) -> npt.NDArray[np.uint32]:
    """Return the code points of a text, or the bytes, as uint32."""
    if isinstance(text, bytes):
        return np.frombuffer(text, np.uint8).astype(np.uint32)
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4").astype(np.uint32, copy=False)


def checked_kind(symbols: Any) -> str:
    """Return what the symbols of a text are, after checking that it is one of `KINDS`; else raise ConfigError."""
    if not isinstance(symbols, str) or symbols not in KINDS:
        raise ConfigError(f"symbols: unknown kind {shown(symbols)}{did_you_mean(shown(symbols), KINDS)}")
    return symbols
