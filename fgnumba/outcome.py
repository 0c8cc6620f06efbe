"""What a pass reads beside its inputs, and what it leaves: targets, loss, derivatives."""

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.device import Device, Staged
from fgnumba.kernels.loss import RESULT
from fgnumba.losses import Loss


class Outcome:
    """Loss and directional derivatives of a pass, and whether they are finite, next to each other in memory.

    Attributes
    ----------
    result : (1,) ``kernels.loss.RESULT``. values : (1 + T,) float64. Both as kernels write them.
    """

    def __init__(self, device: Device, count: int) -> None:
        self._device = device
        self.both = device.zeros((2 + count,), np.float64)
        self.result, self.values = self.both[:1].view(RESULT), self.both[1:]

    def read(self, values: npt.NDArray[np.float64]) -> bool:
        """Copy the values to the host, and return whether the pass ended finite."""
        both = self._device.values(self.both)
        values[...] = both[1:]
        return bool(both[:1].view(RESULT)["finite"][0] == 1)


def targets_of(device: Device, loss: Loss, batch: int, outputs: int) -> Staged:
    """Return where a loss reads its targets."""
    shape, dtype = loss.target_layout(batch, outputs)
    return device.staged(shape, dtype)
