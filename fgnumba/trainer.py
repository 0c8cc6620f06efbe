"""The trainer: descends along forward gradients."""

import contextlib
import time
from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.callbacks import Callback, History, Record
from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, DatasetError, DeviceError, DivergenceError, ShapeError
from fgnumba.estimators import Estimate, Estimator, Setting, State
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.evaluation import evaluate
from fgnumba.forward import checked_targets
from fgnumba.graph import Graph
from fgnumba.kernels.optimizer.cpu import RATES
from fgnumba.kernels.philox import MAX_SEED, MAX_STEP, STREAM, set_stream
from fgnumba.losses import Loss, SoftmaxCrossEntropy
from fgnumba.optimizers import Optimizer
from fgnumba.validation import whole_number

if TYPE_CHECKING:
    from fgnumba.resident import ResidentTraining


class StepResult(NamedTuple):
    """Loss before the step, and what was seen along the directions: the derivative d, or (T,) for T > 1 of them."""

    loss: float
    directional_derivative: float | npt.NDArray[np.float64]


class Trainer:
    """Trains a model with forward passes alone.

    Each step estimates the gradient and moves the parameters along it. With weight perturbation that is one
    fused program: it draws directions, runs one dual pass for loss and directional derivatives, and updates
    the parameters, drawing the directions again: g is never stored, and no activation is kept.

    Parameters
    ----------
    model : updated in place.
    loss : :class:`SoftmaxCrossEntropy` by default.
    estimator : :class:`WeightPerturbation` with one rank-1 direction by default.
    optimizer : :class:`SGD`, :class:`Adam`, ...
    seed : of the directions and of the order of the training data.

    Two trainers alike in every argument, fed the same batches, take bit-identical steps with signs on any
    number of threads.

    Raises
    ------
    ConfigError
    """

    def __init__(
        self,
        model: Graph,
        *,
        loss: Loss | None = None,
        estimator: Estimator | None = None,
        optimizer: Optimizer,
        seed: int = 0,
    ) -> None:
        self.model, self.loss = model, loss or SoftmaxCrossEntropy()
        self.estimator, self.optimizer = estimator or WeightPerturbation(), optimizer
        self.seed = whole_number("seed", seed, 0, MAX_SEED)
        self.steps_done = 0
        device = model.processor
        self.state = State(self.estimator.own_parameters(model, self.seed), device)
        self.stream, self.rates = device.record(STREAM), device.record(RATES)
        optimizer.begin_rates(self.rates.host)
        set_stream(self.stream.host, self.seed, 0)
        # A device that takes steps by itself notes here that one did not end finite.
        self.stopped: Any = None if device.checks_between else device.zeros((1,), np.int64)
        self._plans: dict[int, Estimate] = {}
        self._studied: dict[int, tuple[Estimate, Setting]] = {}
        # Of the last update, so that it can be taken back.
        self._last_rate = 0.0
        self._last_plan: Estimate | None = None

    def step(self, x: Any, y: Any) -> StepResult:
        """Take one step on the batch x (B, *input_shape), y.

        The second step of a batch size compiles nothing and allocates no array but the result. float32,
        C-contiguous x is read in place; on a GPU, arrays that lie there already are copied there.

        Raises
        ------
        ShapeError, DtypeError
            x or y do not fit; nothing is changed.
        DatasetError
            x is not finite or y is out of range; nothing is changed.
        DivergenceError
            The loss or a directional derivative is not finite, or an update would be: this step is not
            taken. Where the last one is to blame and the estimator can take it back (weight perturbation with SGD),
            the model keeps the last parameters with a finite loss, to rounding; else ``kept`` is False.
        """
        inputs = self.model.checked_input(x)
        targets = checked_targets(self.model, self.loss, inputs, y)
        if self.steps_done > MAX_STEP:
            raise ConfigError(f"step {self.steps_done}: at most 2**32 steps are possible with one seed")
        with self.model.lock:
            plan = self.plan(len(inputs))
            rate = self.set_step(self.steps_done)
            try:
                self.push_step()
                finite = plan.run(inputs, targets)
            except DeviceError as error:
                raise DeviceError(f"step {self.steps_done}: {error}") from None
            if not finite:
                self._diverged(plan, inputs, targets, rate)
        self._last_rate, self._last_plan = rate, plan
        self.steps_done += 1
        return _result(plan.values)

    def plan(self, batch: int) -> Estimate:
        """Return what a step on `batch` examples runs."""
        if batch not in self._plans:
            setting = Setting(
                self.model,
                batch,
                self.loss,
                self.stream,
                self.state,
                self.optimizer,
                self.rates,
                self.stopped,
            )
            self._plans[batch] = self.estimator.bind(setting)
        return self._plans[batch]

    def estimate(self, x: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, npt.NDArray[np.float32]]:
        """Return the gradient estimate that the next step would follow, arrays shaped like ``model.parameters()``.

        The parameters stay as they are; what the estimator learns from step to step (feedback, a running mean) is
        read as the next step would read it, and left as it is.

        Raises
        ------
        ShapeError, DtypeError, DatasetError, DivergenceError
        """
        inputs = self.model.checked_input(x)
        targets = checked_targets(self.model, self.loss, inputs, y)
        with self.model.lock:
            plan, setting = self._study(len(inputs))
            device = self.model.processor
            self.set_step(self.steps_done)
            self.push_step()
            before = {name: device.values(array).copy() for name, array in self.state.arrays.items()}
            moved = self.model.packed_parameters.values() if plan.moves_parameters else ()
            parameters = [(parameter.packed, device.values(parameter.packed).copy()) for parameter in moved]
            finite = plan.run(inputs, targets)
            for packed, values in parameters:
                device.assign(packed, values)
            for name, array in self.state.arrays.items():
                device.assign(array, before.get(name, 0.0))
            if not finite:
                self._diverged(plan, inputs, targets, self._last_rate)
            return {
                name: parameter.array(setting.gradient(name))
                for name, parameter in self.model.packed_parameters.items()
            }

    def set_step(self, step: int) -> float:
        """Write what belongs to a step, and return its learning rate."""
        self.stream.host["step"] = step
        self.optimizer.set_rates(self.rates.host, step)
        return float(self.rates.host["learning_rate"][0])

    def push_step(self) -> None:
        """Let operations read what has been written."""
        self.stream.push()
        self.rates.push()

    def _study(self, batch: int) -> tuple[Estimate, Setting]:
        if batch not in self._studied:
            setting = Setting(self.model, batch, self.loss, self.stream, self.state)
            self._studied[batch] = self.estimator.bind(setting), setting
        return self._studied[batch]

    def _diverged(
        self, plan: Estimate, inputs: npt.NDArray[Any], targets: npt.NDArray[Any], rate: float
    ) -> None:
        """Raise for a pass that did not end finite, the parameters being those that it ran with."""
        inputs, targets = (
            one if isinstance(one, np.ndarray) else self.model.processor.values(one)
            for one in (inputs, targets)
        )
        self.loss.check_target_values(targets, self.model.outputs)
        if not np.isfinite(inputs).all():
            raise DatasetError(f"x is not finite at {tuple(np.argwhere(~np.isfinite(inputs))[0].tolist())}")
        step, passed = self.steps_done, bool(np.isfinite(plan.values).all())
        what = "update is too large for float32" if passed else "loss or its derivative is not finite"
        kept = passed
        if not passed and self._last_plan is not None:
            self.stream.host["step"] = step - 1
            self.stream.push()
            kept = self._last_plan.undo(self._last_rate)
            if kept:
                self.steps_done -= 1
                self._last_rate, self._last_plan = 0.0, None
        kept = kept or step == 0
        found = "the last good parameters are kept" if kept else "the last step is to blame"
        raise DivergenceError(
            f"step {step}: the {what} (loss {plan.values[0]:.6g}) at learning rate {rate:.6g}; {found}; "
            f"try a learning rate of {rate / 10:.3g} or less",
            kept,
        )

    def fit(
        self,
        dataset: Dataset,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
        evaluate_every: int | None = None,
        callbacks: Sequence[Callback] = (),
    ) -> History:
        """Train on a data set, for `epochs` passes over it or for `steps` steps.

        An epoch is a fresh order of the training data, a function of (seed, epoch), cut into batches of
        `batch_size` (of all the data where there is less); what is left over at its end rests.

        Parameters
        ----------
        evaluate_every : steps between records, by default one epoch. The last step is recorded in any case, and where
            training diverges, what the parameters that are kept reach.
        callbacks : told of every step and record, in order.

        Where training diverges and the last step cannot be taken back, the model goes back to the parameters of the
        last record.

        Raises
        ------
        ShapeError, ConfigError, DivergenceError
        """
        batch_size, steps, every = self._checked_run(dataset, epochs, steps, batch_size, evaluate_every)
        per_epoch = len(dataset.x_train) // batch_size
        history, start = History(), time.perf_counter()
        for callback in callbacks:
            callback.on_start(self, steps)
        before, losses, rate = self.steps_done, _Mean(), 0.0
        recorded = 0, self.model.parameters()

        def record(step: int) -> None:
            tested = evaluate(self.model, dataset.x_test, dataset.y_test)
            mean, seconds = losses.take(), time.perf_counter() - start
            history.records.append(
                Record(step, step / per_epoch, mean, tested.loss, tested.accuracy, rate, seconds)
            )
            for callback in callbacks:
                callback.on_record(history.final)

        with contextlib.closing(self._results(dataset, batch_size, steps, every)) as results:
            for step in range(1, steps + 1):
                try:
                    result = next(results)
                except DivergenceError as error:
                    if not error.kept:
                        self.model.load_parameters(recorded[1])
                        raise DivergenceError(
                            f"{error}; the parameters after step {recorded[0]} are restored"
                        ) from None
                    if losses.count:
                        record(self.steps_done - before)
                    raise
                rate = self._last_rate
                losses.add(result.loss)
                for callback in callbacks:
                    callback.on_step(step, result)
                if step % every == 0 or step == steps:
                    record(step)
                    if np.isfinite(history.final.test_loss):
                        recorded = self.steps_done, self.model.parameters()
        for callback in callbacks:
            callback.on_end(history)
        return history

    def _results(
        self, dataset: Dataset, batch_size: int, steps: int, every: int
    ) -> Generator[StepResult, None, None]:
        """Yield the results of so many steps; at every multiple of `every`, no later one has been taken."""
        if not self.model.processor.checks_between:
            batch = dataset.x_train[:batch_size], dataset.y_train[:batch_size]
            checked_targets(self.model, self.loss, *batch)
            if self.steps_done + steps > MAX_STEP + 1:
                raise ConfigError(f"{steps} more steps: at most 2**32 steps are possible with one seed")
            training = self._resident(dataset, batch_size)
            if training is not None:
                yield from self._resident_results(training, batch_size, steps, every)
                return
        batches = dataset.batches(batch_size, self.seed)
        for _ in range(steps):
            yield self.step(*next(batches))

    def _resident(self, dataset: Dataset, batch_size: int) -> "ResidentTraining | None":
        """Return training on data that lie on the device; None without room, or where the host has a part in steps."""
        from fgnumba.resident import ResidentTraining

        with self.model.lock:
            plan = self.plan(batch_size)
            if plan.resident(self.steps_done) is None:
                return None
            try:
                return ResidentTraining(self, dataset, batch_size, plan)
            except DeviceError:
                # The data do not fit: batches are uploaded one by one.
                return None

    def _resident_results(
        self, training: "ResidentTraining", batch_size: int, steps: int, every: int
    ) -> Generator[StepResult, None, None]:
        plan = self.plan(batch_size)
        with contextlib.closing(training.steps(steps, every)) as taken:
            for number, (finite, values, rate) in enumerate(taken):
                if not finite:
                    plan.values[...] = values
                    self.set_step(self.steps_done)
                    self.push_step()
                    self._diverged(plan, *training.batch(number), rate)
                yield _result(values)

    def take(self, plan: Estimate, values: npt.NDArray[np.float64], rate: float) -> None:
        """Count a step that has been taken elsewhere."""
        plan.values[...] = values
        self._last_rate, self._last_plan = rate, plan
        self.steps_done += 1

    def _checked_run(
        self, dataset: Dataset, epochs: int | None, steps: int | None, batch_size: int, every: int | None
    ) -> tuple[int, int, int]:
        if dataset.input_shape != self.model.input_shape:
            raise ShapeError(
                f"{dataset.name}: examples have shape {dataset.input_shape}; "
                f"the model takes {self.model.input_shape}"
            )
        if dataset.classes > self.model.outputs:
            raise ShapeError(
                f"{dataset.name}: {dataset.classes} classes; the model has {self.model.outputs} outputs"
            )
        if (epochs is None) == (steps is None):
            raise ConfigError("fit: give either epochs or steps")
        numbers = {"epochs": epochs, "steps": steps, "batch_size": batch_size, "evaluate_every": every}
        for name, value in numbers.items():
            if value is not None:
                whole_number(name, value)
        batch_size = min(batch_size, len(dataset.x_train))
        per_epoch = len(dataset.x_train) // batch_size
        if steps is None:
            assert epochs is not None
            steps = epochs * per_epoch
        return batch_size, steps, every or per_epoch


def _result(values: npt.NDArray[np.float64]) -> StepResult:
    return StepResult(float(values[0]), float(values[1]) if len(values) == 2 else values[1:].copy())


class _Mean:
    """A running mean, in the memory of two numbers however long the run."""

    def __init__(self) -> None:
        self.count, self._total = 0, 0.0

    def add(self, value: float) -> None:
        self.count += 1
        self._total += value

    def take(self) -> float:
        """Return the mean of what was added, and begin anew."""
        mean, self.count, self._total = self._total / self.count, 0, 0.0
        return mean
