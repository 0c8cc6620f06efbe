"""Where a trainer stands between two steps, so that an interrupt at any moment leaves it there or one step on.

Python raises an interrupt between two of its own instructions. What a step does to parameters and optimiser is one
native run, which counts itself when it is done (``kernels.machine.program.Program.runs``); the trainer's own count is
written after that. An interrupt between the two is made up for: what was under way is noted before it runs, and whoever
looks next asks whether it was done. Everything that is written meanwhile may be written again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from fgnumba.estimators import Estimate, Update
from fgnumba.kernels.rules.philox import MAX_STEP
from fgnumba.model.graph import Graph
from fgnumba.validation import whole_number


class Position(NamedTuple):
    """Where a trainer stands.

    Parameters
    ----------
    steps : taken.
    rate, last, batch : of the last one, with which it can be taken back: its learning rate, what ran it, and on how
        many examples (None: it was replayed). 0.0 and None where it cannot be.
    version, before : of the model's parameters after it and before. Where they have another one by now, nothing can be
        taken back.
    """

    steps: int = 0
    rate: float = 0.0
    last: Estimate | Update | None = None
    batch: int | None = None
    version: object = None
    before: object = None


Move = tuple[Position, Position, Callable[[], bool]]
"""What leads from one position to another, and what says whether it has been done, as often as it is asked."""


class Log:
    """The position of a trainer, and the move that is under way.

    Attributes
    ----------
    move : noted before it is made; :meth:`settle` counts it. None where nothing is under way.
    """

    def __init__(self) -> None:
        self._now = Position()
        self.move: Move | None = None

    def finish(self, move: Move) -> None:
        """Count a move that has been done."""
        self._now = move[1]
        self.move = None

    @property
    def now(self) -> Position:
        """The position, as far as it has been counted."""
        return self._now

    def settle(self) -> Position:
        """Return the position, having counted what was done and not counted.

        A move that has not been done stays noted: who looks may be a signal's handler in the midst of it.
        """
        move = self.move
        if move is not None:
            before, after, done = move
            # An instruction at a time, each of which can be the last before an interrupt.
            if self._now is before and done():
                self._now = after
        return self._now

    def set(self, position: Position) -> None:
        """Stand elsewhere; nothing is under way."""
        self.move = None
        self._now = position


class Standing:
    """What trains a model by steps, and knows at any moment which of them the model has taken.

    Parameters
    ----------
    model : that steps move.
    """

    def __init__(self, model: Graph) -> None:
        self.model, self._log = model, Log()

    @property
    def position(self) -> Position:
        """Where it stands between two steps, an interrupted one counted if it was taken."""
        if self._log.move is None:
            found = self._log.now
        else:
            with self.model.lock:
                found = self._log.settle()
        # Of parameters that the last step did not leave, it cannot be taken back.
        return found if found.version is self.model.version else Position(found.steps)

    def stand(self, position: Position) -> None:
        """Stand elsewhere, where model and state already are."""
        self._log.set(position._replace(version=self.model.version))

    def move_to(self, position: Position, arrays: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
        """Stand elsewhere, where `arrays` of model and state have these values: all of it, whatever interrupts."""
        version = object()

        def done() -> bool:
            self.model.processor.assign_all(arrays, values)
            self.model.version = version
            return True

        with self.model.lock:
            before = self._log.settle()
            self._log.move = (before, position._replace(version=version), done)
            self._log.settle()

    def move_by(self, after: Position, runs: Callable[[], int], run: Callable[[], None]) -> None:
        """Do what leads elsewhere: `run`, one native run, of which `runs` tells how many there were."""
        before, version = self._log.settle(), object()
        already = runs()

        def done() -> bool:
            if runs() == already:
                return False
            self.model.version = version
            return True

        self._log.move = (before, after._replace(version=version), done)
        run()
        self._log.settle()

    @property
    def steps_done(self) -> int:
        """Steps taken: the number of the next one. It decides directions, learning rate, and batches of :meth:`fit`."""
        return self.position.steps

    @steps_done.setter
    def steps_done(self, steps: int) -> None:
        self.stand(Position(whole_number("steps_done", steps, 0, MAX_STEP + 1)))

    @property
    def last_rate(self) -> float:
        """The learning rate of the last step, 0.0 where there is none that could be taken back."""
        return self.position.rate
