"""The parameters of a model: arrays in their usual shape (canonical) outside, in the kernels' packed layout inside."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DtypeError, ShapeError, did_you_mean
from fgnumba.kernels.devices.device import CPU, Device
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.packing import pack, pack_into, unpack
from fgnumba.validation.arrays import REAL, as_array, first_not_finite


@dataclass(frozen=True)
class Parameter:
    """One parameter array of a model.

    Parameters
    ----------
    name : str
        The name: that of the layer, a dot, and ``weight``, ``bias``, ``scale`` or ``shift``.
    index : int
        The number of the parameter in the model, which is a part of the counter from which directions are drawn.
    shape : tuple of int
        The shape of the canonical array: (K, N) for a dense weight, (KH, KW, C / groups, N) for a convolution's, (N,)
        for a bias.
    packed : device array, float32
        The numbers in the kernels' layout (see ``kernels.layout.packing``), updated in place.
    groups : int
        The number of groups of columns, each of which is packed by itself. By default 1.
    device : Device
        The device that holds the numbers. By default the CPU.
    """

    name: str
    index: int
    shape: tuple[int, ...]
    packed: npt.NDArray[np.float32]
    groups: int = 1
    device: Device = CPU

    @classmethod
    def create(
        cls, name: str, index: int, values: npt.NDArray[np.float32], groups: int = 1, device: Device = CPU
    ) -> "Parameter":
        """Return a parameter on `device` that holds a copy of `values`."""
        packed = device.array(pack(_matrix(values), groups))
        return cls(name, index, values.shape, packed, groups, device)

    def array(self, packed: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Return a copy of the canonical array, or that of another array `packed` in the same layout."""
        values = self.device.values(self.packed if packed is None else packed)
        return unpack(values, self.shape[-1], self.groups).reshape(self.shape)

    def assign(self, values: npt.NDArray[np.float32], packed: npt.NDArray[np.float32] | None = None) -> None:
        """Replace the numbers by `values` of the canonical shape; if `packed` is given, replace its numbers instead."""
        target = self.packed if packed is None else packed
        host = self.device.values(target)
        pack_into(host, _matrix(values), self.groups)
        if host is not target:
            self.device.assign(target, host)


def assign_all(parameters: Sequence[Parameter], values: Sequence[npt.NDArray[np.float32]]) -> None:
    """Replace the numbers of parameters of one device by `values` of their canonical shapes.

    An interrupt cannot come in between: either all parameters have the new values or none has.
    """
    if parameters:
        packed = [pack(_matrix(array), p.groups) for p, array in zip(parameters, values, strict=True)]
        parameters[0].device.assign_all([p.packed for p in parameters], packed)


def packed_index(parameter: Parameter, index: int) -> int:
    """Return the flat index in the packed array of the element that has flat index `index` in the canonical array."""
    row, column = divmod(index, parameter.shape[-1])
    packed = parameter.packed
    panels, rows, lanes = packed.shape if packed.ndim == 3 else (packed.size // PANEL, 1, PANEL)
    group, inside = divmod(column, parameter.shape[-1] // parameter.groups)
    panel = group * (panels // parameter.groups) + inside // lanes
    return (panel * rows + row) * lanes + inside % lanes


def _matrix(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return values if values.ndim == 1 else values.reshape(-1, values.shape[-1])


def shapes_of(parameters: Mapping[str, Parameter]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the canonical arrays by name."""
    return {name: parameter.shape for name, parameter in parameters.items()}


def checked(
    shapes: Mapping[str, tuple[int, ...]], arrays: Mapping[str, npt.ArrayLike], what: str
) -> dict[str, npt.NDArray[np.float32]]:
    """Return `arrays` as float32, after checking their names, their shapes, and that all numbers are finite.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The shape of each array that is required, by name.
    arrays : mapping of str to array
        The arrays by name.
    what : str
        The name of the argument, for messages.

    Raises
    ------
    ShapeError
        If a name is missing or unknown, or a shape differs.
    DtypeError
        If an array does not hold real numbers.
    ConfigError
        If a number is not finite in float32, or `arrays` is no mapping.
    """
    if not isinstance(arrays, Mapping):
        raise ConfigError(f"{what} is a {type(arrays).__name__}; a mapping from names to arrays is required")
    for name in arrays:
        if name not in shapes:
            raise ShapeError(f"{what}: unknown name {name!r}{did_you_mean(str(name), shapes)}")
    result = {}
    for name, shape in shapes.items():
        if name not in arrays:
            raise ShapeError(f"{what}: {name!r} is missing; its shape is {shape}")
        array = as_array(f"{what}: {name!r}", arrays[name])
        if array.dtype.kind not in REAL:
            raise DtypeError(f"{what}: {name!r} has dtype {array.dtype}; real numbers are required")
        if array.shape != shape:
            raise ShapeError(f"{what}: {name!r} has shape {array.shape}; {shape} is required")
        wrong = first_not_finite(array)
        if wrong is not None:
            at = ", ".join(map(str, wrong))
            raise ConfigError(
                f"{what}: {name!r}[{at}] is {array[wrong]}; a number that is finite in float32 is required"
            )
        result[name] = array.astype(np.float32, copy=False)
    return result


def digest(parameters: Mapping[str, npt.NDArray[np.float32]]) -> str:
    """Return the SHA-256, in hexadecimal, of parameters: sorted names, shapes and little-endian float32 bytes."""
    checksum = hashlib.sha256()
    for name, array in sorted(parameters.items()):
        checksum.update(f"{name} {list(array.shape)}\n".encode())
        checksum.update(np.ascontiguousarray(array, "<f4").tobytes())
    return checksum.hexdigest()
