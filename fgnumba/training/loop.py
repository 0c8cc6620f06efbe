"""The training loop: a run's steps on a data set, its records and checkpoints, and the ways in which it ends."""

import contextlib
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, NoReturn

from fgnumba.errors import Diagnosis, DivergenceError
from fgnumba.training.arithmetic import KEY, arithmetic_of
from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.evaluation import Evaluation
from fgnumba.training.followers import Followers
from fgnumba.training.judge import Best, Judge, Parts
from fgnumba.training.kept_states import states_of
from fgnumba.training.progress import Progress
from fgnumba.training.records import History, Record
from fgnumba.training.resume import Good, resume
from fgnumba.training.scoring import Metric
from fgnumba.training.sources import Feed, Source, source_of
from fgnumba.training.state import BEST, GOOD, snapshot
from fgnumba.training.steps import Steps


class Training:
    """A training run on a data set.

    Parameters
    ----------
    trainer : Steps
        The trainer that takes the steps.
    parts : Parts
        The training, validation and test data, which fit the trainer's model.
    early_stopping : EarlyStopping or None
        The early stopping among `callbacks`, if there is one.
    metrics : sequence of Metric
        What records have beside the loss.
    feed : Feed
        Where the batches come from.
    steps : int
        Number of steps; the run takes fewer if a callback ends it.
    whole : bool
        Whether the run begins at the beginning of an epoch.
    batch_size : int
        Number of examples in each step.
    every : int
        Number of steps between records.
    callbacks : sequence of Callback
        Objects that follow the run and may end it.
    checkpoints : Checkpoints or None
        Where the run is saved to disk, if it is.
    resume : bool
        Whether to continue from the newest checkpoint.
    stop_above : float or None
        Largest ratio of a loss to the first one, beyond which the run has diverged.
    """

    def __init__(
        self,
        trainer: Steps,
        parts: Parts,
        *,
        early_stopping: EarlyStopping | None,
        metrics: Sequence[Metric],
        feed: Feed,
        steps: int,
        whole: bool,
        batch_size: int,
        every: int,
        callbacks: Sequence[Callback],
        checkpoints: Checkpoints | None,
        resume: bool,
        stop_above: float | None,
    ) -> None:
        self._trainer, self._dataset = trainer, parts.training
        self._callbacks = Followers(callbacks, parts.validation is not None)
        self._steps, self._batch, self._every, self._whole = steps, batch_size, every, whole
        self._checkpoints, self._resume, self._stop_above = checkpoints, resume, stop_above
        self._feed, self._per_epoch = feed, feed.per_epoch
        self._history, self._progress = History(), Progress()
        self._early_stopping = early_stopping
        self._judge = Judge(trainer.model, trainer.loss, metrics, parts, early_stopping)
        self._parts = parts
        # Number of the first batch.
        self._first = 0

    def run(self) -> History:
        """Take the remaining steps, and return the history. Each callback is told of the end, whatever its reason."""
        history, saved = self._history, self._checkpoints
        with self._trainer.model.lock:
            # Binding creates the arrays that steps keep, into which a checkpoint is restored.
            self._estimate = self._trainer.bind(self._batch)
        with contextlib.nullcontext() if saved is None else saved.opened(self._resume):
            try:
                self._take_steps()
            except BaseException as error:
                history.ended_by = _reason(error)
                failure = self._callbacks.end(history, error)
                if failure is None:
                    raise
            else:
                history.ended_by = self._end()
                failure = self._callbacks.end(history)
        # Outside of the folder's context, which takes every OSError for one of the folder.
        if failure is not None:
            raise failure
        return history

    def _end(self) -> str:
        """Return the value of :attr:`History.ended_by` for a run that no exception ended."""
        if self._history.stopped:
            return "stop"
        if self._history.ended_early:
            return "callback"
        return "steps" if self._progress.done == self._steps else "data"

    def _take_steps(self) -> None:
        self._clock, self._rate = time.perf_counter(), 0.0
        trainer, history = self._trainer, self._history
        if self._checkpoints is not None:
            if self._resume:
                self._restore(self._checkpoints)
                self._rate = trainer.last_rate
            self._checkpoints.follow(trainer, self._estimate)
        if not self._progress.done:
            self._first = trainer.steps_done
            if self._whole and self._per_epoch:
                self._first = -(-self._first // self._per_epoch) * self._per_epoch
        self._callbacks.start(trainer, self._steps, self._progress.done)
        self._begun = self._trainer.steps_done - self._progress.done
        if not self._progress.done:
            self._remember()
        with contextlib.closing(self._source()) as source:
            while self._progress.done < self._steps and not (history.stopped or history.ended_early):
                if not self._one(source):
                    break
            if self._callbacks.failure is not None:
                history.stopped = False
                raise self._callbacks.failure
            if not history.stopped and not self._has_figures():
                # The run was stopped at this step with more to come, and is resumed with no further steps.
                if self._progress.count:
                    self._record(last=True)
                else:
                    self._end_at(self._progress.done)
        if not history.stopped:
            self._leave_best()

    def _source(self) -> Source:
        periods = [self._every]
        if self._checkpoints is not None and self._checkpoints.every is not None:
            periods.append(self._checkpoints.every)
        return source_of(
            self._trainer,
            self._feed,
            self._batch,
            self._estimate,
            self._steps,
            self._progress.done,
            self._first,
            periods,
        )

    def _one(self, source: Source) -> bool:
        """Take a step, make the record and the checkpoint that are due, and return whether there was a batch."""
        progress, trainer, saved = self._progress, self._trainer, self._checkpoints
        try:
            result = next(source.results, None)
        except DivergenceError as error:
            self._diverged(error)
        if result is None:
            return False
        self._rate = trainer.last_rate
        progress.add(result.loss)
        if saved is not None:
            saved.log_step(trainer)
        self._callbacks.step(progress.done, result)
        if self._exceeds(result.loss):
            self._restore_good(
                f"step {progress.done - 1}: the loss {result.loss:.6g} is above {self._stop_above:g} times "
                f"{progress.first_loss:.6g}, that of the first step"
            )
        last = progress.done == self._steps
        if progress.done % self._every == 0 or last:
            self._record(last)
        last = last or self._history.ended_early
        interrupted = (trainer.stop_requested or self._callbacks.failure is not None) and not last
        if interrupted or (saved is not None and saved.due(progress.done, last)):
            # On a GPU, steps have been taken whose results are still to come; a checkpoint must wait for these.
            source.drain()
            if source.ahead == 0:
                if saved is not None:
                    self._save(saved)
                self._history.stopped = interrupted
        return True

    def _remember(self) -> None:
        """Keep the parameters, to which the model returns if training diverges."""
        mark = 0 if self._checkpoints is None else self._checkpoints.mark()
        self._good = Good(self._trainer.steps_done, self._trainer.model.parameters(), mark)

    def _exceeds(self, loss: float) -> bool:
        first = self._progress.first_loss
        return self._stop_above is not None and first is not None and loss > self._stop_above * first

    def _record(self, last: bool) -> None:
        """Make a record, ask the callbacks whether it ends the run, and keep the parameters if their loss is finite."""
        record = self._measured(self._progress.done, self._progress.take_mean())
        early = self._callbacks.ends(record)
        self._history.ended_early = early and not last
        self._judge.follow(record)
        loss = self._judge.loss(record)
        self._append(self._tested(record) if early or last else record)
        if math.isfinite(loss) and not self._exceeds(loss):
            self._remember()
        self._callbacks.decide()

    def _measured(self, step: int, loss: float) -> Record:
        validation = self._judge.validate()
        return Record(
            step=step,
            epoch=step / self._per_epoch if self._per_epoch else math.nan,
            loss=loss,
            test_loss=math.nan,
            test_accuracy=math.nan,
            learning_rate=self._rate,
            seconds=self._seconds(),
            validation_loss=validation.loss,
            validation_accuracy=validation.accuracy,
            metrics=_named("validation", validation),
        )

    def _tested(self, record: Record) -> Record:
        """Return the last record of a run, with the test loss and accuracy of the parameters that the run keeps."""
        test = self._judge.test(record.step)
        metrics = {**record.metrics, **_named("test", test)}
        return replace(record, test_loss=test.loss, test_accuracy=test.accuracy, metrics=metrics)

    def _append(self, record: Record) -> None:
        self._write(record)
        self._callbacks.record(record)

    def _write(self, record: Record) -> None:
        self._history.records.append(record)
        if self._checkpoints is not None:
            self._checkpoints.log_record(record)

    def _has_figures(self) -> bool:
        """Return whether the last record is that of the run's end, with the test loss where there are test data."""
        records = self._history.records
        if not records or (not self._judge.tests and records[-1].step != self._progress.done):
            return False
        last = records[-1]
        measured = not math.isnan(last.test_accuracy) or any(
            name.startswith("test_") for name in last.metrics
        )
        return measured or not self._judge.tests

    def _leave_best(self) -> None:
        """Give the model back the parameters of its best record, if early stopping restores them."""
        best = self._judge.best
        if best is not None and best.step != self._progress.done:
            self._trainer.model.put_back(best.parameters)
            self._history.restored_step = best.step

    def _seconds(self) -> float:
        return self._progress.seconds + time.perf_counter() - self._clock

    def _diverged(self, error: DivergenceError) -> NoReturn:
        """Give the model the last good parameters, make their record, and raise `error`."""
        trainer, records = self._trainer, self._history.records
        done = trainer.steps_done - self._begun
        # A run that diverges keeps the last good parameters, not the best ones before them.
        self._judge.best = None
        if self._checkpoints is not None:
            self._checkpoints.log_end(trainer.steps_done)
        if not error.kept:
            self._restore_good(str(error), error.diagnosis)
        if not math.isfinite(self._judge.loss()):
            self._restore_good(f"{error}; but they are lost to rounding", error.diagnosis)
        if records or self._progress.count:
            self._end_at(done)
        raise error

    def _end_at(self, step: int) -> None:
        """Make the record of `step` the last one, with the test loss and accuracy, since its parameters are kept."""
        records, dropped = self._history.records, None
        while records and records[-1].step >= step:
            dropped = self._drop()
        if dropped is not None and dropped.step == step:
            self._write(self._tested(dropped))
        else:
            # The last step has been taken back, or no record was due after `step`.
            loss = self._progress.take_mean() if dropped is None else dropped.loss
            self._append(self._tested(self._measured(step, loss)))

    def _drop(self) -> Record:
        """Remove the last record, and return it."""
        if self._checkpoints is not None:
            self._checkpoints.drop_record()
        return self._history.records.pop()

    def _restore_good(self, message: str, diagnosis: Diagnosis | None = None) -> NoReturn:
        step, parameters, mark = self._good
        self._judge.best = None
        self._trainer.model.put_back(parameters)
        records, done = self._history.records, step - self._begun
        while records and records[-1].step > done:
            self._drop()
        if records and records[-1].step == done:
            self._end_at(done)
        if self._checkpoints is not None:
            self._checkpoints.go_back(mark)
        restored = f"{message}; the parameters after step {step} are restored"
        raise DivergenceError(restored, diagnosis=diagnosis) from None

    @property
    def _facts(self) -> dict[str, Any]:
        """The facts in which a checkpoint must agree with the run that continues from it."""
        settings = None if self._early_stopping is None else self._early_stopping.statement
        return {
            "batch_size": self._batch,
            **self._parts.facts,
            "early_stopping": settings,
            **self._feed.facts,
        }

    def _save(self, saved: Checkpoints) -> None:
        now = {**asdict(self._progress), "seconds": self._seconds()}
        good, best, trainer = self._good, self._judge.best, self._trainer
        state, arrays = snapshot(trainer, self._batch)
        facts = {
            "trainer": state,
            "progress": now,
            "run": self._facts,
            KEY: arithmetic_of(trainer.model.processor),
            "first_batch": self._first,
            "good": {"step": good.step, "mark": good.mark},
            "early": {
                "ended": self._history.ended_early,
                # Earlier versions kept the state of early stopping here, and that of no other callback.
                "seen": None,
                "best": None if best is None else best.step,
            },
            "callbacks": states_of(self._callbacks.callbacks),
        }
        if good.step != trainer.steps_done:
            arrays |= {GOOD + name: array for name, array in good.parameters.items()}
        if best is not None and best.step != self._progress.done:
            arrays |= {BEST + name: array for name, array in best.parameters.items()}
        saved.save(self._progress.done, facts, arrays)

    def _restore(self, saved: Checkpoints) -> None:
        """Continue from the newest undamaged checkpoint, or from the start if there is none."""
        point = resume(saved, self._trainer, self._facts, self._steps, self._callbacks.callbacks)
        if point is not None:
            self._progress, self._good = Progress(**point.progress), point.good
            self._first = point.first_batch
            self._history.ended_early = point.early.ended
            if self._early_stopping is not None and point.early.seen is not None:
                self._early_stopping.state = point.early.seen
            if point.early.best is not None:
                self._judge.best = Best(*point.early.best)
        self._history.records += saved.records


def _named(part: str, evaluation: Evaluation) -> dict[str, float]:
    """Return the metrics of an evaluation, but for the accuracy, by the names that they have in a record."""
    return {f"{part}_{name}": value for name, value in evaluation.metrics.items() if name != "accuracy"}


def _reason(error: BaseException) -> str:
    """Return the value of :attr:`History.ended_by` for a run that an exception ended."""
    if isinstance(error, DivergenceError):
        return "divergence"
    return "error" if isinstance(error, Exception) else "interrupt"
