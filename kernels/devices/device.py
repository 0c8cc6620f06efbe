"""The interface of a device, and the CPU: where arrays lie, whose kernels operations are bound to, and how they run."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from functools import cached_property
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.devices.kernels import Kernels
from fgnumba.kernels.devices.precision import OVERRIDE, checked, described, meant, named
from fgnumba.kernels.devices.tuning import tuned
from fgnumba.kernels.emit.precision import AUTO, FLOAT32
from fgnumba.kernels.emit.vector import instruction_set
from fgnumba.kernels.machine.interfaces import Operation, Program
from fgnumba.kernels.machine.memory import aligned
from fgnumba.kernels.machine.program import Program as CpuProgram
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.objects.bound import Bound


class Record(Bound):
    """A (1,) structured array that the host writes and kernels read.

    Attributes
    ----------
    host : array, (1,) structured
        The array that the host writes.
    array : array, (1,) structured
        The array that kernels read. :meth:`push` copies `host` to it, if it is another array.
    """

    def __init__(self, host: npt.NDArray[Any], array: Any) -> None:
        self.host, self.array = host, array

    def push(self) -> None:
        """Make the present values of `host` visible to the operations that are launched next.

        Afterwards the host may write `host` again at once.
        """


class Staged(Bound):
    """An array that the host fills with new values before each run.

    Attributes
    ----------
    array : array
        The array that kernels read.
    """

    def __init__(self, array: Any) -> None:
        self.array = array

    def load(self, values: npt.NDArray[Any]) -> None:
        """Copy `values` into the array, or into the first columns of its rows if these are longer."""
        fill(self.array[..., : values.shape[-1]], values)

    @property
    def nbytes(self) -> int:
        """Number of bytes of the array."""
        return int(self.array.nbytes)


def fill(target: npt.NDArray[Any], values: npt.NDArray[Any]) -> None:
    """Write values into an array, converting float64 to float32 if needed.

    A number too large for float32 becomes infinite, so that results computed from it are not finite either.
    """
    if values.dtype.kind == "f" and values.dtype.itemsize > target.dtype.itemsize:
        with np.errstate(over="ignore"):
            target[...] = values
    else:
        target[...] = values


class Device(ABC):
    """A device that models run on.

    Attributes
    ----------
    name : str
        ``cpu`` or ``cuda``.
    by_parts : bool
        True: operations on images may take a part, a few images, at a time, in a thread's own buffers with borders
        around the images. False: every operation takes the whole batch.
    checks_between : bool
        True: the host sees the loss of a pass before it runs the rest of the step. False: a step is launched as a
        whole.
    isa : InstructionSet or Instructions
        The instructions that operations are bound with.
    threads : int
        The number of threads, or of a GPU's multiprocessors, that operations are bound for.
    """

    name: str
    by_parts: bool
    checks_between: bool

    @property
    def description(self) -> str:
        """The device's name for people."""
        return self.name

    @property
    def text(self) -> str:
        """The device as the representation of a model shows it: its name."""
        return repr(self.name)

    @property
    @abstractmethod
    def isa(self) -> Any:
        """The instructions that products are computed with."""

    @property
    @abstractmethod
    def precisions(self) -> tuple[str, str]:
        """The precision of the primal's products, and that of the tangents', with ``auto`` written out."""

    @property
    @abstractmethod
    def threads(self) -> int:
        """How many threads or multiprocessors share the work."""

    @cached_property
    def kernels(self) -> Kernels:
        """The operations, one attribute each: ``kernels.dense`` is the module with the launchers of dense layers."""
        return Kernels(self.name)

    @abstractmethod
    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Any:
        """Return an array of zeros. DeviceError is raised if there is not enough memory."""

    def array(self, values: npt.NDArray[Any]) -> Any:
        """Return a copy of host values on the device."""
        array = self.zeros(values.shape, values.dtype)
        self.assign(array, values)
        return array

    @abstractmethod
    def assign(self, array: Any, values: npt.ArrayLike) -> None:
        """Copy host values into an array."""

    @abstractmethod
    def assign_all(self, arrays: Sequence[Any], values: Sequence[npt.NDArray[Any]]) -> None:
        """Copy host values into arrays of the same shapes and dtypes.

        An interrupt cannot stop between two of the arrays.
        """

    @abstractmethod
    def values(self, array: Any) -> npt.NDArray[Any]:
        """Return an array's values on the host: the array itself if it lies there, else a copy."""

    @abstractmethod
    def copy(self, target: Any, source: Any) -> None:
        """Copy the array `source` into the array `target`."""

    @abstractmethod
    def record(self, dtype: np.dtype[Any]) -> Record:
        """Return a record of zeros."""

    @abstractmethod
    def copy_rows(self, target: Any, source: Any) -> None:
        """Copy rows (B, K) into rows (B, N): as many columns as the narrower of the two has."""

    def adopt(self, x: Any) -> Any:
        """Return x as an array of this device if its memory lies on the device already, else None."""
        return None

    @abstractmethod
    def staged(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> Staged:
        """Return an array that is to be filled before each run."""

    def hold(self, result: Any, failed: Any) -> Sequence[Operation]:
        """Return operations that set ``result.finite`` to 0 if `failed`, (1,) int64, is not 0.

        There are none on a device where the host checks a pass itself.
        """
        return ()

    @abstractmethod
    def program(self, steps: Sequence[Any]) -> Program:
        """Return bound operations as a program."""


class Cpu(Device):
    """The CPU. Its arrays are NumPy arrays.

    Two are equal if their precisions are. One never changes, so that a copy of one is the same object.

    Parameters
    ----------
    precision : str
        Precision of the primal's products, see :mod:`fgnumba.kernels.emit.precision`. ``auto`` stands for the fastest
        one whose JVPs are as exact as float32's, see :func:`fgnumba.kernels.devices.precision.automatic`.
    tangent_precision : str or None
        Precision of the tangents' products. None: the primal's.

    Raises
    ------
    ConfigError
        A precision is unknown.
    """

    name, by_parts, checks_between = "cpu", True, True

    def __init__(self, precision: str = AUTO, tangent_precision: str | None = None) -> None:
        self.precision = checked("precision", precision)
        self.tangent_precision = (
            self.precision if tangent_precision is None else checked("tangent_precision", tangent_precision)
        )

    @property
    def description(self) -> str:
        """The device's name, and the precisions of its products where they are not float32."""
        precisions = described(*self.precisions)
        return self.name if precisions == FLOAT32 else f"{self.name}, {precisions}"

    @property
    def text(self) -> str:
        """The device as the representation of a model shows it: its name, or the precisions that were given."""
        return repr(self.name) if self.precision == self.tangent_precision == AUTO else repr(self)

    @property
    def isa(self) -> Any:
        """The widest instruction set, or the one that the environment names, with the fastest register tile.

        DeviceError is raised if it does not have the precision.
        """
        isa = tuned(instruction_set())
        return isa.multiplying(
            meant(self.precision, isa), meant(self.tangent_precision, isa), self._sources()
        )

    @property
    def precisions(self) -> tuple[str, str]:
        isa = self.isa
        return isa.precision, isa.tangent_precision

    @property
    def threads(self) -> int:
        """Number of threads that share the work."""
        return thread_count()

    def check(self) -> None:
        """Raise DeviceError if the instruction set lacks a precision. Unlike :attr:`isa`, this makes no trial."""
        # What ``auto`` is chosen to be, the set has.
        primal, tangent = (
            FLOAT32 if name == AUTO else name for name in map(named, (self.precision, self.tangent_precision))
        )
        instruction_set().multiplying(primal, tangent, self._sources())

    def _sources(self) -> tuple[str, str]:
        """Return what names the precisions of the primal's products and of the tangents'."""
        return (
            OVERRIDE if self.precision == AUTO else "precision",
            OVERRIDE if self.tangent_precision == AUTO else "tangent_precision",
        )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cpu):
            return NotImplemented
        return type(self) is type(other) and self._settings() == other._settings()

    def __hash__(self) -> int:
        return hash((type(self), self.precision, self.tangent_precision))

    def _settings(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "kernels"}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Cpu":
        return self

    def __reduce__(self) -> Any:
        return "CPU" if self is CPU else (Cpu, (self.precision, self.tangent_precision))

    def __repr__(self) -> str:
        given = () if self.precision == AUTO else (f"precision={self.precision!r}",)
        if self.tangent_precision != self.precision:
            given = (*given, f"tangent_precision={self.tangent_precision!r}")
        return f"cpu({', '.join(given)})"

    def zeros(self, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32) -> npt.NDArray[Any]:
        return aligned(shape, dtype)

    def assign(self, array: npt.NDArray[Any], values: npt.ArrayLike) -> None:
        array[...] = values

    def assign_all(self, arrays: Sequence[npt.NDArray[Any]], values: Sequence[npt.NDArray[Any]]) -> None:
        # Python raises an interrupt only between two of its own instructions. Between the arrays there are none here.
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
