"""Steps along forward gradients: one batch after another, each of them whole or not taken."""

from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError, DeviceError, DivergenceError
from fgnumba.estimators import Estimate, Estimator, Setting, State
from fgnumba.estimators.weight import WeightPerturbation
from fgnumba.kernels.ops.optimizer import RATES
from fgnumba.kernels.rules.philox import MAX_SEED, MAX_STEP, STREAM, set_stream
from fgnumba.kernels.shared.loss import in_float32
from fgnumba.layers.losses import Loss, SoftmaxCrossEntropy
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_batch
from fgnumba.model.recent import Recent
from fgnumba.optimizers import Optimizer
from fgnumba.training.diagnosis import diagnose
from fgnumba.training.position import Move, Position, Standing
from fgnumba.training.records import StepResult, result_of
from fgnumba.training.study import Study
from fgnumba.validation import whole_number

_FIXED = ("model", "estimator", "optimizer", "seed")


def none_ahead() -> int:
    """Return 0: no steps are ahead of the count unless a device takes them by itself."""
    return 0


class Steps(Standing):
    """Takes the steps of a :class:`fgnumba.Trainer`, which adds runs on data sets to them.

    Loops, checkpoints and replay know a trainer as this.

    Parameters
    ----------
    model, loss, estimator, optimizer, seed : see :class:`fgnumba.Trainer`.

    Attributes
    ----------
    state : State
        What the estimator and the optimiser keep from step to step.
    stream : Record
        What directions are drawn from: the seed, and the step that is written by :meth:`set_step`.
    rates : Record
        The learning rate and the constants of the optimiser, as the kernels read them.
    failed : array or None
        (1,) int64 on a device that takes steps by itself, where it notes that one did not end finite; None on others.
    estimates : Recent
        The estimates that were bound last, by batch size and loss.
    stop_requested : bool
        Whether :meth:`stop` was called since the last run began.
    ahead : callable
        Returns how many steps a device has taken by itself that are not counted yet.
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
        self.estimates: Recent[Any, Estimate] = Recent()
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
            estimate = self._bind(len(inputs))
            rate = self.set_step(before.steps)
            try:
                self.push_step()
                move = self._log.move = self._step(before, estimate, rate, len(inputs))
                finite = estimate.run(inputs, targets)
            except DeviceError as error:
                # What a GPU that failed has done cannot be known.
                self._log.move = None
                raise DeviceError(f"step {before.steps}: {error}") from None
            if not finite:
                self._log.move = None
                self._diverged(estimate, inputs, targets, rate)
            self.model.version = move[1].version
            self._log.finish(move)
            return result_of(estimate.values)

    def _step(self, before: Position, estimate: Estimate, rate: float, batch: int) -> Move:
        """Return what is done when the estimate has run to its end, and that finite."""
        updates, version = estimate.updates, self.model.version
        after = Position(before.steps + 1, rate, estimate, batch, object(), version)

        def done() -> bool:
            if estimate.updates == updates or not estimate.read():
                return False
            if self.model.version is version:
                self.model.version = after.version
            return True

        return before, after, done

    def bind(self, batch: int) -> Estimate:
        """Return the estimate that a step on `batch` examples runs: bound now, or taken from the few that are kept.

        Parameters
        ----------
        batch : int
            Number of examples.
        """
        return self._bind(whole_number("batch", batch))

    def plan(self, batch: int) -> Estimate:
        """Return :meth:`bind`: the name that it had first."""
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
                )
            )

        return self.estimates.of((batch, self.loss.key), bind)

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
                self._study = Study(self.model, self.estimator, self.state)
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
        estimate: Estimate,
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
        diagnosis = diagnose(studied or self.model, self.loss, estimate, inputs, targets, rate)
        position = self._log.settle()
        step, passed = position.steps, bool(in_float32(estimate.values).all())
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
            f"step {step}: the {what} (loss {estimate.values[0]:.6g}) at learning rate {rate:.6g}; "
            f"{where}{found}{hint}",
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

    def stop(self) -> None:
        """Have :meth:`fit` end after the step that it is in, or its first; from a signal handler or any thread.

        The run is interrupted, not ended: see ``Callback.ends`` for that.
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
        """Raise for a step that a device took by itself and that did not end finite."""
        estimate.values[...] = values
        self.set_step(self.steps_done)
        self.push_step()
        self._diverged(estimate, inputs, targets, rate)

    def take(self, estimate: Estimate, values: npt.NDArray[np.float64], rate: float, batch: int) -> None:
        """Count a step that has been taken elsewhere."""
        estimate.values[...] = values
        before, self.model.version = self.model.version, object()
        self.stand(Position(self.position.steps + 1, rate, estimate, batch, before=before))
