"""Training steps along forward gradients, one for each batch. A step is taken completely or not at all."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError, DeviceError, DivergenceError
from fgnumba.estimators import Estimate, Estimator, Setting, State
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.rules.philox import MAX_SEED, MAX_STEP, STREAM, set_stream
from fgnumba.kernels.shared.loss import in_float32
from fgnumba.layers.losses import Loss
from fgnumba.layers.losses.function import check_calls
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_batch
from fgnumba.model.recent import Recent
from fgnumba.optimizers import Optimizer
from fgnumba.training.diagnosis import diagnose
from fgnumba.training.names import estimator_of, loss_of, optimizer_of
from fgnumba.training.position import Move, Position, Standing
from fgnumba.training.rate_meter import meter_of
from fgnumba.training.records import StepResult, result_of
from fgnumba.training.study import Study
from fgnumba.validation import flag, optional, whole_number

_FIXED = ("model", "estimator", "optimizer", "seed", "carry_states")


def none_ahead() -> int:
    """Return 0: no steps are ahead of ``steps_done`` unless a GPU takes several of them at once."""
    return 0


class Steps(Standing):
    """The part of :class:`fgnumba.Trainer` that takes single steps, without its runs on data sets.

    The training loop, checkpoints and replay use a trainer through this class, so that their modules need not import
    the trainer's, which imports them.

    Parameters
    ----------
    model : Graph
        The model, whose parameters are updated in place.
    loss : Loss, optional
        The loss to minimise. None (the default): :class:`SoftmaxCrossEntropy`.
    estimator : Estimator, optional
        The gradient estimator. None (the default): :class:`WeightPerturbation` with one rank-1 direction.
    optimizer : Optimizer
        How a step follows the estimate.
    seed : int
        Seed of the directions and of the order of the training data. Default: 0.
    carry_states : bool, optional
        Whether recurrent layers begin a step with the states that the step before left, as for texts cut into windows;
        else with zeros. None (the default): as the estimator needs it, so with real-time recurrent learning.
        Weight perturbation begins each step with tangents of zeros: what states owe to earlier steps is left out.

    Attributes
    ----------
    state : State
        The arrays that the estimator and the optimiser keep from step to step.
    stream : Record
        The seed and the step from which directions are drawn; :meth:`set_step` writes the step.
    rates : Record
        The learning rate and the constants of the optimiser, as the kernels read them.
    meter : RateMeter
        What sets the learning rate of each step.
    failed : array or None
        (1,) int64 on a GPU, which takes several steps at once and sets this when one of them did not end finite. None
        on the CPU.
    estimates : Recent
        The estimates that were bound last, by batch size and loss.
    stop_requested : bool
        Whether :meth:`stop` was called since the last run began.
    ahead : callable
        Returns how many steps a GPU has taken that ``steps_done`` does not count yet.
    """

    def __init__(
        self,
        model: Graph,
        *,
        loss: Loss | Callable[..., Any] | str | None = None,
        estimator: Estimator | str | None = None,
        optimizer: Optimizer | str,
        seed: int = 0,
        carry_states: bool | None = None,
    ) -> None:
        before = frozenset(vars(self))
        super().__init__(model)
        self.loss, self.estimator = loss_of(loss), estimator_of(estimator)
        self.optimizer = optimizer_of(optimizer, self.estimator, model)
        self.seed = whole_number("seed", seed, 0, MAX_SEED)
        carry = optional(flag, "carry_states", carry_states)
        self.carry_states = self.estimator.streams if carry is None else carry
        if self.carry_states and not self.estimator.carries_states:
            raise ConfigError(
                f"carry_states: {type(self.estimator).__name__} cannot carry states from step to step; "
                "WeightPerturbation or RealTimeRecurrentLearning is required"
            )
        device = model.processor
        self.state = State(self.estimator.own_parameters(model, self.seed), device)
        self.stream, self.rates = device.record(STREAM), device.record(RATES)
        self.optimizer.begin_rates(self.rates.host)
        self.meter = meter_of(model, self.loss, self.estimator, self.optimizer, self.state, self.seed)
        set_stream(self.stream.host, self.seed, 0)
        self.failed: Any = None if device.checks_between else device.zeros((1,), np.int64)
        self.estimates: Recent[Any, Estimate] = Recent()
        self._study: Study | None = None
        self.stop_requested = False
        self.ahead: Callable[[], int] = none_ahead
        self._own = frozenset((*vars(self), "_own")) - before

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _FIXED and name in vars(self):
            raise ConfigError(f"{name}: a trainer keeps the one that it was made with; make another trainer")
        super().__setattr__(name, value)

    def step(self, x: Any, y: Any) -> StepResult:
        """Take one training step on a batch.

        From the second step of a batch size on, a step compiles nothing and allocates no array but its result. A
        C-contiguous float32 `x` is read in place. Arrays that already are in a GPU's memory are copied within it.

        Parameters
        ----------
        x : array_like
            Examples, (B, ``*input_shape``).
        y : array_like
            Targets, as the loss takes them: for classification, (B,) integer labels.

        Returns
        -------
        StepResult
            The loss before the step, and the directional derivatives.

        Raises
        ------
        ShapeError, DtypeError
            `x` or `y` does not fit the model. Nothing is changed.
        DatasetError
            `x` is not finite, or `y` is out of range. Nothing is changed.
        DivergenceError
            The loss, a directional derivative or the update is not finite. This step is not taken. If the step before
            it is the cause and the estimator can take that back (weight perturbation with SGD), the model keeps the
            last parameters with a finite loss, up to rounding. Otherwise the error's ``kept`` is False.
        """
        inputs, targets = checked_batch(self.model, self.loss, x, y, self.estimator.needs_finite_batches)
        with self.model.lock:
            before = self._log.settle()
            if before.steps > MAX_STEP:
                raise ConfigError(f"step {before.steps}: at most 2**32 steps are possible with one seed")
            estimate = self._bind(len(inputs))
            self.meter.look(before.steps, self.loss, inputs, targets)
            rate = self.set_step(before.steps)
            try:
                self.push_step()
                move = self._log.move = self._step(before, estimate, rate, len(inputs))
                finite = estimate.run(inputs, targets)
            except DeviceError as error:
                # It is unknown how much of the step a GPU had done when it failed.
                self._log.move = None
                raise DeviceError(f"step {before.steps}: {error}") from None
            if not finite:
                self._log.move = None
                self._diverged(estimate, inputs, targets, rate)
            self.model.version = move[1].version
            self.meter.keep()
            self._log.finish(move)
            return result_of(estimate.values)

    def _step(self, before: Position, estimate: Estimate, rate: float, batch: int) -> Move:
        """Return the move that the step makes, which is done when the estimate has run to its end and was finite."""
        updates, version = estimate.updates, self.model.version
        after = Position(before.steps + 1, rate, estimate, batch, object(), version)

        def done() -> bool:
            if estimate.updates == updates or not estimate.read():
                return False
            if self.model.version is version:
                self.model.version = after.version
            self.meter.keep()
            return True

        return before, after, done

    def bind(self, batch: int) -> Estimate:
        """Return the estimate that a step runs. The estimates of the last few batch sizes are kept and returned again.

        Parameters
        ----------
        batch : int
            Number of examples in the step.
        """
        return self._bind(whole_number("batch", batch))

    def plan(self, batch: int) -> Estimate:
        """Return the same estimate as :meth:`bind`. This is its former name, which old programs use.

        Parameters
        ----------
        batch : int
            Number of examples in the step.
        """
        return self.bind(batch)

    def _bind(self, batch: int) -> Estimate:
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
                    carry=self.carry_states,
                )
            )

        return self.estimates.of((batch, self.loss.key), bind)

    def estimate(self, x: npt.ArrayLike, y: npt.ArrayLike) -> dict[str, npt.NDArray[np.float32]]:
        """Return the gradient estimate that the next step would follow, without taking the step.

        The parameters are not changed. What the estimator learns from step to step, such as feedback or a running mean,
        is read as the next step would read it, and not changed either.

        Parameters
        ----------
        x : array_like
            Examples, (B, ``*input_shape``).
        y : array_like
            Targets, as :meth:`step` takes them.

        Returns
        -------
        dict of str to ndarray
            The estimate, as float32 arrays with the names and shapes of ``model.parameters()``.

        Raises
        ------
        ShapeError, DtypeError, DatasetError, DivergenceError
            As in :meth:`step`.
        """
        inputs, targets = checked_batch(self.model, self.loss, x, y, self.estimator.needs_finite_batches)
        with self.model.lock:
            position = self._log.settle()
            if self._study is None:
                self._study = Study(self.model, self.estimator, self.state, self.carry_states)
            estimate, setting = self._study.bind(len(inputs), self.loss, self.stream)
            rate = self.set_step(position.steps)
            self.push_step()
            if not estimate.run(inputs, targets):
                self._diverged(estimate, inputs, targets, rate, self._study.model)
            return {
                name: parameter.array(setting.gradient(name))
                for name, parameter in self.model.packed_parameters.items()
            }

    def set_step(self, step: int) -> float:
        """Write a step's number and learning rate where the kernels read them, and return the learning rate.

        Parameters
        ----------
        step : int
            Number of the step, counted from 0.
        """
        step = whole_number("step", step, 0, MAX_STEP)
        self.stream.host["step"] = step
        return self.meter.set_rates(self.rates.host, step)

    def push_step(self) -> None:
        """Copy what :meth:`set_step` has written to the device, if it is a GPU."""
        self.stream.push()
        self.rates.push()

    def _diverged(
        self,
        estimate: Estimate,
        inputs: npt.NDArray[Any],
        targets: npt.NDArray[Any],
        rate: float,
        studied: Graph | None = None,
    ) -> NoReturn:
        """Raise DivergenceError for a pass that did not end finite. The parameters are those with which it ran.

        The last step is taken back if it is the cause and the estimator can do so. A pass on the model `studied`, which
        :meth:`estimate` runs, takes nothing back.
        """
        inputs, targets = (
            array if isinstance(array, np.ndarray) else self.model.processor.values(array)
            for array in (inputs, targets)
        )
        self.loss.check_target_values(targets, self.model.outputs)
        if not np.isfinite(inputs).all():
            raise DatasetError(f"x is not finite at {tuple(np.argwhere(~np.isfinite(inputs))[0].tolist())}")
        check_calls(self.loss, self.model(inputs), targets)
        diagnosis = diagnose(studied or self.model, self.loss, estimate, inputs, targets, rate)
        position = self._log.settle()
        step, passed = position.steps, bool(in_float32(estimate.values).all())
        problem = "update is too large for float32" if passed else "loss or its derivative is not finite"
        of_input = diagnosis is not None and diagnosis.quantity == "input"
        kept = passed or of_input
        if not kept and studied is None:
            kept = self._take_back(position)
        # A step whose update is part of its pass, as with reverse mode, has moved the parameters all the same.
        kept = (kept or step == 0) and all(np.isfinite(a).all() for a in self.model.parameters().values())
        where = f"{diagnosis}; " if diagnosis else ""
        outcome = "the last good parameters are kept" if kept else "the last step is to blame"
        hint = "" if of_input else f"; try a learning rate of {rate / 10:.3g} or less"
        raise DivergenceError(
            f"step {step}: the {problem} (loss {estimate.values[0]:.6g}) at learning rate {rate:.6g}; "
            f"{where}{outcome}{hint}",
            kept,
            diagnosis,
        )

    def _take_back(self, position: Position) -> bool:
        """Take the last step back, and return whether that was possible."""
        if position.last is None or position.version is not self.model.version:
            return False
        self.stream.host["step"] = position.steps - 1
        self.stream.push()
        back = position.last.taking_back(position.rate)
        if back is None:
            return False
        self.move_by(Position(position.steps - 1), lambda: back.runs, back.run)
        return True

    def stop(self) -> None:
        """Make :meth:`fit` return after its current step; may be called from a signal handler or any thread.

        The run counts as interrupted, so that it can be resumed. To end a run for good, use ``Callback.ends``.
        """
        self.stop_requested = True

    def fail(
        self,
        estimate: Estimate,
        values: npt.NDArray[np.float64],
        inputs: npt.NDArray[Any],
        targets: npt.NDArray[Any],
        rate: float,
    ) -> NoReturn:
        """Raise DivergenceError for a step that a GPU took as one of several and that did not end finite.

        Parameters
        ----------
        estimate : Estimate
            The estimate that the step ran.
        values : ndarray
            (1 + T,) float64: the step's loss and directional derivatives.
        inputs : ndarray
            The step's examples.
        targets : ndarray
            The step's targets.
        rate : float
            The step's learning rate.
        """
        estimate.values[...] = values
        self.set_step(self.steps_done)
        self.push_step()
        self._diverged(estimate, inputs, targets, rate)

    def take(self, estimate: Estimate, values: npt.NDArray[np.float64], rate: float, batch: int) -> None:
        """Count a step that a GPU took as one of several.

        Parameters
        ----------
        estimate : Estimate
            The estimate that the step ran.
        values : ndarray
            (1 + T,) float64: the step's loss and directional derivatives.
        rate : float
            The step's learning rate.
        batch : int
            Number of examples in the step.
        """
        estimate.values[...] = values
        before, self.model.version = self.model.version, object()
        self.stand(Position(self.position.steps + 1, rate, estimate, batch, before=before))
