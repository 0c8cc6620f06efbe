"""Where a run's steps come from: one by one, or by a device that takes many by itself."""

from collections.abc import Generator, Iterator, Sequence
from typing import Any

from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, DeviceError
from fgnumba.estimators import Estimate
from fgnumba.kernels.rules.philox import MAX_STEP
from fgnumba.model.jvp import checked_targets
from fgnumba.training.device_loop import DeviceLoop
from fgnumba.training.records import StepResult, result_of
from fgnumba.training.steps import Steps


class Source:
    """The results of steps, one after another.

    Attributes
    ----------
    results : of the steps. ahead : steps that have been taken and are not among them yet.
    """

    ahead = 0

    def __init__(self, trainer: Steps, batches: Iterator[tuple[Any, Any]]) -> None:
        self.results: Iterator[StepResult] = (trainer.step(*batch) for batch in batches)

    def drain(self) -> None:
        """Let no further step be taken before all that were have been seen."""

    def close(self) -> None:
        """Take no more."""


class DeviceSource(Source):
    """Steps that a device takes by itself, some of them ahead."""

    def __init__(
        self,
        trainer: Steps,
        training: DeviceLoop,
        estimate: Estimate,
        steps: int,
        done: int,
        first: int,
        periods: Sequence[int],
    ) -> None:
        self._trainer, self._training, self._estimate = trainer, training, estimate
        self._next = first + done
        self._taken = training.steps(steps, periods, done, first)
        self.results = self._seen()

    def _seen(self) -> Generator[StepResult, None, None]:
        for number, taken in enumerate(self._taken, self._next):
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


def source_of(
    trainer: Steps,
    dataset: Dataset,
    batch: int,
    estimate: Estimate,
    steps: int,
    done: int,
    first: int,
    periods: Sequence[int],
) -> Source:
    """Return where the steps of a run after `done` come from.

    Parameters
    ----------
    trainer, dataset, batch : of the run; `dataset` is what it trains on.
    estimate : the trainer's plan for this batch size.
    steps, done : of the run, and those that have been taken.
    first : number of the batch that the run began with.
    periods : at multiples of any of these, no step beyond has been asked for.

    Raises
    ------
    ConfigError, ShapeError
    """
    if not trainer.model.processor.checks_between:
        checked_targets(trainer.model, trainer.loss, dataset.x_train[:batch], dataset.y_train[:batch])
        left = steps - done
        if trainer.steps_done + left > MAX_STEP + 1:
            raise ConfigError(f"{left} more steps: at most 2**32 steps are possible with one seed")
        training = _device_loop(trainer, dataset, batch, estimate)
        if training is not None:
            return DeviceSource(trainer, training, estimate, steps, done, first, periods)
    return Source(trainer, dataset.batches(batch, trainer.seed, first + done))


def _device_loop(trainer: Steps, dataset: Dataset, batch: int, estimate: Estimate) -> DeviceLoop | None:
    """Return training on data that lie on the device; None without room, or where the host has a part in steps."""
    with trainer.model.lock:
        if estimate.device_pass(trainer.steps_done) is None:
            return None
        try:
            return DeviceLoop(trainer, dataset, batch, estimate)
        except DeviceError:
            # The data do not fit: batches are uploaded one by one.
            return None
