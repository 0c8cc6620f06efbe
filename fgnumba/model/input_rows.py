"""The model's input as operations read it, without tangents and with them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from fgnumba.kernels.devices.device import Device, Staged, fill
from fgnumba.kernels.machine.memory import address, leading, pads_well
from fgnumba.model.wiring import Value
from fgnumba.objects.bound import Bound


class InputRows(Bound):
    """The model's input as operations read it: in the caller's array if its layout suits them, else in a copy.

    The input is a matrix of `batch` rows with `width` columns. With `copied` rows it is never read in place.
    """

    def __init__(self, device: Device, batch: int, width: int, copied: bool = False) -> None:
        self._device, self._batch, self._width = device, batch, width
        self._copied = copied or not device.by_parts
        self._copy: Staged | None = self._staged() if self._copied else None

    @classmethod
    def of(cls, device: Device, batch: int, source: Value) -> "InputRows":
        """Return the rows of `batch` examples of a model's input: a row for each position if it is `by_position`."""
        return cls(device, batch * source.positions, source.width, copied=source.by_position)

    def _staged(self) -> Staged:
        return self._device.staged((self._batch, leading(self._width)))

    @property
    def width(self) -> int:
        """The number of columns: the elements of an example, or of a position."""
        return self._width

    @property
    def in_place(self) -> bool:
        """Whether the device can read x in the caller's array: the CPU can, a GPU needs a copy."""
        return not self._copied

    @property
    def array(self) -> Any:
        """The rows (1, B, ld) to which operations are bound; if x is read in place, a placeholder without memory."""
        if self._copied:
            assert self._copy is not None
            return self._copy.array.reshape(1, self._batch, leading(self._width))
        return np.lib.stride_tricks.as_strided(
            np.zeros(1, np.float32), (1, self._batch, self._width), (0, 0, 0)
        )

    @property
    def nbytes(self) -> int:
        """The number of bytes of the copy, 0 if there is none."""
        return 0 if self._copy is None else self._copy.nbytes

    def read_by(self, x: Any, readers: Sequence[tuple[Any, str, int]]) -> None:
        """Tell the readers of the input where x (B, ...) lies.

        A reader is an operation, the field that takes the address, and the first example that it reads. x
        is read in place if it is C-contiguous float32 and its rows lie at a distance at which the kernels read at full
        speed; otherwise it is copied.
        """
        if self._copied:
            assert self._copy is not None
            self._copy.load(x.reshape(self._batch, self._width))
            return
        rows, flags = x.reshape(self._batch, self._width), x.flags
        # If x is not contiguous, `rows` is a temporary copy, which would be freed before it is read.
        if rows.dtype == np.float32 and flags.c_contiguous and flags.aligned and pads_well(self._width):
            at, distance = rows.__array_interface__["data"][0], self._width
        else:
            if self._copy is None:
                self._copy = self._staged()
            self._copy.load(rows)
            at, distance = address(self._copy.array), self._copy.array.shape[1]
        for operation, name, first in readers:
            arguments = operation.arguments
            arguments[name], arguments[f"{name}_image"] = at + 4 * first * distance, distance
            if "images" in (arguments.dtype.names or ()):
                arguments[f"{name}_part"] = arguments["images"] * distance


class DualRows(InputRows):
    """The model's input and its tangents, copied to one buffer before each run: (1 + T, B, ld) float32.

    Parameters
    ----------
    device : Device
        The device of the model.
    blocks : int
        1 + T: the primal and the tangents.
    batch : int
        The number of rows: of examples B, or of positions B L.
    width : int
        The number of elements of a row.
    """

    def __init__(self, device: Device, blocks: int, batch: int, width: int) -> None:
        super().__init__(device, batch, width)
        self._dual = device.staged((blocks, batch, leading(width)))

    @property
    def in_place(self) -> bool:
        """False: the tangents lie beside the input, in one buffer."""
        return False

    @property
    def array(self) -> Any:
        """The buffer (1 + T, B, ld) to which operations are bound."""
        return self._dual.array

    @property
    def nbytes(self) -> int:
        """The number of bytes of the buffer."""
        return self._dual.nbytes

    def read_by(self, x: Any, readers: Sequence[tuple[Any, str, int]]) -> None:
        """Copy `x`, a sequence of the input and its T tangents, each (B, ...). There are no `readers`."""
        if not isinstance(x[0], np.ndarray):
            for number, array in enumerate(x):
                self._device.copy_rows(self.array[number], array.reshape(self._batch, self._width))
            return
        rows = np.empty((len(x), self._batch, self._width), np.float32)
        for number, array in enumerate(x):
            fill(rows[number], array.reshape(self._batch, self._width))
        self._dual.load(rows)
