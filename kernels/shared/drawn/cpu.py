"""Draws the directions of one parameter again, for operations that compute with the directions alone.

Such operations must know which entries of a panel are padding, and leave them out.
"""

from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.rules.directions import GAUSSIAN, RADEMACHER, RANK1
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.rules.philox import DIRECTION_SHIFT, STREAM

FIELDS = (
    *("rows", "panels", "columns", "group_panels", "vector"),
    *("kind", "count", "first", "parameter", "stream", "draw"),
)

BLOCK = 64
"""Rows of a panel that are drawn at a time."""


@dataclass(frozen=True)
class Drawn:
    """The directions v_t of one parameter, as a dual pass drew them.

    Parameters
    ----------
    shape : tuple of int
        Shape of the packed parameter, (panels, K, PANEL) or (panels * PANEL,).
    columns : int
        N, the number of columns of the parameter without padding.
    groups : int
        Number of groups that the columns are divided into.
    direction : int
        The kind of direction, see ``rules.directions``.
    count : int
        Number of directions T.
    first : int
        Number of the first direction in the Philox counter.
    parameter : int
        Number of the parameter in the Philox counter.
    stream : array, (1,) ``philox.STREAM``
        Seed and step, read when an operation runs.
    """

    shape: tuple[int, ...]
    columns: int
    groups: int
    direction: int
    count: int
    first: int
    parameter: int
    stream: npt.NDArray[Any]

    @property
    def vector(self) -> bool:
        """Whether the parameter is a vector.

        It counts as one panel, each row of which is PANEL of the vector's entries.
        """
        return len(self.shape) == 1

    @property
    def kind(self) -> int:
        """The kind of direction. A vector has no rank-1 directions; RADEMACHER replaces them."""
        return RADEMACHER if self.vector and self.direction == RANK1 else self.direction

    @property
    def panels(self) -> int:
        """Number of panels; 1 for a vector."""
        return 1 if self.vector else self.shape[0]

    @property
    def rows(self) -> int:
        """Number of rows of a panel."""
        return self.shape[0] // PANEL if self.vector else self.shape[1]

    def fields(self, isa: InstructionSet) -> dict[str, int]:
        """Return the values of `FIELDS`."""
        return {
            "rows": self.rows,
            "panels": self.panels,
            "columns": self.columns // self.groups,
            "group_panels": (self.rows if self.vector else self.panels) // self.groups,
            "vector": self.vector,
            "kind": self.kind,
            "count": self.count,
            "first": self.first,
            "parameter": self.parameter,
            "stream": address(self.stream),
            "draw": directions.gaussians(isa) if self.kind == GAUSSIAN else directions.sign_words(isa),
        }


@register_jitable
def lanes(a: Any, panel: int, row: int) -> int:
    """Return how many lanes of a panel's row are not padding. The rows of a vector are its panels."""
    return int(min(PANEL, a.columns - (row if a.vector else panel) % a.group_panels * PANEL))


@register_jitable
def draw(a: Any, t: int, row: int, rows: int, panel: int, purpose: int, out: int) -> None:
    """Draw some rows of a panel of direction `t`.

    Parameters
    ----------
    a : record
        The kernel's arguments, with `FIELDS`.
    t : int
        The direction, counted from the first.
    row, rows : int
        The first row, a multiple of 4, and the number of rows.
    panel : int
        The panel.
    purpose : int
        ``philox.ENTRY`` for entries, ``LEFT`` and ``RIGHT`` for the vectors u and w of a rank-1 direction.
    out : int
        Address of the signs or normal numbers.
    """
    stream = carray(pointer(a.stream, STREAM), 1)[0]
    c2 = ((a.first + t) << DIRECTION_SHIFT) + a.parameter
    call(a.draw, (row, rows, panel, purpose, c2, stream.step, stream.key_low, stream.key_high, out))
