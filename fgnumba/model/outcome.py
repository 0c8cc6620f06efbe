"""The outcome of a pass (loss and directional derivatives), and the memory from which a loss reads its targets."""

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.devices.device import Device, Staged
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.layers.losses import Loss
from fgnumba.objects.bound import Bound


class Outcome(Bound):
    """The numbers that a step leaves behind. They lie side by side in memory, so that one copy brings them to the host.

    Parameters
    ----------
    device : Device
        The device whose kernels write the numbers.
    count : int
        The number of directions T.
    noted : int, optional
        The number of extra scalars that each step records after the loss and the T derivatives. The SPSA estimator
        records two. By default 0.

    Attributes
    ----------
    result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
        Whether the loss and all derivatives are finite.
    values : device array, (1 + T,) float64
        The loss, then the T directional derivatives.
    noted : device array, (noted,) float64
        The extra scalars.
    """

    def __init__(self, device: Device, count: int, noted: int = 0) -> None:
        self._device = device
        self.all = device.zeros((2 + count + noted,), np.float64)
        self.result, self.values = self.all[:1].view(RESULT), self.all[1 : 2 + count]
        self.noted = self.all[2 + count :]

    @property
    def finite(self) -> bool:
        """Whether the loss and all derivatives of the last pass are finite."""
        return bool(self._device.values(self.result)["finite"][0] == 1)

    def read(self, values: npt.NDArray[np.float64], noted: npt.NDArray[np.float64] | None = None) -> bool:
        """Copy the outcome to the host.

        Parameters
        ----------
        values : ndarray, (1 + T,) float64
            Written: the loss and the directional derivatives.
        noted : ndarray, (noted,) float64, optional
            Written: the extra scalars. By default they are not copied.

        Returns
        -------
        bool
            Whether the loss and all derivatives are finite.
        """
        numbers = self._device.values(self.all)
        values[...] = numbers[1 : 1 + len(values)]
        if noted is not None:
            noted[...] = numbers[1 + len(values) :]
        return bool(numbers[:1].view(RESULT)["finite"][0] == 1)


def targets_of(device: Device, loss: Loss, batch: int, outputs: int) -> Staged:
    """Return memory on the device from which `loss` reads the targets of `batch` examples with `outputs` outputs."""
    shape, dtype = loss.target_layout(batch, outputs)
    return device.staged(shape, dtype)
