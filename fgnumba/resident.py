"""Training on a device that takes steps by itself: the data lie there, and the host asks for many steps at once.

A step is one program: its settings come from a table that the host has written ahead, its batch is gathered from the
data by the order of the epoch, and its results go to another table, which comes back while the next steps run. A step
that does not end finite stops all that follow: they move nothing until the host has seen it.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import DeviceError
from fgnumba.estimators import Estimate
from fgnumba.kernels.gpu.copies import gather_rows
from fgnumba.kernels.gpu.device import Gpu
from fgnumba.kernels.gpu.program import Operation, Program
from fgnumba.kernels.gpu.resident import SETTINGS, bind_advance, bind_record
from fgnumba.kernels.loss import RESULT

if TYPE_CHECKING:
    from fgnumba.trainer import Trainer

CHUNK = 64
"""Steps that are asked for at once, at most."""

Outcome = tuple[bool, npt.NDArray[np.float64]]
"""Whether a step ended finite, and its loss and derivatives."""


@dataclass
class _Asked:
    """Steps that have been asked for: the first, how many, where their results arrive, and when."""

    first: int
    count: int
    results: npt.NDArray[np.float64]
    mark: Any


class ResidentTraining:
    """Steps of a trainer on a data set.

    Parameters
    ----------
    trainer, dataset, batch_size : labels are classes.
    estimate : the trainer's plan for this batch size; each of its steps has a ``resident`` pass.

    Raises
    ------
    DeviceError
        The data do not fit into the device's memory.
    """

    def __init__(self, trainer: "Trainer", dataset: Dataset, batch_size: int, estimate: Estimate) -> None:
        self._trainer, self._dataset, self._batch, self._estimate = trainer, dataset, batch_size, estimate
        device = trainer.model.processor
        assert isinstance(device, Gpu)
        self._device, self._driver = device, device.driver
        n = len(dataset.x_train)
        self._x = device.array(dataset.x_train.reshape(n, -1))
        self._y = device.array(dataset.y_train.reshape(n, -1))
        self._order = device.zeros((n,), np.int64)
        words = SETTINGS.itemsize // 8
        control = device.zeros((1 + CHUNK * words,), np.int64)
        self._control, self._counter, self._table = control, control[:1], control[1:].view(SETTINGS)
        self._first = device.zeros((1,), np.int64)
        self._width = 1 + len(estimate.values)
        self._results = device.zeros((CHUNK, self._width), np.float64)
        self._sent = [self._driver.pinned(control.nbytes).view(np.int64) for _ in range(2)]
        self._received = [
            self._driver.pinned(self._results.nbytes).view(np.float64).reshape(CHUNK, self._width)
            for _ in range(2)
        ]
        self._turns = itertools.cycle(range(2))
        self._programs: dict[int, Program] = {}

    def _program(self, step: int) -> Program:
        """Return the program of a step: the same for all steps that run the same pass."""
        found = self._estimate.resident(step)
        assert found is not None
        key = id(found.outcome)
        if key not in self._programs:
            trainer = self._trainer
            assert trainer.stopped is not None
            copies = Operation(
                "gather",
                (
                    gather_rows(self._x, found.input.array[0], self._order, self._first),
                    gather_rows(
                        self._y, found.targets.array.reshape(self._batch, -1), self._order, self._first
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
                outcome=found.outcome.both,
                results=self._results,
                counter=self._counter,
                stopped=trainer.stopped,
                coefficients=found.coefficients,
                last=found.last,
            )
            self._programs[key] = self._device.program([advance, copies, *found.operations, record])
        return self._programs[key]

    def steps(self, steps: int, every: int) -> Iterator[Outcome]:
        """Yield what each of `steps` steps found; after every multiple of `every`, no later one has been asked for."""
        per_epoch = len(self._dataset.x_train) // self._batch
        asked: list[_Asked] = []
        done, before = 0, self._trainer.steps_done
        while done < steps:
            epoch, number = divmod(done, per_epoch)
            if number == 0:
                self._device.assign(self._order, self._dataset.order(self._trainer.seed, epoch))
            count = min(CHUNK, steps - done, per_epoch - number, every - done % every)
            asked.append(self._ask(before + done, count, number))
            done += count
            if len(asked) == 2:
                yield from self._read(asked.pop(0))
            if done % every == 0 or done == steps:
                yield from self._read(asked.pop(0))

    def _ask(self, first: int, count: int, number: int) -> _Asked:
        """Ask for `count` steps, from batch `number` of the epoch on."""
        turn = next(self._turns)
        sent, received = self._sent[turn], self._received[turn]
        sent[0] = 0
        rows = sent[1:].view(SETTINGS)
        for i in range(count):
            self._trainer.set_step(first + i)
            rows[i]["stream"], rows[i]["rates"] = self._trainer.stream.host[0], self._trainer.rates.host[0]
            rows[i]["first"] = (number + i) * self._batch
        self._driver.to_device(self._control.address, sent)
        for i in range(count):
            self._program(first + i).run()
        self._driver.to_host(received, self._results.address)
        return _Asked(first, count, received, self._driver.mark())

    def _read(self, asked: _Asked) -> Iterator[Outcome]:
        try:
            self._driver.wait(asked.mark)
        except DeviceError as error:
            last = asked.first + asked.count - 1
            raise DeviceError(f"steps {asked.first} to {last}: {error}; Trainer.step names the one") from None
        for i in range(asked.count):
            row = asked.results[i].copy()
            yield bool(row[:1].view(RESULT)["finite"][0] == 1), row[1:]

    def batch(self, step: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the batch of a step, counted from 0."""
        epoch, number = divmod(step, len(self._dataset.x_train) // self._batch)
        chosen = self._dataset.order(self._trainer.seed, epoch)[
            number * self._batch : (number + 1) * self._batch
        ]
        return self._dataset.x_train[chosen], self._dataset.y_train[chosen]
