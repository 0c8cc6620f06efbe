"""Devices: where arrays lie, which kernels operations are bound to, and how bound operations run."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.devices.kernels import Kernels
from fgnumba.kernels.devices.tuning import tuned
from fgnumba.kernels.emit.vector import instruction_set
from fgnumba.kernels.machine.interfaces import Operation, Program
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program as CpuProgram
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.objects.bound import Bound


class Record(Bound):
    """A (1,) record that the host writes and kernels read.

    Attributes
    ----------
    host : as the host writes it. array : as kernels read it, after :meth:`push`.
    """

    def __init__(self, host: npt.NDArray[Any], array: Any) -> None:
        self.host, self.array = host, array

    def push(self) -> None:
        """Let the operations that are asked for next read what the host has written, which it may write again then."""


class Staged(Bound):
    """An array that the host fills anew before a run.

    Attributes
    ----------
    array : as kernels read it.
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    def load(self, values: npt.NDArray[Any]) -> None:
        """Take values; of rows that are longer than theirs, the first columns."""
        fill(self.array[..., : values.shape[-1]], values)

    @property
    def nbytes(self) -> int:
        """Bytes of the array."""
        return int(self.array.nbytes)


def fill(target: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    """Write values into an array; what float32 cannot hold becomes infinite, which what is computed from it shows."""
    if values.dtype.kind == "f" and values.dtype.itemsize > target.dtype.itemsize:
        with np.errstate(over="ignore"):
            target[...] = values
    else:
        target[...] = values


class Device(ABC):
    """A device.

    Attributes
    ----------
    name : ``cpu`` or ``cuda``.
    by_parts : operations on images may take a few of them at a time, in a thread's own buffers, with borders around
        them; else every operation takes the whole batch.
    checks_between : the host sees the loss of a pass before what follows is run; else a step is asked for as a whole.
    isa, threads : what operations are bound with: instructions, and what shares the work.
    """

    name: str
    by_parts: bool
    checks_between: bool

    @property
    def description(self) -> str:
        """What people call it."""
        return self.name

    @property
    @abstractmethod
    def isa(self) -> Any:
        """What products are computed with."""

    @property
    @abstractmethod
    def threads(self) -> int:
        """What shares the work."""

    @cached_property
    def kernels(self) -> Kernels:
        """The operations, an attribute each: the module whose functions bind it, as ``kernels.dense``."""
        return Kernels(self.name)

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Any:
        """Return zeros; DeviceError where there is no room."""

    def array(self, values: npt.NDArray[Any]) -> Any:
        """Return a copy of host values."""
        found = self.zeros(values.shape, values.dtype)
        self.assign(found, values)
        return found

    @abstractmethod
    def assign(self, array: Any, values: npt.ArrayLike) -> None:
        """Write host values into an array."""

    @abstractmethod
    def assign_all(self, arrays: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
        """Write host values of the same shapes and dtypes into arrays: into all of them, whatever interrupts."""

    @abstractmethod
    def values(self, array: Any) -> npt.NDArray[Any]:
        """Return an array's values on the host: itself where it lies there, else a copy."""

    @abstractmethod
    def copy(self, target: Any, source: Any) -> None:
        """Copy one array into another."""

    @abstractmethod
    def record(self, dtype: np.dtype[Any]) -> Record:
        """Return a record of zeros."""

    @abstractmethod
    def copy_rows(self, target: Any, source: Any) -> None:
        """Copy rows (B, K) into rows (B, N), as many columns as the narrower of the two has."""

    def adopt(self, x: Any) -> Any:
        """Return an array that lies on the device already, None for any other."""
        return None

    @abstractmethod
    def staged(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Staged:
        """Return an array to be filled before each run."""

    def hold(self, result: Any, failed: Any) -> Sequence[Operation]:
        """Return what sets ``result.finite`` to 0 where `failed`, (1,) int64, is not; nothing where the host does."""
        return ()

    @abstractmethod
    def program(self, steps: Sequence[Any]) -> Program:
        """Return bound operations as a program."""


class Cpu(Device):
    """The processor: arrays are NumPy's."""

    name, by_parts, checks_between = "cpu", True, True

    @property
    def isa(self) -> Any:
        """The widest instruction set, or the one that the environment names, with the tile that proved fastest."""
        return tuned(instruction_set())

    @property
    def threads(self) -> int:
        """Threads that share the work."""
        return thread_count()

    def __reduce__(self) -> str:
        return "CPU"

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        return aligned(shape, dtype)

    def assign(self, array: npt.NDArray[Any], values: npt.ArrayLike) -> None:
        array[...] = values

    def assign_all(self, arrays: Sequence[npt.NDArray[Any]], values: Sequence[npt.NDArray[Any]]) -> None:
        # Python raises an interrupt between two of its own instructions: here are none between the arrays.
        deque(map(np.ndarray.__setitem__, arrays, repeat(...), values), maxlen=0)

    def values(self, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return array

    def copy(self, target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
        target[...] = source

    def copy_rows(self, target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
        width = min(target.shape[-1], source.shape[-1])
        target[:, :width] = source[:, :width]

    def record(self, dtype: np.dtype[Any]) -> Record:
        host = np.zeros(1, dtype)
        return Record(host, host)

    def staged(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Staged:
        return Staged(self.zeros(shape, dtype))

    def program(self, steps: Sequence[Any]) -> CpuProgram:
        return CpuProgram(steps, self.threads)


CPU = Cpu()
