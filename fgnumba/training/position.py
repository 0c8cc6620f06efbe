"""The position of a trainer between two steps, kept so that an interrupt leaves it before or after a step.

Python raises an interrupt between two of its own instructions. What a step does to the parameters and the optimiser's
state is one native call, which increments a counter when it is done (``kernels.machine.program.Program.runs``). The
trainer's own count of steps is written after that, and an interrupt may come between the two. So the step under way is
noted before it runs, and the next one to ask for the position checks whether the step was done, and counts it then.
Everything that is written in between may safely be written again.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from fgnumba.estimators import Estimate, Update
from fgnumba.kernels.rules.philox import MAX_STEP
from fgnumba.model.graph import Graph
from fgnumba.validation import whole_number


class Position(NamedTuple):
    """The position of a trainer: how many steps it has taken, and what is needed to take the last one back.

    Parameters
    ----------
    steps : int
        Number of steps taken.
    rate : float
        Learning rate of the last step; 0.0 if it cannot be taken back.
    last : Estimate, Update or None
        What the last step ran; None if it cannot be taken back.
    batch : int or None
        Number of examples in the last step; None if it was replayed or cannot be taken back.
    version : object
        Version of the model's parameters after the last step. If the model has another version by now, its parameters
        were changed otherwise, and the step cannot be taken back.
    before : object
        Version of the model's parameters before the last step.
    """

    steps: int = 0
    rate: float = 0.0
    last: Estimate | Update | None = None
    batch: int | None = None
    version: object = None
    before: object = None


Move = tuple[Position, Position, Callable[[], bool]]
"""A change of position: the position before it, the position after it, and a function that returns whether it was done.

The function may be called several times."""


class Log:
    """The position of a trainer, and the move that is under way.

    Attributes
    ----------
    move : Move or None
        The move that is under way, noted before it is made; :meth:`settle` counts it once it was done. None: there is
        no such move.
    """

    def __init__(self) -> None:
        self._now = Position()
        self.move: Move | None = None

    def finish(self, move: Move) -> None:
        """Count a move that has been done.

        Parameters
        ----------
        move : Move
            The move.
        """
        self._now = move[1]
        self.move = None

    @property
    def now(self) -> Position:
        """The position without the move that is under way."""
        return self._now

    def settle(self) -> Position:
        """Count the noted move if it has been done, and return the position.

        A move that has not been done stays noted, because the caller may be a signal handler in the middle of it.
        """
        move = self.move
        if move is not None:
            before, after, done = move
            # Each of these instructions can be the last one before an interrupt, and none of them must leave a wrong
            # position.
            if self._now is before and done():
                self._now = after
        return self._now

    def set(self, position: Position) -> None:
        """Set the position, with no move under way.

        Parameters
        ----------
        position : Position
            The new position.
        """
        self.move = None
        self._now = position


class Standing:
    """Base class of a trainer: knows at any moment how many steps its model has taken.

    Parameters
    ----------
    model : Graph
        The model whose parameters the steps move.
    """

    def __init__(self, model: Graph) -> None:
        self.model, self._log = model, Log()

    @property
    def position(self) -> Position:
        """The position between two steps; an interrupted step is counted if it was taken."""
        if self._log.move is None:
            current = self._log.now
        else:
            with self.model.lock:
                current = self._log.settle()
        # The last step cannot be taken back if the parameters have been changed since.
        return current if current.version is self.model.version else Position(current.steps)

    def stand(self, position: Position) -> None:
        """Set the position, where the model and the state have its values already.

        Parameters
        ----------
        position : Position
            The new position.
        """
        self._log.set(position._replace(version=self.model.version))

    def move_to(self, position: Position, arrays: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
        """Set the position and the arrays of model and state, all or nothing even if an interrupt comes.

        Parameters
        ----------
        position : Position
            The new position.
        arrays : sequence of array
            Arrays on the model's device.
        values : sequence of ndarray
            Their new values, in the same order.
        """
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
        """Change the position by one native call, so that an interrupt leaves the position before or after it.

        Parameters
        ----------
        after : Position
            The position after the call.
        runs : callable
            Returns how many times the native call has been made.
        run : callable
            Makes the native call.
        """
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
        """Number of steps taken, which is the number of the next step.

        It decides the next step's directions and learning rate, and its batch in ``Trainer.fit``.
        """
        return self.position.steps

    @steps_done.setter
    def steps_done(self, steps: int) -> None:
        self.stand(Position(whole_number("steps_done", steps, 0, MAX_STEP + 1)))

    @property
    def last_rate(self) -> float:
        """Learning rate of the last step; 0.0 if there is none, or if the parameters have been changed since."""
        return self.position.rate
