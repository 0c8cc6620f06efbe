"""What a model needs, held against what the machine has, before any of it is asked for."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from fgnumba.errors import ShapeError, shown
from fgnumba.kernels.layout.packing import packed_size
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.kernels.rules.philox import MAX_COLUMNS, MAX_PARAMETERS
from fgnumba.layers import Shape
from fgnumba.validation import whole_number

FLOAT_BYTES = 4


def check_example(what: str, shape: Shape) -> None:
    """Raise ShapeError where a single example of `shape` is more than the machine can hold."""
    needed = math.prod(shape) * FLOAT_BYTES
    if needed > physical_memory():
        raise ShapeError(
            f"{what} has shape {shown(shape)}: {readable(needed)} an example; "
            f"this machine has {readable(physical_memory())}"
        )


def checked_batch(batch: Any, shape: Shape) -> int:
    """Return the number of examples of `shape` in a batch as an int.

    Raises
    ------
    ConfigError
        It is no whole number of at least 1.
    ShapeError
        So many are more than the machine can hold.
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
    """Hold a model's parameters against what is possible.

    Parameters
    ----------
    layers : what messages call each, its parameters' shapes by name, and the groups that their columns are packed in.

    Raises
    ------
    ShapeError
        They are more, or have more columns, than is possible; or they need more memory than there is, packed and, one
        layer at a time, as they are drawn.
    """
    arrays = nbytes = 0
    for where, shapes, groups in layers:
        arrays += len(shapes)
        if arrays > MAX_PARAMETERS:
            raise ShapeError(
                f"{where}: with it there are {arrays} parameter arrays; at most {MAX_PARAMETERS} can be"
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
