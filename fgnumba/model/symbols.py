"""Symbols, such as characters, as the input of a model: whole numbers from 0 to V - 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError
from fgnumba.model.nodes import WiredNode


def symbols_read(nodes: Sequence[WiredNode]) -> int | None:
    """Return the number of symbols V that a model's input can be, or None if its input are numbers.

    Parameters
    ----------
    nodes : sequence of WiredNode
        The nodes of the model.

    Raises
    ------
    ConfigError
        A layer takes symbols and does not read the input, or another takes the same input as numbers.
    """
    found: dict[str, int | None] = {}
    for node in nodes:
        count = node.layer.symbols_read()
        for name in node.inputs:
            if count is not None and name != "input":
                raise ConfigError(
                    f"layer {node.name!r}: {node.layer.kind} takes symbols and reads {name!r}; only the input of a "
                    "model can be symbols"
                )
            if name == "input":
                found[node.name] = count
    counts = set(found.values())
    if None in counts and len(counts) > 1:
        takes = next(name for name, count in found.items() if count is not None)
        other = next(name for name, count in found.items() if count is None)
        raise ConfigError(
            f"layer {takes!r} takes the input as symbols and layer {other!r} as numbers; one kind is required"
        )
    known = [count for count in counts if count is not None]
    return min(known) if known else None


def check_symbols(what: str, array: npt.NDArray[Any], symbols: int) -> None:
    """Raise DatasetError unless every element is a whole number from 0 to `symbols` - 1.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    array : ndarray
        The numbers, of any shape.
    symbols : int
        The number of symbols V.
    """
    if array.size and array.dtype.kind in "iu" and int(array.min()) >= 0 and int(array.max()) < symbols:
        return
    right = (array >= 0) & (array < symbols) & (np.floor(array) == array)
    if not right.all():
        at = tuple(int(i) for i in np.unravel_index(int(np.argmin(right)), right.shape))
        raise DatasetError(
            f"{what}[{', '.join(map(str, at))}] is {array[at]}; the model's symbols are 0 to {symbols - 1}"
        )
