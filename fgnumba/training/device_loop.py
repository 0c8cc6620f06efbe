"""The training loop on a GPU: the data stay in its memory, and the host launches many steps at once.

A step is one program. It reads its settings from a table that the host has written in advance, gathers its batch from
the data by the epoch's order, and writes its results to another table, which is copied to the host while the next steps
run. If a step does not end finite, the steps launched after it do not change the parameters until the host has seen it.
"""

import contextlib
import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError, DeviceError
from fgnumba.estimators import Estimate
from fgnumba.kernels.cuda.copies import gather_rows
from fgnumba.kernels.cuda.program import Operation, Program
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.kernels.devices.step_tables import SETTINGS, bind_advance, bind_record
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.objects.bound import Bound
from fgnumba.training.steps import Steps, none_ahead
from fgnumba.uninterrupted import Uninterrupted

CHUNK = 64
"""Largest number of steps that are launched at once."""


class Taken(NamedTuple):
    """The result of a step.

    Parameters
    ----------
    finite : bool
        Whether the loss, the derivatives and the update were finite.
    values : ndarray
        (1 + T,) float64: the loss, then the directional derivatives.
    rate : float
        The learning rate.
    noted : ndarray
        Further scalars that the estimate records in each step, float64; the SPSA estimator records two.
    """

    finite: bool
    values: npt.NDArray[np.float64]
    rate: float
    noted: npt.NDArray[np.float64]


@dataclass
class _Asked:
    """Steps that were launched together: the first one's number, their learning rates, results, and final event."""

    first: int
    rates: list[float]
    results: npt.NDArray[np.float64]
    mark: Any


class DeviceLoop(Bound):
    """The steps of a trainer on a data set in a GPU's memory.

    Parameters
    ----------
    trainer : Steps
        The trainer.
    dataset : Dataset
        The data set to train on.
    batch_size : int
        Number of examples in each step.
    estimate : Estimate
        The trainer's estimate for this batch size. It must have a ``device_pass`` for each step.

    Attributes
    ----------
    draining : bool
        Set to True to launch no further step before the results of all launched ones have been yielded; it is then set
        back to False.

    Raises
    ------
    DeviceError
        The data do not fit into the device's memory.
    """

    def __init__(self, trainer: Steps, dataset: Dataset, batch_size: int, estimate: Estimate) -> None:
        self._trainer, self._dataset, self._batch, self._estimate = trainer, dataset, batch_size, estimate
        device = trainer.model.processor
        assert isinstance(device, Gpu)
        self._device, self._driver = device, device.driver
        n = len(dataset.x_train)
        self._x = device.array(dataset.x_train.reshape(n, -1))
        self._y = device.array(dataset.y_train.reshape(n, -1))
        self._order = device.staged((n,), np.int64)
        words = SETTINGS.itemsize // 8
        control = device.zeros((1 + CHUNK * words,), np.int64)
        self._control, self._counter, self._table = control, control[:1], control[1:].view(SETTINGS)
        self._first = device.zeros((1,), np.int64)
        self._width = 1 + len(estimate.values) + estimate.noted
        self._results = device.zeros((CHUNK, self._width), np.float64)
        self._sent = [self._driver.pinned(control.nbytes).view(np.int64) for _ in range(2)]
        self._received = [
            self._driver.pinned(self._results.nbytes).view(np.float64).reshape(CHUNK, self._width)
            for _ in range(2)
        ]
        self._turns = itertools.cycle(range(2))
        self._programs: dict[int, Program] = {}
        self._asked, self._arrived = deque[_Asked](), deque[Taken]()
        self.draining = False
        self._loss = trainer.loss.key

    @property
    def ahead(self) -> int:
        """Number of steps that have been launched and whose results have not been yielded yet."""
        return sum(len(asked.rates) for asked in self._asked) + len(self._arrived)

    def _program(self, step: int) -> Program:
        """Return the program of a step; all steps that run the same pass share it."""
        device_pass = self._estimate.device_pass(step)
        assert device_pass is not None
        key = id(device_pass.outcome)
        if key not in self._programs:
            trainer = self._trainer
            assert trainer.failed is not None
            copies = Operation(
                "gather",
                (
                    gather_rows(self._x, device_pass.input.array[0], self._order.array, self._first),
                    gather_rows(
                        self._y,
                        device_pass.targets.array.reshape(self._batch, -1),
                        self._order.array,
                        self._first,
                    ),
                ),
            )
            advance = bind_advance(
                table=self._table,
                counter=self._counter,
                stream=trainer.stream.array,
                rates=trainer.rates.array,
                first=self._first,
            )
            record = bind_record(
                outcome=device_pass.outcome.all,
                results=self._results,
                counter=self._counter,
                failed=trainer.failed,
                coefficients=device_pass.coefficients,
                last=device_pass.last,
            )
            self._programs[key] = self._device.program([advance, copies, *device_pass.operations, record])
        return self._programs[key]

    def steps(
        self, steps: int, periods: Sequence[int], done: int = 0, first: int = 0
    ) -> Generator[Taken, None, None]:
        """Take the remaining steps of a run, and yield their results.

        A step counts as taken before its result is yielded. If the generator is closed early, steps whose results were
        not yielded but that have run are counted as well, so that the trainer's count agrees with the parameters.

        Parameters
        ----------
        steps : int
            Number of steps of the whole run.
        periods : sequence of int
            When the result of a step is yielded whose number is a multiple of any of these, no later step has been
            launched.
        done : int
            Number of steps that the run has taken already. Default: 0.
        first : int
            Number of the batch that step 0 of the run takes, counted from the beginning of epoch 0. Default: 0.
        """
        self._trainer.ahead = lambda: self.ahead
        try:
            yield from self._steps(steps, periods, done, first)
        finally:
            self._settle()

    def _steps(self, steps: int, periods: Sequence[int], done: int, first: int) -> Iterator[Taken]:
        per_epoch = len(self._dataset.x_train) // self._batch
        before, loaded = self._trainer.steps_done - done, -1
        while done < steps:
            if self.draining:
                while self._asked:
                    yield from self._read()
                self.draining = False
            epoch, number = divmod(first + done, per_epoch)
            if epoch != loaded:
                self._order.load(self._dataset.order(self._trainer.seed, epoch))
                loaded = epoch
            wanted = min(
                CHUNK, steps - done, per_epoch - number, *(every - done % every for every in periods)
            )
            count, error = self._ask(before + done, wanted, number)
            done += count
            ends = error is not None or done == steps or any(done % every == 0 for every in periods)
            while self._asked and (ends or len(self._asked) > 1):
                yield from self._read()
            if error is not None:
                raise error

    def _ask(self, first: int, wanted: int, number: int) -> tuple[int, Exception | None]:
        """Launch steps from batch `number` of the epoch on; return how many, and the error that prevented more."""
        turn = next(self._turns)
        sent, received = self._sent[turn], self._received[turn]
        sent[0] = 0
        rows, rates, error = sent[1:].view(SETTINGS), list[float](), None
        trainer = self._trainer
        if trainer.loss.key != self._loss:
            raise ConfigError(
                "the loss has changed: on a GPU, fit takes many steps at once, and Trainer.step one"
            )
        for i in range(wanted):
            try:
                rates.append(trainer.set_step(first + i))
            except Exception as failure:
                # A user's learning-rate schedule may raise an error; the steps before that are still taken.
                error = failure
                break
            rows[i]["stream"], rows[i]["rates"] = trainer.stream.host[0], trainer.rates.host[0]
            rows[i]["first"] = (number + i) * self._batch
        if rates:
            with trainer.model.lock, _named(first, len(rates)), Uninterrupted():
                self._driver.to_device(self._control.address, sent)
                for i in range(len(rates)):
                    self._program(first + i).run()
                self._driver.to_host(received, self._results.address)
                self._asked.append(_Asked(first, rates, received, self._driver.mark()))
        return len(rates), error

    def _read(self) -> Iterator[Taken]:
        """Yield the results of the steps that were launched first."""
        with Uninterrupted():
            self._arrive()
        while self._arrived:
            with Uninterrupted():
                taken = self._arrived.popleft()
                if taken.finite:
                    self._take(taken)
            yield taken

    def _take(self, taken: Taken) -> None:
        self._estimate.note(taken.noted)
        self._trainer.take(self._estimate, taken.values, taken.rate, self._batch)

    def _arrive(self) -> None:
        asked = self._asked.popleft()
        with _named(asked.first, len(asked.rates)):
            self._driver.wait(asked.mark)
        for rate, row in zip(asked.rates, asked.results.copy(), strict=False):
            finite = bool(row[:1].view(RESULT)["finite"][0] == 1)
            end = 1 + len(self._estimate.values)
            self._arrived.append(Taken(finite, row[1:end], rate, row[end:]))

    def _settle(self) -> None:
        """Count the steps that have run and were not yielded, and let further steps change the parameters again."""
        with Uninterrupted():
            with contextlib.suppress(DeviceError):
                while self._asked:
                    self._arrive()
                for taken in itertools.takewhile(lambda taken: taken.finite, self._arrived):
                    self._take(taken)
                self._device.assign(self._trainer.failed, 0)
            self._arrived.clear()
            self._trainer.ahead = none_ahead

    def batch(self, number: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the examples and the labels of a batch.

        Parameters
        ----------
        number : int
            Number of the batch, counted from the beginning of epoch 0.
        """
        epoch, number = divmod(number, len(self._dataset.x_train) // self._batch)
        rows = self._dataset.order(self._trainer.seed, epoch)[
            number * self._batch : (number + 1) * self._batch
        ]
        return self._dataset.x_train[rows], self._dataset.y_train[rows]


@contextlib.contextmanager
def _named(first: int, count: int) -> Iterator[None]:
    """Add to an error of the GPU between which steps it occurred."""
    try:
        yield
    except DeviceError as error:
        raise DeviceError(
            f"steps {first} to {first + count - 1}: {error}; Trainer.step names the one"
        ) from None
