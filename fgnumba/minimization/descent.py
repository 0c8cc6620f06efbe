"""The steps of a descent, its records and checkpoints, and the ways in which it ends."""

import contextlib
import math
import time
from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from fgnumba.errors import DivergenceError
from fgnumba.minimization.estimates import ExactGradient, ForwardGradient
from fgnumba.minimization.minimum import Minimum
from fgnumba.minimization.passes import Function
from fgnumba.minimization.saved import Kept, Point, resumed, save
from fgnumba.minimization.updates import Update
from fgnumba.minimization.variables import Variables, Vector
from fgnumba.optimizers import Optimizer
from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.followers import Followers
from fgnumba.training.records import History, Record, StepResult


class Descent:
    """A descent, which callbacks get in place of a trainer.

    Parameters
    ----------
    function : Function
        The function f.
    variables : Variables
        The form of its variables, and the starting point.
    estimate : ExactGradient or ForwardGradient
        What estimates the gradient.
    optimizer : Optimizer
        How a step follows the estimate.
    steps : int
        Number of steps.
    every : int
        Number of steps between records.
    seed : int
        Seed of the directions.
    callbacks : sequence of Callback
        Objects that follow the descent and may end it.
    checkpoints : Checkpoints or None
        Where it is saved to disk, if it is.

    Attributes
    ----------
    monitor : str
        The figure of a record that early stopping watches.
    steps_done : int
        Number of steps taken.
    """

    monitor = "loss"

    def __init__(
        self,
        function: Function,
        variables: Variables,
        *,
        estimate: ExactGradient | ForwardGradient,
        optimizer: Optimizer,
        steps: int,
        every: int,
        seed: int,
        callbacks: Sequence[Callback],
        checkpoints: Checkpoints | None,
    ) -> None:
        self._f, self._variables, self._estimate = function, variables, estimate
        self.optimizer, self.seed = optimizer, seed
        self._steps, self._every, self._saved = steps, every, checkpoints
        self._update = Update(optimizer, variables.size)
        self._callbacks = Followers(callbacks, judged=True)
        self._stopping = next((one for one in callbacks if isinstance(one, EarlyStopping)), None)
        self.steps_done, self._rate, self._seconds = 0, 0.0, 0.0
        self._x: Vector = variables.start.copy()
        # `_good`: the last point whose value is known to be finite.
        self._good: Kept | None = None
        self._best: Kept | None = None
        self._history = History()
        self._stop_requested = False

    @property
    def x(self) -> Any:
        """The variables after the last step, in the form of the starting point; arrays are copies."""
        return self._variables.of(self._x)

    def stop(self) -> None:
        """End the descent after its current step; with checkpoints, it can be resumed."""
        self._stop_requested = True

    def settings(self, steps: int) -> dict[str, Any]:
        """Return the settings, as a logger logs them.

        Parameters
        ----------
        steps : int
            Number of steps of the whole descent.
        """
        return {
            "function": self._f.name,
            "variables": self._variables.size,
            "estimator": self._estimate.text,
            "optimizer": repr(self.optimizer),
            "seed": self.seed,
            "steps": steps,
        }

    def run(self, resume: bool) -> Minimum:
        """Take the steps that are left, and return what was reached. Callbacks are told of the end in any case."""
        history, saved = self._history, self._saved
        with contextlib.nullcontext() if saved is None else saved.opened(resume):
            try:
                self._take_steps(resume)
            except BaseException as error:
                diverged = isinstance(error, DivergenceError)
                if diverged:
                    history.ended_by = "divergence"
                else:
                    history.ended_by = "error" if isinstance(error, Exception) else "interrupt"
                failure = self._callbacks.end(history, error)
                if failure is None:
                    raise
            else:
                early = "callback" if history.ended_early else "steps"
                history.ended_by = "stop" if history.stopped else early
                failure = self._callbacks.end(history)
        if failure is not None:
            raise failure
        return self._reached()

    def _reached(self) -> Minimum:
        """Return the best record if early stopping restores it, and else the last point whose value is finite."""
        kept = self._good
        if self._best is not None and not self._history.stopped:
            kept = self._best
            if kept.step != self.steps_done:
                self._history.restored_step = kept.step
        assert kept is not None
        return Minimum(self._variables.of(kept.x), kept.value, kept.step, self._history)

    def _take_steps(self, resume: bool) -> None:
        clock, history = time.perf_counter(), self._history
        if self._saved is not None and resume:
            self._restore(self._saved)
        before = self._seconds
        # A function that refuses its argument says so here, before anything of it is compiled for tangents.
        self._look()
        self._callbacks.start(self, self._steps, self.steps_done)
        while self.steps_done < self._steps and not (history.stopped or history.ended_early):
            self._step()
            self._seconds = before + time.perf_counter() - clock
            last = self.steps_done == self._steps
            if self.steps_done % self._every == 0 or last:
                self._record(last)
            over = last or history.ended_early
            interrupted = (self._stop_requested or self._callbacks.failure is not None) and not over
            if self._saved is not None and (interrupted or self._saved.due(self.steps_done, over)):
                save(self._saved, self._point, self._agreed, self._callbacks.callbacks)
            history.stopped = interrupted
        if self._callbacks.failure is not None:
            history.stopped = False
            raise self._callbacks.failure
        self._look()

    def _step(self) -> None:
        found = self._estimate.at(self._f, self._x, self.steps_done)
        if not math.isfinite(found.value):
            self._diverge(f"f(x) is {found.value:g}")
        self._good = Kept(self.steps_done, self._x.copy(), found.value)
        if not np.isfinite(found.gradient).all():
            self._diverge(f"f(x) is {found.value:.6g}, but a derivative is not finite")
        self._rate = self._update.step(self._x, found.gradient, self.steps_done)
        self.steps_done += 1
        derivatives = found.derivatives
        self._callbacks.step(
            self.steps_done,
            StepResult(found.value, float(derivatives[0]) if len(derivatives) == 1 else derivatives),
        )

    def _look(self) -> float:
        """Return f(x) after the last step."""
        if self._good is None or self._good.step != self.steps_done:
            value = self._f.value(self._x)
            if not math.isfinite(value):
                self._diverge(f"f(x) is {value:g}")
            self._good = Kept(self.steps_done, self._x.copy(), value)
        return self._good.value

    def _record(self, last: bool) -> None:
        record = Record(
            step=self.steps_done,
            epoch=math.nan,
            loss=self._look(),
            learning_rate=self._rate,
            seconds=self._seconds,
        )
        self._history.ended_early = self._callbacks.ends(record) and not last
        stopping = self._stopping
        if stopping is not None and stopping.restore_best and stopping.best_step == record.step:
            self._best = self._good
        self._history.records.append(record)
        if self._saved is not None:
            self._saved.log_record(record)
        self._callbacks.record(record)
        self._callbacks.decide()

    def _diverge(self, what: str) -> NoReturn:
        """Raise DivergenceError, with the last point whose value is finite as its ``reached``."""
        good, step = self._good, self.steps_done
        self._best = None
        if good is None or step == 0:
            raise DivergenceError(f"step {step}: {what} at the starting point x0", kept=False)
        raise DivergenceError(
            f"step {step}: {what} at learning rate {self._rate:.6g}; x after step {good.step}, where f(x) is "
            f"{good.value:.6g}, is kept as the error's `reached`; try a learning rate of {self._rate / 10:.3g} or less",
            reached=self._reached(),
        )

    @property
    def _agreed(self) -> dict[str, Any]:
        """What must be the same in a descent that continues from a checkpoint; the learning rate may differ."""
        constants = " ".join(f"{name}={float(value)!r}" for name, value in self.optimizer.constants().items())
        return {
            "function": self._f.name,
            "variables": self._variables.size,
            "estimator": self._estimate.text,
            "optimizer": f"{type(self.optimizer).__name__} {constants}".rstrip(),
            "seed": self.seed,
        }

    @property
    def _point(self) -> Point:
        return Point(
            self.steps_done,
            self._rate,
            self._seconds,
            self._history.ended_early,
            self._x,
            self._update.moments,
            self._best,
        )

    def _restore(self, saved: Checkpoints) -> None:
        moments = self._update.moments
        point = resumed(saved, self._agreed, self._steps, len(moments), self._callbacks.callbacks)
        if point is not None:
            self.steps_done, self._rate, self._seconds = point.done, point.rate, point.seconds
            self._x, self._best, self._history.ended_early = point.x, point.best, point.ended
            moments[...] = point.moments
        self._history.records += saved.records
