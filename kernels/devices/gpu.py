"""A GPU as a device: arrays lie in its memory, and operations are launches of kernels."""

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
    driver : Driver
        The card's driver.
    precision : str
        Precision of the primal's products, see :class:`fgnumba.kernels.cuda.instructions.Instructions`.
    tangent_precision : str or None
        Precision of the tangents' products; see there.
    graph : bool
        True: a program is captured once and then replayed. False: every kernel is launched separately.

    Raises
    ------
    ConfigError
        A precision is unknown.
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
        """The card's name, its generation, and its number of multiprocessors."""
        return f"{self.driver.name}, {self._instructions.name}, {self.driver.processors} multiprocessors"

    @property
    def isa(self) -> Instructions:
        """The card's generation, and the precision of products."""
        return self._instructions

    @property
    def precisions(self) -> tuple[str, str]:
        """The precisions of products, which a GPU is told by name."""
        return self._instructions.precision, self._instructions.of_tangents

    @property
    def threads(self) -> int:
        """Number of multiprocessors."""
        return self.driver.processors

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> DeviceArray:
        return DeviceArray.zeros(self.driver, shape, dtype)

    def assign(self, array: DeviceArray, values: npt.ArrayLike) -> None:
        array.upload(values)

    def assign_all(self, arrays: Sequence[DeviceArray], values: Sequence[npt.NDArray[Any]]) -> None:
        with Uninterrupted():
            for array, host in zip(arrays, values, strict=True):
                array.upload(host)

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
    """Return this machine's GPU with the given settings."""
    from fgnumba.kernels.cuda.cuda_driver import cuda_driver

    return Gpu(cuda_driver(), precision, tangent_precision, graph)


class RecordUpload(Record):
    """A record that the host writes, and that is copied to the GPU through pinned memory."""

    def __init__(self, staged: "StagedUpload") -> None:
        super().__init__(np.zeros(1, staged.array.dtype), staged.array)
        self._staged = staged

    def push(self) -> None:
        """Make the present values of `host` visible to the operations that are launched next."""
        self._staged.load(self.host)


class StagedUpload(Staged):
    """An array that is filled through pinned memory of twice its size: one half is filled while the other is copied.

    Parameters
    ----------
    driver : Driver
        The card's driver.
    shape : tuple of int
        Shape of the array.
    dtype : dtype
        Type of its elements.
    """

    def __init__(self, driver: Driver, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        super().__init__(DeviceArray.zeros(driver, shape, dtype))
        self._driver, self._turn = driver, 0
        pinned = driver.pinned(2 * self.array.nbytes).view(self.array.dtype)
        self._halves = pinned.reshape(2, *shape)
        self._marks: list[Any] = [None, None]

    def load(self, values: npt.NDArray[Any] | DeviceArray) -> None:
        """Copy values of the host through pinned memory, or those of a device array directly."""
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
