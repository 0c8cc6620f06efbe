"""The trainer: descends along forward gradients."""

from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fgnumba.callbacks import Callback, History, StepResult, result_of
from fgnumba.checkpoints import Checkpoints
from fgnumba.datasets.dataset import Dataset
from fgnumba.diagnosis import diagnose
from fgnumba.errors import (
    ConfigError,
    DatasetError,
    DeviceError,
    DivergenceError,
    ShapeError,
)
from fgnumba.estimators import Estimate, Estimator, Setting, State, Update
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.forward import checked_targets
from fgnumba.graph import Graph
from fgnumba.judge import Validation, early_stopping, parts_of
from fgnumba.kernels.optimizer.cpu import RATES
from fgnumba.kernels.philox import MAX_SEED, MAX_STEP, STREAM, set_stream
from fgnumba.losses import Loss, SoftmaxCrossEntropy
from fgnumba.optimizers import Optimizer
from fgnumba.presets import Defaults
from fgnumba.training import Training
from fgnumba.validation import real_number, whole_number


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
        self.plans: dict[int, Estimate] = {}
        self._studied: dict[int, tuple[Estimate, Setting]] = {}
        # Of the last update, so that it can be taken back.
        self.last_rate = 0.0
        self.stopping = False
        self.last_plan: Estimate | Update | None = None

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
        with self.model.lock:
            if self.steps_done > MAX_STEP:
                raise ConfigError(f"step {self.steps_done}: at most 2**32 steps are possible with one seed")
            plan = self.plan(len(inputs))
            rate = self.set_step(self.steps_done)
            try:
                self.push_step()
                finite = plan.run(inputs, targets)
            except DeviceError as error:
                raise DeviceError(f"step {self.steps_done}: {error}") from None
            if not finite:
                self._diverged(plan, inputs, targets, rate)
            self.last_rate, self.last_plan = rate, plan
            self.steps_done += 1
            return result_of(plan.values)

    def plan(self, batch: int) -> Estimate:
        """Return what a step on `batch` examples runs."""
        if batch not in self.plans:
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
            self.plans[batch] = self.estimator.bind(setting)
        return self.plans[batch]

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
                self._diverged(plan, inputs, targets, self.last_rate, undo=False)
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
        self,
        plan: Estimate,
        inputs: npt.NDArray[Any],
        targets: npt.NDArray[Any],
        rate: float,
        undo: bool = True,
    ) -> NoReturn:
        """Raise for a pass that did not end finite, the parameters being those that it ran with.

        `undo`: the last step is taken back where it is to blame and that can be done.
        """
        inputs, targets = (
            one if isinstance(one, np.ndarray) else self.model.processor.values(one)
            for one in (inputs, targets)
        )
        self.loss.check_target_values(targets, self.model.outputs)
        if not np.isfinite(inputs).all():
            raise DatasetError(f"x is not finite at {tuple(np.argwhere(~np.isfinite(inputs))[0].tolist())}")
        diagnosis = diagnose(self.model, self.loss, plan, inputs, targets, rate)
        step, passed = self.steps_done, bool(np.isfinite(plan.values).all())
        what = "update is too large for float32" if passed else "loss or its derivative is not finite"
        kept = passed
        if undo and not passed and self.last_plan is not None:
            self.stream.host["step"] = step - 1
            self.stream.push()
            kept = self.last_plan.undo(self.last_rate)
            if kept:
                self.steps_done -= 1
                self.last_rate, self.last_plan = 0.0, None
        kept = kept or step == 0
        where = f"{diagnosis}; " if diagnosis else ""
        found = "the last good parameters are kept" if kept else "the last step is to blame"
        raise DivergenceError(
            f"step {step}: the {what} (loss {plan.values[0]:.6g}) at learning rate {rate:.6g}; {where}{found}; "
            f"try a learning rate of {rate / 10:.3g} or less",
            kept,
            diagnosis,
        )

    def fit(
        self,
        dataset: Dataset,
        *,
        epochs: int | None = None,
        steps: int | None = None,
        batch_size: int = 64,
        evaluate_every: int | None = None,
        validation: Validation = None,
        callbacks: Sequence[Callback] = (),
        checkpoints: Checkpoints | None = None,
        resume: bool = False,
        stop_above: float | None = None,
    ) -> History:
        """Train on a data set, for `epochs` passes over it or for `steps` steps, or until a callback ends it.

        An epoch is a fresh order of the training data, a function of (seed, epoch), cut into batches of
        `batch_size` (of all the data where there is less); what is left over at its end rests.

        The test data are evaluated once, at the end: ``history.final`` has their loss and accuracy, with a validation
        part and without.

        Parameters
        ----------
        dataset : its training part trains, its test part is for the end alone.
        epochs, steps : one of the two; neither with :class:`fgnumba.callbacks.EarlyStopping`: at most 10,000 steps.
        batch_size : examples a step.
        evaluate_every : steps between records, by default one epoch. The last step is recorded in any case, and where
            training diverges, what the parameters that are kept reach.
        validation : what judges the run at every record, and does not train. A number in (0, 1): that share of the
            training data, the same of every class, drawn by the trainer's seed (the rest is copied). A pair (x, y):
            these examples and their labels. None: records have the training loss alone.
        callbacks : told of every step and record, in order; each may end the run.
            :class:`fgnumba.callbacks.EarlyStopping` does so by the validation part.
        checkpoints : where and how often the run is kept on disk, see :class:`fgnumba.Checkpoints`.
        resume : continue from the newest whole checkpoint there, from the start where there is none. With the same
            model, trainer, data set, validation part and callbacks, the run is bit for bit the one that was never
            interrupted.
        stop_above : a run whose loss exceeds this many times that of its first step has diverged; None for any loss
            that is finite.

        :meth:`stop` interrupts it, with a checkpoint and without test figures. Where training diverges and the last
        step cannot be taken back, the model goes back to the parameters of the last record whose loss was finite (of
        the validation part, or of the first 1,024 training examples).

        Raises
        ------
        ShapeError, DtypeError, ConfigError, DivergenceError
        DatasetError
            So few examples leave none to validate on.
        RunError
            The folder of the checkpoints is another run's or in use, or no checkpoint in it is whole.
        """
        self._check_fits(dataset)
        stopping = early_stopping(callbacks, validation)
        if (epochs is None) == (steps is None) and (epochs is not None or stopping is None):
            raise ConfigError("fit: give either epochs or steps")
        numbers = {
            "epochs": epochs,
            "steps": steps,
            "batch_size": batch_size,
            "evaluate_every": evaluate_every,
        }
        for name, value in numbers.items():
            if value is not None:
                whole_number(name, value)
        if stop_above is not None:
            real_number("stop_above", stop_above, above_zero=True)
        if resume and checkpoints is None:
            raise ConfigError("resume: checkpoints is None; the folder to resume from is required")
        parts = parts_of(self.model, dataset, validation, self.seed)
        examples = len(parts.training.x_train)
        batch_size = min(batch_size, examples)
        per_epoch = examples // batch_size
        if steps is None:
            steps = Defaults().steps if epochs is None else epochs * per_epoch
        training = Training(
            self,
            parts,
            stopping=stopping,
            steps=steps,
            batch_size=batch_size,
            every=evaluate_every or per_epoch,
            callbacks=callbacks,
            checkpoints=checkpoints,
            resume=resume,
            stop_above=stop_above,
        )
        try:
            return training.run()
        finally:
            self.stopping = False

    def stop(self) -> None:
        """Have :meth:`fit` end after the step that it is in, or its first; from a signal handler or any thread.

        The run is interrupted, not ended: see ``Callback.ends`` for that.
        """
        self.stopping = True

    def fail(
        self,
        plan: Estimate,
        values: npt.NDArray[np.float64],
        inputs: npt.NDArray[Any],
        targets: npt.NDArray[Any],
        rate: float,
    ) -> NoReturn:
        """Raise for a step that a device took by itself and that did not end finite."""
        plan.values[...] = values
        self.set_step(self.steps_done)
        self.push_step()
        self._diverged(plan, inputs, targets, rate)

    def take(self, plan: Estimate, values: npt.NDArray[np.float64], rate: float) -> None:
        """Count a step that has been taken elsewhere."""
        plan.values[...] = values
        self.last_rate, self.last_plan = rate, plan
        self.steps_done += 1

    def replace_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        """Load parameters that the last step did not leave: from then on it cannot be taken back."""
        self.model.load_parameters(parameters)
        self.last_rate, self.last_plan = 0.0, None

    def _check_fits(self, dataset: Dataset) -> None:
        if dataset.input_shape != self.model.input_shape:
            raise ShapeError(
                f"{dataset.name}: examples have shape {dataset.input_shape}; "
                f"the model takes {self.model.input_shape}"
            )
        if dataset.classes > self.model.outputs:
            raise ShapeError(
                f"{dataset.name}: {dataset.classes} classes; the model has {self.model.outputs} outputs"
            )
