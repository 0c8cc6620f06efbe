"""A GPU as a device: arrays in its memory, operations as launches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.cuda.copies import copy_rows
from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.cuda.instructions import Instructions
from fgnumba.kernels.cuda.interchange import adopt
from fgnumba.kernels.cuda.memory import DeviceArray
from fgnumba.kernels.cuda.program import Operation, Program
from fgnumba.kernels.devices.device import Device, Record, Staged, fill
from fgnumba.kernels.devices.step_tables import bind_hold
from fgnumba.uninterrupted import Uninterrupted


class Gpu(Device):
    """A GPU.

    Parameters
    ----------
    driver : of the card.
    precision, tangent_precision : of products, see :class:`fgnumba.kernels.cuda.instructions.Instructions`.
    graph : whether programs are captured and replayed; else every kernel is launched by itself.

    Raises
    ------
    ConfigError
    """

    name, by_parts, checks_between = "cuda", False, False

    def __init__(
        self,
        driver: Driver,
        precision: str = "float32",
        tangent_precision: str | None = None,
        graph: bool = True,
    ) -> None:
        self.driver, self.graph = driver, graph
        major, minor = driver.capability
        self._instructions = Instructions(f"sm_{major}{minor}", precision, tangent_precision)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Gpu":
        return self

    def __reduce__(self) -> Any:
        i = self._instructions
        return _restored, (i.precision, i.tangent_precision, self.graph)

    @property
    def description(self) -> str:
        """The card's name, its generation and its multiprocessors."""
        return f"{self.driver.name}, {self._instructions.name}, {self.driver.processors} multiprocessors"

    @property
    def isa(self) -> Instructions:
        """The card's generation, and the precision of products."""
        return self._instructions

    @property
    def threads(self) -> int:
        """Multiprocessors."""
        return self.driver.processors

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> DeviceArray:
        return DeviceArray.zeros(self.driver, shape, dtype)

    def assign(self, array: DeviceArray, values: npt.ArrayLike) -> None:
        array.upload(values)

    def assign_all(self, arrays: Sequence[DeviceArray], values: Sequence[npt.NDArray[Any]]) -> None:
        with Uninterrupted():
            for array, one in zip(arrays, values, strict=True):
                array.upload(one)

    def values(self, array: DeviceArray) -> npt.NDArray[Any]:
        return array.download()

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        target.copy_from(source)

    def record(self, dtype: np.dtype[Any]) -> Record:
        return RecordUpload(self.staged((1,), dtype))

    def copy_rows(self, target: DeviceArray, source: DeviceArray) -> None:
        copy_rows(source, target).run(self.driver)

    def adopt(self, x: Any) -> DeviceArray | None:
        return adopt(x, self.driver)

    def hold(self, result: DeviceArray, failed: DeviceArray | None) -> Sequence[Operation]:
        return () if failed is None else (bind_hold(result=result, failed=failed),)

    def staged(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> "StagedUpload":
        return StagedUpload(self.driver, shape, dtype)

    def program(self, steps: Sequence[Any]) -> Program:
        return Program(self.driver, steps, self.graph)


def _restored(precision: str, tangent_precision: str | None, graph: bool) -> Gpu:
    """Return the machine's GPU with these settings."""
    from fgnumba.kernels.cuda.cuda_driver import cuda_driver

    return Gpu(cuda_driver(), precision, tangent_precision, graph)


class RecordUpload(Record):
    """A record that goes to the GPU through pinned memory."""

    def __init__(self, staged: "StagedUpload") -> None:
        super().__init__(np.zeros(1, staged.array.dtype), staged.array)
        self._staged = staged

    def push(self) -> None:
        """Let the operations that are asked for next read what the host has written."""
        self._staged.load(self.host)


class StagedUpload(Staged):
    """An array filled through pinned memory of twice its size: one half is filled while the other travels.

    Parameters
    ----------
    driver, shape, dtype : of the array.
    """

    def __init__(self, driver: Driver, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        super().__init__(DeviceArray.zeros(driver, shape, dtype))
        self._driver, self._turn = driver, 0
        pinned = driver.pinned(2 * self.array.nbytes).view(self.array.dtype)
        self._halves = pinned.reshape(2, *shape)
        self._marks: list[Any] = [None, None]

    def load(self, values: npt.NDArray[Any] | DeviceArray) -> None:
        """Take values of the host through pinned memory, or those of a device array."""
        if isinstance(values, DeviceArray):
            copy_rows(values, self.array).run(self._driver)
            return
        self._turn = 1 - self._turn
        half = self._halves[self._turn]
        if self._marks[self._turn] is not None:
            self._driver.wait(self._marks[self._turn])
        fill(half[..., : values.shape[-1]], values)
        self._driver.to_device(self.array.address, half)
        self._marks[self._turn] = self._driver.mark()
