"""The outputs of a model that reads a text in windows, one for each symbol, as transformers do."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, shown
from fgnumba.model.graph import Graph
from fgnumba.validation import whole_number

POSITIONS = 2048
"""The most positions that a pass takes, so that the memory does not grow with the length of a text; or one window."""


def checked_stride(model: Graph, stride: Any) -> int | None:
    """Return the distance between windows, or None for a model that reads a text as one stream.

    Parameters
    ----------
    model : Graph
        The model.
    stride : int or None
        The distance that a user gave. None: the length of a window.

    Raises
    ------
    ConfigError
        It is no whole number from 1 to the length of a window, or the model has no windows.
    """
    if not model.reads_windows:
        if stride is not None:
            raise ConfigError(
                f"stride is {shown(stride)}; the model reads a text as one stream, and has no windows"
            )
        return None
    length = model.input_shape[0]
    return length if stride is None else whole_number("stride", stride, 1, length)


def window_outputs(model: Graph, symbols: npt.NDArray[Any], stride: int) -> Iterator[npt.NDArray[np.float32]]:
    """Yield the outputs of a text's symbols, each once, in pieces (l, V) that follow one another.

    Windows of L symbols begin at 0, S, 2S, …. The first one has the outputs of all its symbols, the others those of
    their last S: each is computed from at least L − S symbols before it, if there are as many. With S = L, windows lie
    side by side.

    Parameters
    ----------
    model : Graph
        The model, whose outputs at a position depend on no later ones.
    symbols : ndarray, (N,) of whole numbers
        The text.
    stride : int
        The distance S, from 1 to the length L of the model's input.
    """
    length, total = model.input_shape[0], len(symbols)
    stride = whole_number("stride", stride, 1, length)
    count = 1 + max(0, -(-(total - length) // stride))
    together = max(1, POSITIONS // length)
    left = total
    for start in range(0, count, together):
        begins = np.arange(start, min(start + together, count)) * stride
        places = begins[:, None] + np.arange(length)
        # Symbols beyond the end of the text are zeros, and no output before them depends on them.
        windows = np.where(places < total, symbols[np.minimum(places, total - 1)], 0)
        outputs = np.asarray(model(windows))
        if start == 0:
            yield outputs[0, :left]
            left -= min(left, length)
            outputs = outputs[1:]
        piece = outputs[:, length - stride :].reshape(-1, outputs.shape[-1])[:left]
        if len(piece):
            left -= len(piece)
            yield piece
