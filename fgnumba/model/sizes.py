"""Compare the memory that a model needs with the machine's memory, before any of it is allocated."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fgnumba.errors import ConfigError, ShapeError, shown
from fgnumba.kernels.layout.packing import packed_size
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.kernels.rules.philox import MAX_COLUMNS, MAX_PARAMETERS
from fgnumba.layers import Shape
from fgnumba.validation import several, whole_number

FLOAT_BYTES = 4


def check_example(what: str, shape: Shape) -> None:
    """Raise ShapeError, whose message begins with `what`, if one float32 example of `shape` exceeds the memory."""
    needed = math.prod(shape) * FLOAT_BYTES
    if needed > physical_memory():
        raise ShapeError(
            f"{what} has shape {shown(shape)}: {readable(needed)} an example; "
            f"this machine has {readable(physical_memory())}"
        )


def checked_batch(batch: Any, shape: Shape) -> int:
    """Return the batch size as an int, after checking it.

    Parameters
    ----------
    batch : int
        The number of examples B.
    shape : tuple of int
        The shape of one example.

    Raises
    ------
    ConfigError
        If `batch` is no whole number of at least 1.
    ShapeError
        If B float32 examples need more memory than the machine has.
    """
    number = whole_number("batch", batch)
    needed = number * math.prod(shape) * FLOAT_BYTES
    if needed > physical_memory():
        raise ShapeError(
            f"batch is {number}: {readable(needed)} of examples of shape {shown(shape)}; "
            f"this machine has {readable(physical_memory())}"
        )
    return number


def check_parameters(layers: Iterable[tuple[str, Mapping[str, Shape], int]]) -> None:
    """Check that a model's parameters are not too many or too large.

    Parameters
    ----------
    layers : iterable of (str, mapping of str to tuple of int, int)
        For each layer, its name in messages, the shapes of its parameters by name, and the number of groups in which
        their columns are packed.

    Raises
    ------
    ShapeError
        If there are more parameter arrays, or more columns in one, than a direction can number; or if the parameters
        need more memory than the machine has. They need it packed and, one layer at a time, as they are drawn.
    """
    arrays = nbytes = 0
    for where, shapes, groups in layers:
        arrays += len(shapes)
        if arrays > MAX_PARAMETERS:
            raise ShapeError(
                f"{where}: with it there are {arrays} parameter arrays; at most {MAX_PARAMETERS} are possible"
            )
        for name, shape in shapes.items():
            if shape[-1] > MAX_COLUMNS:
                raise ShapeError(
                    f"{where}: {name} has {shape[-1]} columns; at most {MAX_COLUMNS} are possible"
                )
        drawn = FLOAT_BYTES * sum(map(math.prod, shapes.values()))
        nbytes += FLOAT_BYTES * sum(packed_size(shape, groups) for shape in shapes.values())
        if nbytes + drawn > physical_memory():
            listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
            raise ShapeError(
                f"{where}: with its {listed} the parameters need {readable(nbytes + drawn)}; "
                f"this machine has {readable(physical_memory())}"
            )


def shape_of(what: str, shape: Any) -> Shape:
    """Return a shape, or a whole number, as a tuple of Python's ints.

    Parameters
    ----------
    what : str
        What has the shape, for the message.
    shape : sequence of int, or int
        The sizes, each at least 1; a whole number K stands for (K,).

    Raises
    ------
    ShapeError
        It is nothing of this kind.
    """
    sizes = several(shape)
    try:
        # There is no upper limit here: check_example compares the size with the machine's memory.
        checked_shape = tuple(
            whole_number(what, size, high=math.inf) for size in ((shape,) if sizes is None else sizes)
        )
    except ConfigError:
        checked_shape = ()
    if not checked_shape:
        raise ShapeError(f"{what} is {shown(shape)}; whole numbers of at least 1 are required")
    return checked_shape
