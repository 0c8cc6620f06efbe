"""A text as a data set: windows of its symbols, as B streams that go on where they were, or at random places."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import MAX_SEED, Dataset
from fgnumba.datasets.texts.alphabet import Alphabet, Symbols
from fgnumba.errors import DatasetError
from fgnumba.storage.digests import digest_of
from fgnumba.validation import store, whole_number
from fgnumba.validation.arrays import as_array

FEWEST_TESTED = 2
"""Symbols that a test part has at least: one to read, and one to predict."""


class TextDataset(Dataset):
    """A text whose symbols are to be predicted, each from those before it.

    The text is stored once, with one or two bytes for a symbol. Examples are windows of L symbols that follow one
    another, and the targets of a window are the same symbols one place further on: views of the text, not copies.

    n is the number of windows, N that of symbols of a part: n = (N - 1) // L.

    Parameters
    ----------
    name : str
        The name of the data set in messages and reports.
    training, testing : ndarray, (N,) uint8 or uint16
        The symbols of the two parts, as numbers below ``len(alphabet)``. The training part fills at least one window.
    alphabet : Alphabet
        The different symbols of the whole text, those of the test part among them.
    context : int
        The length L of a window.
    notes : tuple of str, optional
        What a reader should know: the alphabet, and how the text was split. By default nothing.

    Attributes
    ----------
    x_train, y_train, x_test, y_test : ndarray, (n, L) uint8 or uint16
        The windows and their targets. Symbols at the end of a part that fill no window are left out.
    training, testing : ndarray, (N,) uint8 or uint16
        The symbols of the two parts.
    classes : int
        The number of different symbols.

    Raises
    ------
    DatasetError
        If a part is too short, or not of the alphabet's dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> alphabet = fg.datasets.Alphabet("abc")
    >>> symbols = alphabet.encode("abcabcabca")
    >>> dataset = fg.datasets.TextDataset("abc", symbols[:8], symbols[8:], alphabet, context=3)
    >>> dataset.x_train.tolist(), dataset.y_train.tolist()
    ([[0, 1, 2], [0, 1, 2]], [[1, 2, 0], [1, 2, 0]])
    """

    streamed: ClassVar[bool] = True

    training: Symbols
    testing: Symbols
    coding: Alphabet
    context: int
    notes: tuple[str, ...]

    def __init__(
        self,
        name: str,
        training: Symbols,
        testing: Symbols,
        alphabet: Alphabet,
        context: int,
        notes: tuple[str, ...] = (),
    ) -> None:
        store(
            self,
            **{"name": name, "training": training, "testing": testing, "coding": alphabet},
            **{"context": whole_number("context", context), "notes": tuple(notes)},
            **{"classes": len(alphabet), "labels": None},
        )
        for part, symbols in (("training", training), ("testing", testing)):
            if not isinstance(symbols, np.ndarray) or symbols.ndim != 1 or symbols.dtype != alphabet.dtype:
                raise DatasetError(
                    f"{name}: {part} is no array (N,) of {alphabet.dtype}, as its alphabet needs"
                )
            if len(symbols) and int(symbols.max()) >= len(alphabet):
                raise DatasetError(
                    f"{name}: {part} holds {symbols.max()}; its alphabet has {len(alphabet)} symbols"
                )
        if len(training) <= self.context:
            raise DatasetError(
                f"{name}: {len(training):,} symbols to train on; more than the context, {self.context:,}, are required"
            )

    @property
    def alphabet(self) -> str | bytes:
        """The different symbols of the text, in ascending order: a str of characters, or bytes."""
        return self.coding.symbols

    def encode(self, text: str | bytes) -> Symbols:
        """Return the numbers of the symbols of a text; see :meth:`Alphabet.encode`."""
        return self.coding.encode(text)

    def decode(self, symbols: npt.ArrayLike) -> str:
        """Return the text of numbers of symbols; see :meth:`Alphabet.decode`."""
        return self.coding.decode(symbols)

    @property
    def x_train(self) -> Symbols:
        """The windows of the training part, (n, L)."""
        return self._windows(self.training, 0)

    @property
    def y_train(self) -> Symbols:
        """The symbol that follows each of `x_train`, (n, L)."""
        return self._windows(self.training, 1)

    @property
    def x_test(self) -> Symbols:
        """The windows of the test part, (n, L)."""
        return self._windows(self.testing, 0)

    @property
    def y_test(self) -> Symbols:
        """The symbol that follows each of `x_test`, (n, L)."""
        return self._windows(self.testing, 1)

    def _windows(self, symbols: Symbols, shift: int) -> Symbols:
        count = max(0, len(symbols) - 1) // self.context
        return symbols[shift : shift + count * self.context].reshape(count, self.context)

    @property
    def outputs(self) -> int:
        """The number of outputs of a model at each position: one for each different symbol."""
        return len(self.coding)

    @property
    def has_test(self) -> bool:
        """Whether there are test data."""
        return len(self.testing) >= FEWEST_TESTED

    @property
    def tested(self) -> tuple[Symbols, Symbols]:
        """The whole test part as one stream: its symbols but the last, and the symbol that follows each, (N - 1,)."""
        return self.testing[:-1], self.testing[1:]

    def first(self, count: int) -> tuple[Symbols, Symbols]:
        """Return the symbols of the first windows of the training part as one stream, and what follows each.

        There are at most 16 `count` symbols, however long a window is.
        """
        most = whole_number("count", count) * min(self.context, 16)
        end = 1 + min(most, len(self.training) - 1)
        return self.training[: end - 1], self.training[1:end]

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the symbols of both parts, the alphabet and the length of a window, in hexadecimal."""
        alphabet = np.frombuffer(self.coding.to_json().encode(), np.uint8)
        return digest_of([self.training, self.testing, alphabet, np.array([self.context], np.int64)])

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Return 0, …, n − 1: the windows of a text stay in their order. The arguments are those of a data set."""
        whole_number("seed", seed, 0)
        whole_number("epoch", epoch, 0)
        return np.arange(len(self.x_train))

    def _batches(self, batch_size: int, seed: int, first: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield batches of B streams; see :meth:`batches`.

        The training part is cut into B streams of M = n // B windows each. Batch i has window i of every stream, so
        that a row of it goes on where the same row of the batch before ended; after its last window, a stream begins
        again. `seed` has no influence.
        """
        x, y = self.x_train, self.y_train
        length = len(x) // batch_size
        x_batch = np.empty((batch_size, self.context), x.dtype)
        y_batch = np.empty((batch_size, self.context), np.int64)
        number = first
        while True:
            # Windows number, number + M, number + 2 M, …: one of each stream.
            rows = slice(number % length, batch_size * length, length)
            x_batch[...], y_batch[...] = x[rows], y[rows]
            yield x_batch, y_batch
            number += 1

    def windows(
        self, batch_size: int, seed: int = 0, first: int = 0
    ) -> Iterator[tuple[Symbols, npt.NDArray[np.int64]]]:
        """Yield batches (x, y) of windows at random places of the training part, without end.

        A window begins at any of the N − L symbols that L others follow, each as likely as the others. This is how a
        model that reads windows, such as a transformer, learns a text; :meth:`batches` are for one with a state. Each
        batch overwrites the arrays of the one before.

        Parameters
        ----------
        batch_size : int
            The number of windows B of a batch, from 1 to that of `x_train`.
        seed : int, optional
            The seed of the places, 0 or above and below 2**64. By default 0.
        first : int, optional
            The number of the batch to begin with: the places of a batch are a function of `seed`, its number and N. By
            default 0.

        Yields
        ------
        x : ndarray, (B, L) uint8 or uint16
            The windows.
        y : ndarray, (B, L) int64
            The symbol that follows each.

        Raises
        ------
        ConfigError
            If a number is out of its range. It is raised by the call itself, before the first batch is asked for.
        """
        return self._drawn(
            whole_number("batch_size", batch_size, 1, len(self.x_train)),
            whole_number("seed", seed, 0, MAX_SEED),
            whole_number("first", first, 0),
        )

    def _drawn(
        self, batch_size: int, seed: int, first: int
    ) -> Iterator[tuple[Symbols, npt.NDArray[np.int64]]]:
        text, positions = self.training, np.arange(self.context)
        x_batch = np.empty((batch_size, self.context), text.dtype)
        y_batch = np.empty((batch_size, self.context), np.int64)
        number = first
        while True:
            starts = np.random.default_rng([seed, number]).integers(
                0, len(text) - self.context, (batch_size, 1)
            )
            x_batch[...], y_batch[...] = text[starts + positions], text[starts + positions + 1]
            yield x_batch, y_batch
            number += 1

    def until(self, windows: int) -> "TextDataset":
        """Return the data set with the first windows of the training part alone; the test part is the same."""
        end = 1 + whole_number("windows", windows, 1, len(self.x_train)) * self.context
        return TextDataset(
            self.name, self.training[:end], self.testing, self.coding, self.context, self.notes
        )

    def since(self, windows: int) -> Symbols:
        """Return the symbols of the training part that come after the first windows."""
        start = whole_number("windows", windows, 1, len(self.x_train)) * self.context
        return self.training[start:]

    def stream_of(self, x: npt.ArrayLike, y: npt.ArrayLike) -> tuple[Symbols, Symbols]:
        """Return symbols and what follows each as one stream, after checking that they are (N,) of the alphabet.

        Parameters
        ----------
        x, y : array_like, (N,) of whole numbers
            The symbols, and the symbol that follows each, as `tested` has them.

        Raises
        ------
        DatasetError
            If they are nothing of this kind.
        """
        arrays = [as_array(name, given) for name, given in (("x", x), ("y", y))]
        for name, array in zip("xy", arrays, strict=True):
            if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
                raise DatasetError(
                    f"{name} has shape {array.shape}, {array.dtype}; symbols (N,) of one stream are required"
                )
            if int(array.min()) < 0 or int(array.max()) >= len(self.coding):
                raise DatasetError(
                    f"{name} holds a number that is no symbol; 0 to {len(self.coding) - 1} are"
                )
        if len(arrays[0]) != len(arrays[1]):
            raise DatasetError(f"x has {len(arrays[0])} symbols and y {len(arrays[1])}; as many are required")
        return arrays[0].astype(self.coding.dtype), arrays[1].astype(self.coding.dtype)

    def tested_on(self, name: str, symbols: Symbols) -> "TextDataset":
        """Return a data set of this name with the same training part, and `symbols` (N,) as its test part."""
        return TextDataset(name, self.training, symbols, self.coding, self.context)

    def _repr_html_(self) -> str:
        from fgnumba.objects.table import as_html

        rows: list[tuple[Any, ...]] = [
            ("training", f"{len(self.training):,}", f"{len(self.x_train):,} of {self.context}"),
            ("test", f"{len(self.testing):,}", f"{len(self.x_test):,} of {self.context}"),
        ]
        title = f"{self.name}, {len(self.coding)} different {self.coding.kind}"
        return as_html(title, ("part", self.coding.kind, "windows"), rows, 0)
