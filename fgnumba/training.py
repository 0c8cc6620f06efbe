"""A training run on a data set: steps, records, checkpoints, and how it ends."""

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from fgnumba.callbacks import Callback, History, Record, StepResult, result_of
from fgnumba.checkpoints import Checkpoints
from fgnumba.datasets.dataset import Dataset
from fgnumba.diagnosis import Diagnosis
from fgnumba.errors import ConfigError, DeviceError, DivergenceError, RunError
from fgnumba.estimators import Estimate
from fgnumba.evaluation import Evaluation, evaluate
from fgnumba.forward import checked_targets
from fgnumba.kernels.philox import MAX_STEP
from fgnumba.resumption import Good, resume
from fgnumba.snapshot import GOOD

if TYPE_CHECKING:
    from fgnumba.resident import ResidentTraining
    from fgnumba.trainer import Trainer


@dataclass
class Progress:
    """Where a run stands between two steps, beside what its trainer holds.

    Parameters
    ----------
    done : steps.
    count, total : of the losses since the last record.
    first_loss : of the first step, None before it.
    seconds : that it has taken.
    """

    done: int = 0
    count: int = 0
    total: float = 0.0
    first_loss: float | None = None
    seconds: float = 0.0

    def add(self, loss: float) -> None:
        """Count a step."""
        self.done += 1
        self.count += 1
        self.total += loss
        if self.first_loss is None:
            self.first_loss = loss

    def take_mean(self) -> float:
        """Return the mean loss since the last record, and begin anew."""
        mean, self.count, self.total = self.total / self.count, 0, 0.0
        return mean


class Training:
    """A run of so many steps.

    Parameters
    ----------
    trainer, dataset : they fit each other.
    steps, batch_size, every : how many; examples of each; steps between records.
    callbacks, checkpoints, resume, stop_above : as ``Trainer.fit`` takes them.
    """

    def __init__(
        self,
        trainer: "Trainer",
        dataset: Dataset,
        *,
        steps: int,
        batch_size: int,
        every: int,
        callbacks: Sequence[Callback],
        checkpoints: Checkpoints | None,
        resume: bool,
        stop_above: float | None,
    ) -> None:
        self._trainer, self._dataset, self._callbacks = trainer, dataset, callbacks
        self._steps, self._batch, self._every = steps, batch_size, every
        self._checkpoints, self._resume, self._stop_above = checkpoints, resume, stop_above
        self._per_epoch = len(dataset.x_train) // batch_size
        self._history, self._progress = History(), Progress()

    def run(self) -> History:
        """Take the steps that are left, and return the history."""
        self._clock, self._rate = time.perf_counter(), 0.0
        trainer = self._trainer
        with trainer.model.lock:
            # What its steps keep must be there to be restored.
            self._estimate = trainer.plan(self._batch)
        with contextlib.ExitStack() as stack:
            if self._checkpoints is not None:
                stack.enter_context(self._checkpoints.opened(self._resume))
                if self._resume:
                    self._restore(self._checkpoints)
                self._checkpoints.follow(trainer, self._estimate)
            for callback in self._callbacks:
                if self._progress.done:
                    callback.on_resume(self._trainer, self._steps, self._progress.done)
                else:
                    callback.on_start(self._trainer, self._steps)
            self._begun = self._trainer.steps_done - self._progress.done
            if not self._progress.done:
                self._remember()
            source = stack.enter_context(contextlib.closing(self._source()))
            while self._progress.done < self._steps and not self._history.stopped:
                self._one(source)
        if not self._history.stopped:
            for callback in self._callbacks:
                callback.on_end(self._history)
        return self._history

    def _source(self) -> "_Source":
        trainer, dataset, done = self._trainer, self._dataset, self._progress.done
        if not trainer.model.processor.checks_between:
            batch = dataset.x_train[: self._batch], dataset.y_train[: self._batch]
            checked_targets(trainer.model, trainer.loss, *batch)
            left = self._steps - done
            if trainer.steps_done + left > MAX_STEP + 1:
                raise ConfigError(f"{left} more steps: at most 2**32 steps are possible with one seed")
            training = self._resident()
            if training is not None:
                periods = [self._every]
                if self._checkpoints is not None and self._checkpoints.every is not None:
                    periods.append(self._checkpoints.every)
                return _ResidentSource(trainer, training, self._estimate, self._steps, done, periods)
        return _Source(trainer, dataset.batches(self._batch, trainer.seed, done))

    def _resident(self) -> "ResidentTraining | None":
        """Return training on data that lie on the device; None without room, or where the host has a part in steps."""
        from fgnumba.resident import ResidentTraining

        trainer = self._trainer
        with trainer.model.lock:
            if self._estimate.resident(trainer.steps_done) is None:
                return None
            try:
                return ResidentTraining(trainer, self._dataset, self._batch, self._estimate)
            except DeviceError:
                # The data do not fit: batches are uploaded one by one.
                return None

    def _one(self, source: "_Source") -> None:
        """Take a step, and what is due after it."""
        progress, trainer, saved = self._progress, self._trainer, self._checkpoints
        try:
            result = next(source.results)
        except DivergenceError as error:
            self._diverged(error)
        self._rate = trainer.last_rate
        progress.add(result.loss)
        if saved is not None:
            saved.log_step(trainer, self._estimate)
        for callback in self._callbacks:
            callback.on_step(progress.done, result)
        if self._exceeds(result.loss):
            self._restore_good(
                f"step {progress.done - 1}: the loss {result.loss:.6g} is above {self._stop_above:g} times "
                f"{progress.first_loss:.6g}, that of the first step"
            )
        last = progress.done == self._steps
        if progress.done % self._every == 0 or last:
            self._record(progress.done)
            if np.isfinite(self._history.final.test_loss) and not self._exceeds(
                self._history.final.test_loss
            ):
                self._remember()
        stopping = trainer.stopping and not last
        if stopping or (saved is not None and saved.due(progress.done, last)):
            # Elsewhere than on the CPU, steps run ahead of what has been seen.
            source.drain()
            if source.ahead == 0:
                if saved is not None:
                    self._save(saved)
                self._history.stopped = stopping

    def _remember(self) -> None:
        """Keep what to go back to where training diverges."""
        mark = 0 if self._checkpoints is None else self._checkpoints.mark()
        self._good = Good(self._trainer.steps_done, self._trainer.model.parameters(), mark)

    def _exceeds(self, loss: float) -> bool:
        first = self._progress.first_loss
        return self._stop_above is not None and first is not None and loss > self._stop_above * first

    def _record(self, step: int, instead: Record | None = None) -> None:
        """Record how far the model is after `step`; `instead` of a record that was dropped."""
        progress, tested = self._progress, self._tested()
        record = Record(
            step=step,
            epoch=step / self._per_epoch,
            loss=progress.take_mean() if instead is None else instead.loss,
            test_loss=tested.loss,
            test_accuracy=tested.accuracy,
            learning_rate=self._rate,
            seconds=self._seconds(),
        )
        self._history.records.append(record)
        if self._checkpoints is not None:
            self._checkpoints.log_record(record)
        for callback in self._callbacks:
            callback.on_record(record)

    def _seconds(self) -> float:
        return self._progress.seconds + time.perf_counter() - self._clock

    def _diverged(self, error: DivergenceError) -> NoReturn:
        """Raise `error`, the last good parameters in place and recorded."""
        trainer, records = self._trainer, self._history.records
        done = trainer.steps_done - self._begun
        if self._checkpoints is not None:
            self._checkpoints.log_end(trainer.steps_done)
        if not error.kept:
            self._restore_good(str(error), error.diagnosis)
        if not np.isfinite(self._tested().loss):
            self._restore_good(f"{error}; but they are lost to rounding", error.diagnosis)
        if records and records[-1].step > done:
            # Of the step that has been taken back: what is recorded is what is kept.
            self._record(done, self._drop())
        elif self._progress.count and (not records or records[-1].step < done):
            self._record(done)
        raise error

    def _drop(self) -> Record:
        """Take the last record back, and return it."""
        if self._checkpoints is not None:
            self._checkpoints.drop_record()
        return self._history.records.pop()

    def _tested(self) -> Evaluation:
        return evaluate(self._trainer.model, self._dataset.x_test, self._dataset.y_test)

    def _restore_good(self, message: str, diagnosis: Diagnosis | None = None) -> NoReturn:
        step, parameters, mark = self._good
        self._trainer.model.load_parameters(parameters)
        while self._history.records and self._history.final.step > step - self._begun:
            self._drop()
        if self._checkpoints is not None:
            self._checkpoints.go_back(mark)
        restored = f"{message}; the parameters after step {step} are restored"
        raise DivergenceError(restored, diagnosis=diagnosis) from None

    @property
    def _facts(self) -> dict[str, Any]:
        """What a checkpoint must agree in with the run that continues from it."""
        return {"batch_size": self._batch, "data": self._dataset.digest}

    def _save(self, saved: Checkpoints) -> None:
        now = {**asdict(self._progress), "seconds": self._seconds()}
        good, trainer = self._good, self._trainer
        facts = {"progress": now, "run": self._facts, "good": {"step": good.step, "mark": good.mark}}
        apart = good.step != trainer.steps_done
        more = {GOOD + name: array for name, array in good.parameters.items()} if apart else {}
        saved.save(trainer, self._progress.done, facts, more)

    def _restore(self, saved: Checkpoints) -> None:
        """Continue from the newest checkpoint that is whole, from the start where there is none."""
        point = resume(saved, self._trainer, self._facts)
        if point is not None:
            self._progress, self._good = Progress(**point.progress), point.good
            if self._progress.done > self._steps:
                raise RunError(
                    f"{saved.folder}: its checkpoint is of step {self._progress.done}; the run has {self._steps} steps"
                )
        self._history.records += saved.records


class _Source:
    """The results of steps, one after another.

    Attributes
    ----------
    results : of the steps. ahead : steps that have been taken and are not among them yet.
    """

    ahead = 0

    def __init__(self, trainer: "Trainer", batches: Iterator[tuple[Any, Any]]) -> None:
        self.results: Iterator[StepResult] = (trainer.step(*batch) for batch in batches)

    def drain(self) -> None:
        """Let no further step be taken before all that were have been seen."""

    def close(self) -> None:
        """Take no more."""


class _ResidentSource(_Source):
    """Steps that a device takes by itself, some of them ahead."""

    def __init__(
        self,
        trainer: "Trainer",
        training: "ResidentTraining",
        estimate: Estimate,
        steps: int,
        done: int,
        periods: Sequence[int],
    ) -> None:
        self._trainer, self._training, self._estimate, self._done = trainer, training, estimate, done
        self._taken = training.steps(steps, periods, done)
        self.results = self._seen()

    def _seen(self) -> Generator[StepResult, None, None]:
        for number, taken in enumerate(self._taken, self._done):
            if not taken.finite:
                self._trainer.fail(self._estimate, taken.values, *self._training.batch(number), taken.rate)
            yield result_of(taken.values)

    @property
    def ahead(self) -> int:  # type: ignore[override]
        """Steps that have been asked for and not been seen."""
        return self._training.ahead

    def drain(self) -> None:
        self._training.draining = True

    def close(self) -> None:
        self._taken.close()
