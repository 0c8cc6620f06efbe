"""The trainer: descends along forward gradients."""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, DatasetError, DeviceError, DivergenceError, ShapeError
from fgnumba.estimators import Estimate, Estimator, Setting, State
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.kernels.ops.optimizer.cpu import RATES
from fgnumba.kernels.rules.philox import MAX_SEED, MAX_STEP, STREAM, set_stream
from fgnumba.kernels.shared.loss.cpu import in_float32
from fgnumba.layers.losses import Loss, SoftmaxCrossEntropy
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_batch
from fgnumba.model.recent import Recent
from fgnumba.objects.attributes import own_attributes, take_attributes
from fgnumba.optimizers import Optimizer
from fgnumba.runs.presets import Defaults
from fgnumba.training.callbacks import Callback, History, StepResult, result_of
from fgnumba.training.checkpoints import Checkpoints
from fgnumba.training.diagnosis import diagnose
from fgnumba.training.judge import Validation, early_stopping_of, parts_of
from fgnumba.training.loop import Training
from fgnumba.training.position import Move, Position, Standing
from fgnumba.training.sources import none_ahead
from fgnumba.training.state import state_of, take_state
from fgnumba.training.study import Study
from fgnumba.validation import flag, optional, real_number, whole_number

_FIXED = ("model", "estimator", "optimizer", "seed")


class Trainer(Standing):
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

    An interrupt (Ctrl-C, or any other exception of a signal's handler) may come at any moment: parameters, state and
    ``steps_done`` are those before the step that it fell into, or those after it.

    Copies (``copy``, ``pickle``) have a model and a state of their own, and take the steps that it would take.

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
        before = frozenset(vars(self))
        super().__init__(model)
        self.loss = loss or SoftmaxCrossEntropy()
        self.estimator, self.optimizer = estimator or WeightPerturbation(), optimizer
        self.seed = whole_number("seed", seed, 0, MAX_SEED)
        device = model.processor
        self.state = State(self.estimator.own_parameters(model, self.seed), device)
        self.stream, self.rates = device.record(STREAM), device.record(RATES)
        optimizer.begin_rates(self.rates.host)
        set_stream(self.stream.host, self.seed, 0)
        # A device that takes steps by itself notes here that one did not end finite.
        self.failed: Any = None if device.checks_between else device.zeros((1,), np.int64)
        self.plans: Recent[Any, Estimate] = Recent()
        self._study: Study | None = None
        self.stop_requested = False
        # Steps that a device has taken by itself and that are not counted yet.
        self.ahead: Callable[[], int] = none_ahead
        self._own = frozenset((*vars(self), "_own")) - before

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in vars(self):
            raise ConfigError(f"{name}: a trainer keeps the one that it was made with; make another trainer")
        super().__setattr__(name, value)

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
        inputs, targets = checked_batch(self.model, self.loss, x, y, self.estimator.trusts_batches)
        with self.model.lock:
            before = self._log.settle()
            if before.steps > MAX_STEP:
                raise ConfigError(f"step {before.steps}: at most 2**32 steps are possible with one seed")
            plan = self._plan(len(inputs))
            rate = self.set_step(before.steps)
            try:
                self.push_step()
                move = self._log.move = self._step(before, plan, rate, len(inputs))
                finite = plan.run(inputs, targets)
            except DeviceError as error:
                # What a GPU that failed has done cannot be known.
                self._log.move = None
                raise DeviceError(f"step {before.steps}: {error}") from None
            if not finite:
                self._log.move = None
                self._diverged(plan, inputs, targets, rate)
            self.model.version = move[1].version
            self._log.finish(move)
            return result_of(plan.values)

    def _step(self, before: Position, plan: Estimate, rate: float, batch: int) -> Move:
        """Return what is done when the plan has run to its end, and that finite."""
        updates, version = plan.updates, self.model.version
        after = Position(before.steps + 1, rate, plan, batch, object(), version)

        def done() -> bool:
            if plan.updates == updates or not plan.read():
                return False
            if self.model.version is version:
                self.model.version = after.version
            return True

        return before, after, done

    def plan(self, batch: int) -> Estimate:
        """Return what a step on `batch` examples runs, from the few that are kept."""
        return self._plan(whole_number("batch", batch))

    def _plan(self, batch: int) -> Estimate:
        def bind() -> Estimate:
            return self.estimator.bind(
                Setting(
                    self.model,
                    batch,
                    self.loss,
                    self.stream,
                    self.state,
                    self.optimizer,
                    self.rates,
                    self.failed,
                )
            )

        return self.plans.of((batch, self.loss.key), bind)

    def estimate(self, x: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, npt.NDArray[np.float32]]:
        """Return the gradient estimate that the next step would follow, arrays shaped like ``model.parameters()``.

        The parameters stay as they are; what the estimator learns from step to step (feedback, a running mean) is
        read as the next step would read it, and left as it is.

        Raises
        ------
        ShapeError, DtypeError, DatasetError, DivergenceError
        """
        inputs, targets = checked_batch(self.model, self.loss, x, y, self.estimator.trusts_batches)
        with self.model.lock:
            position = self._log.settle()
            if self._study is None:
                self._study = Study(self)
            plan, setting = self._study.plan(self, len(inputs))
            rate = self.set_step(position.steps)
            self.push_step()
            if not plan.run(inputs, targets):
                self._diverged(plan, inputs, targets, rate, self._study.model)
            return {
                name: parameter.array(setting.gradient(name))
                for name, parameter in self.model.packed_parameters.items()
            }

    def set_step(self, step: int) -> float:
        """Write what belongs to a step, and return its learning rate."""
        step = whole_number("step", step, 0, MAX_STEP)
        self.stream.host["step"] = step
        return self.optimizer.set_rates(self.rates.host, step)

    def push_step(self) -> None:
        """Let operations read what has been written."""
        self.stream.push()
        self.rates.push()

    def _diverged(
        self,
        plan: Estimate,
        inputs: npt.NDArray[Any],
        targets: npt.NDArray[Any],
        rate: float,
        studied: Graph | None = None,
    ) -> NoReturn:
        """Raise for a pass that did not end finite, the parameters being those that it ran with.

        The last step is taken back where it is to blame and that can be done, unless the pass was but `studied`.
        """
        inputs, targets = (
            one if isinstance(one, np.ndarray) else self.model.processor.values(one)
            for one in (inputs, targets)
        )
        self.loss.check_target_values(targets, self.model.outputs)
        if not np.isfinite(inputs).all():
            raise DatasetError(f"x is not finite at {tuple(np.argwhere(~np.isfinite(inputs))[0].tolist())}")
        diagnosis = diagnose(studied or self.model, self.loss, plan, inputs, targets, rate)
        position = self._log.settle()
        step, passed = position.steps, bool(in_float32(plan.values).all())
        what = "update is too large for float32" if passed else "loss or its derivative is not finite"
        of_input = diagnosis is not None and diagnosis.quantity == "input"
        kept = passed or of_input
        if not kept and studied is None:
            kept = self._take_back(position)
        kept = kept or step == 0
        where = f"{diagnosis}; " if diagnosis else ""
        found = "the last good parameters are kept" if kept else "the last step is to blame"
        hint = "" if of_input else f"; try a learning rate of {rate / 10:.3g} or less"
        raise DivergenceError(
            f"step {step}: the {what} (loss {plan.values[0]:.6g}) at learning rate {rate:.6g}; {where}{found}{hint}",
            kept,
            diagnosis,
        )

    def _take_back(self, position: Position) -> bool:
        """Take the last step back; False where that cannot be done."""
        if position.last is None or position.version is not self.model.version:
            return False
        self.stream.host["step"] = position.steps - 1
        self.stream.push()
        back = position.last.taking_back(position.rate)
        if back is None:
            return False
        self.move_by(Position(position.steps - 1), lambda: back.runs, back.run)
        return True

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
        `batch_size` (of all the data where there is less); what is left over at its end rests. Step i of a trainer
        takes batch i, counted from the first epoch on: fits one after another are one fit. With `epochs`, where the
        trainer stands in the midst of one, a run begins with the next.

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
        try:
            self._check_fits(dataset)
            callbacks = tuple(callbacks)
            early_stopping = early_stopping_of(callbacks, validation)
            if (epochs is None) == (steps is None) and (epochs is not None or early_stopping is None):
                raise ConfigError("fit: give either epochs or steps")
            epochs, steps = optional(whole_number, "epochs", epochs), optional(whole_number, "steps", steps)
            batch_size = whole_number("batch_size", batch_size)
            evaluate_every = optional(whole_number, "evaluate_every", evaluate_every)
            stop_above = optional(real_number, "stop_above", stop_above, above_zero=True)
            resume = flag("resume", resume)
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
                early_stopping=early_stopping,
                steps=steps,
                whole=epochs is not None,
                batch_size=batch_size,
                every=evaluate_every or per_epoch,
                callbacks=callbacks,
                checkpoints=checkpoints,
                resume=resume,
                stop_above=stop_above,
            )
            return training.run()
        finally:
            self.stop_requested = False

    def stop(self) -> None:
        """Have :meth:`fit` end after the step that it is in, or its first; from a signal handler or any thread.

        The run is interrupted, not ended: see ``Callback.ends`` for that.
        """
        self.stop_requested = True

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

    def take(self, plan: Estimate, values: npt.NDArray[np.float64], rate: float, batch: int) -> None:
        """Count a step that has been taken elsewhere."""
        plan.values[...] = values
        before, self.model.version = self.model.version, object()
        self.stand(Position(self.position.steps + 1, rate, plan, batch, before=before))

    def __getstate__(self) -> dict[str, Any]:
        return state_of(self, own_attributes(self, self._own))

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Plans hold addresses: a copy binds its own. The class may be one's own, with other arguments.
        Trainer.__init__(self, **state["arguments"])
        take_attributes(self, state["more"])
        take_state(self, state)

    def __copy__(self) -> "Trainer":
        # What trains a model has one of its own.
        return copy.deepcopy(self)

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
