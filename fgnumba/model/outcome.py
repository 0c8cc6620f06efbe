"""What a pass reads beside its inputs, and what it leaves: targets, loss, derivatives."""

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.devices.device import Device, Staged
from fgnumba.kernels.shared.loss import RESULT
from fgnumba.layers.losses import Loss
from fgnumba.objects.bound import Bound


class Outcome(Bound):
    """What a step leaves, next to each other in memory, so that all of it comes to the host at once.

    Parameters
    ----------
    count : T. noted : numbers beside loss and derivatives.

    Attributes
    ----------
    result : (1,) ``kernels.shared.loss.RESULT``, whether loss and derivatives are finite.
    values : (1 + T,) float64, these.
    noted : (noted,) float64. All as kernels write them.
    """

    def __init__(self, device: Device, count: int, noted: int = 0) -> None:
        self._device = device
        self.all = device.zeros((2 + count + noted,), np.float64)
        self.result, self.values = self.all[:1].view(RESULT), self.all[1 : 2 + count]
        self.noted = self.all[2 + count :]

    @property
    def finite(self) -> bool:
        """Whether the pass ended finite."""
        return bool(self._device.values(self.result)["finite"][0] == 1)

    def read(self, values: npt.NDArray[np.float64], noted: npt.NDArray[np.float64] | None = None) -> bool:
        """Copy the values to the host, what is noted too where asked for; return whether the pass ended finite."""
        found = self._device.values(self.all)
        values[...] = found[1 : 1 + len(values)]
        if noted is not None:
            noted[...] = found[1 + len(values) :]
        return bool(found[:1].view(RESULT)["finite"][0] == 1)


def targets_of(device: Device, loss: Loss, batch: int, outputs: int) -> Staged:
    """Return where a loss reads its targets."""
    shape, dtype = loss.target_layout(batch, outputs)
    return device.staged(shape, dtype)
