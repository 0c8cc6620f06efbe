"""Memory for what the operations of a layer hand to each other."""

from typing import Any

from fgnumba.kernels.devices.device import Device
from fgnumba.objects.bound import Bound


class Workspace(Bound):
    """Memory that the layers of a plan use one after the other, so that a deep model needs it once.

    Parameters
    ----------
    device : Device
        The device on which it lies.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._arrays: dict[tuple[str, tuple[int, ...]], Any] = {}

    def array(self, name: str, shape: tuple[int, ...]) -> Any:
        """Return the float32 array of that name and shape, zeros or what a layer has left in it.

        Parameters
        ----------
        name : str
            What the array holds. Arrays of different names hold something at the same time.
        shape : tuple of int
            The shape.
        """
        if (name, shape) not in self._arrays:
            self._arrays[name, shape] = self._device.zeros(shape)
        return self._arrays[name, shape]

    @property
    def nbytes(self) -> int:
        """The number of bytes of all arrays."""
        return sum(int(array.nbytes) for array in self._arrays.values())
