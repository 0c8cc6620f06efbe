"""The steps of a run as a sequence of results, whether they are taken one by one or many at once on a GPU."""

import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fgnumba.datasets.augmentation import Augment, augmented, statement_of
from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.texts import TextDataset
from fgnumba.errors import ConfigError, DeviceError
from fgnumba.estimators import Estimate
from fgnumba.kernels.rules.philox import MAX_STEP
from fgnumba.model.graph import Graph
from fgnumba.model.jvp import checked_targets
from fgnumba.training.batches import Batches
from fgnumba.training.device_loop import DeviceLoop
from fgnumba.training.records import StepResult, result_of
from fgnumba.training.steps import Steps


def batches_of(
    model: Graph, dataset: Dataset, batch_size: int, seed: int, first: int = 0
) -> Iterator[tuple[Any, Any]]:
    """Yield the batches (x, y) of a data set that a model trains on.

    Of a text they are windows at random places for a model that reads windows, and streams for others.

    Parameters
    ----------
    model : Graph
        The model.
    dataset : Dataset
        The data set.
    batch_size : int
        Number of examples in each batch.
    seed : int
        Seed of the order of the data.
    first : int
        Number of the first batch, counted from the beginning of the first epoch. Default: 0.
    """
    if isinstance(dataset, TextDataset) and model.reads_windows:
        return dataset.windows(batch_size, seed, first)
    return dataset.batches(batch_size, seed, first)


@dataclass(frozen=True)
class Feed:
    """Where the batches of a run come from.

    Parameters
    ----------
    model : Graph
        The model, which decides how it reads a text.
    dataset : Dataset
        The training data; of a run on an iterable, its first batch.
    batch_size : int
        Number of examples in each step.
    seed : int
        Seed of the order of the data and of the augmentation.
    batches : Batches, optional
        The batches of an iterable. None (the default): the data set's.
    augment : callable, optional
        A function ``augment(x, generator)`` that returns another version of a batch's examples. None (the default):
        the examples stay as they are.
    weights : str, optional
        The digest of the weights of the examples. None (the default): there are none.
    """

    model: Graph
    dataset: Dataset
    batch_size: int
    seed: int
    batches: Batches | None = None
    augment: Augment | None = None
    weights: str | None = None

    @property
    def per_epoch(self) -> int | None:
        """Number of batches in a pass over the data, or None if that is not known."""
        if self.batches is not None:
            return self.batches.per_epoch
        return len(self.dataset.x_train) // self.batch_size

    @property
    def facts(self) -> dict[str, str]:
        """What a run must have in common with the one that it continues, beside the data."""
        facts = {} if self.augment is None else {"augment": statement_of(self.augment)}
        return facts if self.weights is None else {**facts, "weights": self.weights}

    @property
    def stays(self) -> bool:
        """Whether the batches are rows of the data set, which can then be gathered in a GPU's memory.

        The windows of a text are not: its symbols are bytes, and have an order of their own.
        """
        return self.batches is None and self.augment is None and not self.dataset.streamed

    def pairs(self, first: int) -> Iterator[tuple[Any, Any]]:
        """Yield the batches (x, y) from one on.

        Parameters
        ----------
        first : int
            Number of the batch, counted from the beginning of the first epoch.
        """
        if self.batches is None:
            pairs = batches_of(self.model, self.dataset, self.batch_size, self.seed, first)
        elif self.augment is None:
            pairs = iter(self.batches)
        else:
            # An augmentation may change its examples, and these can be the user's own.
            pairs = ((self.batches.on_host(x).copy(), y) for x, y in self.batches)
        if self.augment is None:
            return pairs
        return (
            (augmented(self.augment, x, self.seed, number), y) for number, (x, y) in enumerate(pairs, first)
        )


class Source:
    """The results of a run's steps, which are taken one by one.

    Parameters
    ----------
    trainer : Steps
        The trainer that takes the steps.
    batches : iterator
        The batches, one pair (x, y) for each step.

    Attributes
    ----------
    results : iterator of StepResult
        The results; each step is taken when its result is asked for.
    ahead : int
        Number of steps that have been taken and whose results have not been returned yet; here 0.
    """

    ahead = 0

    def __init__(self, trainer: Steps, batches: Iterator[tuple[Any, Any]]) -> None:
        self.results: Iterator[StepResult] = (trainer.step(*batch) for batch in batches)

    def drain(self) -> None:
        """Make sure that no further step is taken before the results of all taken steps have been returned."""

    def close(self) -> None:
        """Take no further steps."""


class DeviceSource(Source):
    """The results of a run's steps, many of which are taken at once on a GPU.

    Parameters
    ----------
    trainer : Steps
        The trainer whose steps they are.
    training : DeviceLoop
        The loop on the GPU.
    estimate : Estimate
        The estimate that the steps run.
    steps : int
        Number of steps of the whole run.
    done : int
        Number of steps that the run has taken already.
    first : int
        Number of the batch with which the run began.
    periods : sequence of int
        At each multiple of any of these, all results so far are returned before a further step is taken.
    """

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
        """Number of steps that the GPU was asked for and whose results have not been returned yet."""
        return self._training.ahead

    def drain(self) -> None:
        self._training.draining = True

    def close(self) -> None:
        self._taken.close()


def source_of(
    trainer: Steps,
    feed: Feed,
    batch: int,
    estimate: Estimate,
    steps: int,
    done: int,
    first: int,
    periods: Sequence[int],
) -> Source:
    """Return the source of a run's remaining steps: many at once on a GPU where that is possible, else one by one.

    Parameters
    ----------
    trainer : Steps
        The trainer.
    feed : Feed
        Where the batches come from.
    batch : int
        Number of examples in each step.
    estimate : Estimate
        The trainer's estimate for this batch size.
    steps : int
        Number of steps of the whole run.
    done : int
        Number of steps that the run has taken already.
    first : int
        Number of the batch with which the run began.
    periods : sequence of int
        At each multiple of any of these, all results so far are returned before a further step is taken, so that the
        model can be evaluated or saved there.

    Raises
    ------
    ConfigError
        More steps remain than one seed has directions for.
    ShapeError
        The data do not fit the model.
    """
    dataset = feed.dataset
    together = not trainer.model.processor.checks_between and not trainer.meter.measures
    if feed.stays and together:
        checked_targets(trainer.model, trainer.loss, dataset.x_train[:batch], dataset.y_train[:batch])
        left = steps - done
        if trainer.steps_done + left > MAX_STEP + 1:
            raise ConfigError(f"{left} more steps: at most 2**32 steps are possible with one seed")
        training = _device_loop(trainer, dataset, batch, estimate)
        if training is not None:
            return DeviceSource(trainer, training, estimate, steps, done, first, periods)
    return Source(trainer, feed.pairs(first + done))


def _device_loop(trainer: Steps, dataset: Dataset, batch: int, estimate: Estimate) -> DeviceLoop | None:
    """Return a loop on the GPU, or None if the data do not fit into its memory or the host takes part in each step."""
    with trainer.model.lock:
        one = estimate.device_pass(trainer.steps_done)
        # The loop gathers whole examples, and a sequence may have a row for each position.
        if one is None or one.input.width != math.prod(trainer.model.input_shape):
            return None
        try:
            return DeviceLoop(trainer, dataset, batch, estimate)
        except DeviceError:
            # The data do not fit into the GPU's memory, so that each batch is uploaded before its step.
            return None
