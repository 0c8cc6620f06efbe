"""A GPU as a device: arrays in its memory, operations as launches."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.device import Device, Record
from fgnumba.kernels.gpu.driver import Driver
from fgnumba.kernels.gpu.instructions import Instructions
from fgnumba.kernels.gpu.memory import DeviceArray
from fgnumba.kernels.gpu.program import Program


class Gpu(Device):
    """A GPU.

    Parameters
    ----------
    driver : of the card.
    precision, tangent_precision : of products, see :class:`fgnumba.kernels.gpu.instructions.Instructions`.
    graph : whether programs are captured and replayed; else every kernel is launched by itself.

    Raises
    ------
    ConfigError
    """

    name, by_parts = "cuda", False

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

    def values(self, array: DeviceArray) -> npt.NDArray[Any]:
        return array.download()

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        target.copy_from(source)

    def record(self, dtype: np.dtype[Any]) -> Record:
        # Pinned, so that pushing it does not wait. A step ends with a wait for its loss: it is not written earlier.
        host = self.driver.pinned(dtype.itemsize).view(dtype)
        return Record(host, self.zeros((1,), dtype))

    def program(self, steps: Sequence[Any]) -> Program:
        return Program(self.driver, steps, self.graph)
