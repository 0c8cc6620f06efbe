"""Where a trainer stands between two steps, so that an interrupt at any moment leaves it there or one step on.

Python raises an interrupt between two of its own instructions. What a step does to parameters and optimiser is one
native run, which counts itself when it is done (``kernels.program.Program.runs``); the trainer's own count is written
after that. An interrupt between the two is made up for: what was under way is noted before it runs, and whoever looks
next asks whether it was done. Everything that is written meanwhile may be written again.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fgnumba.estimators import Estimate, Update


class Position(NamedTuple):
    """Where a trainer stands.

    Parameters
    ----------
    steps : taken.
    rate, last, batch : of the last one, with which it can be taken back: its learning rate, what ran it, and on how
        many examples (None: it was replayed). 0.0 and None where it cannot be.
    version : of the model's parameters after it. Where they have another one by now, nothing can be taken back.
    """

    steps: int = 0
    rate: float = 0.0
    last: "Estimate | Update | None" = None
    batch: int | None = None
    version: object = None


class Move(NamedTuple):
    """What leads from one position to another.

    Parameters
    ----------
    before, after : the positions.
    done : returns whether it has been done; may be asked again and again.
    """

    before: Position
    after: Position
    done: Callable[[], bool]


class Log:
    """The position of a trainer, and the move that is under way.

    Attributes
    ----------
    move : None where nothing is under way.
    """

    def __init__(self) -> None:
        self._now = Position()
        self.move: Move | None = None

    def begin(self, move: Move) -> None:
        """Note what is done next; :meth:`settle` counts it."""
        self.move = move

    def finish(self, move: Move) -> None:
        """Count a move that has been done."""
        self._now = move.after
        self.move = None

    def settle(self) -> Position:
        """Return the position, having counted what was done and not counted."""
        move = self.move
        if move is not None:
            # An instruction at a time, each of which can be the last before an interrupt.
            if self._now is move.before and move.done():
                self._now = move.after
            self.move = None
        return self._now

    def set(self, position: Position) -> None:
        """Stand elsewhere; nothing is under way."""
        self.move = None
        self._now = position
