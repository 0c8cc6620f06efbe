"""Losses: the value of a batch, and its directional derivatives along the outputs' tangents.

Sums over outputs and over the batch are float64, on every device but for a GPU's softmax (float32 there), and so are
results: a loss that is beyond float32, as the squared error of 10²⁵ is, is told as it is. No training step is taken
along it: a pass ends well where loss and derivatives are finite in float32. Outputs that are not finite give what
float64 arithmetic says, see the losses, and never an exception or a warning.
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DatasetError, DtypeError, ShapeError
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.objects.fingerprint import fingerprint
from fgnumba.validation.arrays import as_array, first_not_finite


class Loss(ABC):
    """A loss that is a mean over a batch.

    What is bound for a loss is kept for its class and all that it holds: another number in an attribute is another
    loss, also where it was changed in place. A class that holds what does not matter to its kernels (a counter, a
    cache) says by :attr:`key` what does: otherwise each change costs a new plan, and a run cannot be resumed.
    """

    _slotted: ClassVar[bool] = False

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._slotted = any(vars(one).get("__slots__") for one in cls.__mro__)

    @property
    def key(self) -> Hashable:
        """What plans are kept by, and what a resumed run must agree in."""
        # Asked for in every step: a loss that holds nothing is its class.
        return fingerprint(self) if self.__dict__ or self._slotted else type(self)

    @abstractmethod
    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return the shape and the dtype in which the kernels read targets."""

    @abstractmethod
    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise ShapeError or DtypeError unless targets are of the right shape and kind of number."""

    @abstractmethod
    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise DatasetError where a target is impossible."""

    @abstractmethod
    def bind(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        outputs: int,
        targets: npt.NDArray[Any],
        result: npt.NDArray[Any],
        values: npt.NDArray[np.float64],
    ) -> list[Operation]:
        """Return the operations that write the value and the directional derivatives of a dual buffer `z`."""

    @abstractmethod
    def bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
    ) -> Operation:
        """Return the operation that writes ∂f_i/∂z_i, (B, N), the gradient of each example's own loss in z (B, ld)."""

    @abstractmethod
    def value(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> float:
        """Return the loss of (B, N) outputs, computed in float64.

        Raises
        ------
        ShapeError, DtypeError, DatasetError
            Outputs or targets are not possible.
        """

    def checked_pair(
        self, outputs: npt.ArrayLike, targets: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
        """Return outputs as (B, N) float64, and targets as they are kept, having checked that they fit each other."""
        z, y = as_array("outputs", outputs), as_array("targets", targets)
        if z.ndim < 2 or z.size == 0:
            raise ShapeError(f"outputs have shape {z.shape}; (B, N) is required")
        batch, width = len(z), z[0].size
        self.check_targets(y, batch, width)
        self.check_target_values(y, width)
        layout = self.target_layout(batch, width)
        return z.reshape(batch, width).astype(np.float64), y.astype(layout[1], copy=False)


class SoftmaxCrossEntropy(Loss):
    """Softmax cross-entropy of logits z (B, C) against integer targets y (B,), each in [0, C).

    f = mean_i (logsumexp(z_i) - z_i[y_i])
    d = mean_i ((softmax(z_i) - onehot(y_i)) · dz_i)

    The largest logit is subtracted first: f is right to 16 U = 9.5e-7 of itself or of 1 for any finite logits, also
    with a large offset in common. Of one class f, d and the residual are 0; of C equal logits f is log C. A logit of
    minus infinity has probability 0, and where it is the target's, f is infinite. A row that holds infinity or NaN, or
    minus infinity alone, has NaN for f, d and its residual. Residuals of a row add up to 0.
    """

    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return (B,), int64."""
        return (batch,), np.int64

    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise unless targets are (B,) integers."""
        if targets.shape != (batch,):
            raise ShapeError(f"targets have shape {targets.shape}; ({batch},), a class each, is required")
        if targets.dtype.kind not in "iu":
            raise DtypeError(f"targets have dtype {targets.dtype}; integers are required")

    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise unless every target is in [0, C)."""
        targets = np.asarray(targets)
        if targets.dtype == np.int64 and targets.size and targets.view(np.uint64).max() < outputs:
            # In one pass: what is below 0 would be beyond every class.
            return
        wrong = np.flatnonzero((targets < 0) | (targets >= outputs))
        if wrong.size:
            raise DatasetError(f"targets[{wrong[0]}] is {targets[wrong[0]]}; classes are 0 to {outputs - 1}")

    def bind(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        outputs: int,
        targets: npt.NDArray[Any],
        result: npt.NDArray[Any],
        values: npt.NDArray[np.float64],
    ) -> list[Operation]:
        """Return the fused loss and its mean."""
        return list(
            device.kernels.softmax_cross_entropy.bind(
                device.threads, z=z, classes=outputs, targets=targets, result=result, values=values
            )
        )

    def bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
    ) -> Operation:
        """Return softmax(z) - onehot(y)."""
        return device.kernels.softmax_cross_entropy.bind_residual(
            device.threads, z=z, targets=targets, residual=residual
        )

    def value(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> float:
        """Return the mean of logsumexp(z_i) - z_i[y_i]."""
        z, targets = self.checked_pair(outputs, targets)
        # Of a model that has diverged it is NaN, and that is no news.
        with np.errstate(invalid="ignore"):
            z -= z.max(axis=1, keepdims=True)
            chosen = np.take_along_axis(z, targets[:, None], axis=1)[:, 0]
            return float(np.mean(np.log(np.exp(z).sum(axis=1)) - chosen))


class MeanSquaredError(Loss):
    """Mean squared error of outputs z (B, N) against targets y (B, N).

    f = mean_in (z_in - y_in)²
    d = mean_in 2 (z_in - y_in) dz_in

    Differences and squares are float64: exact differences of float32, whatever their size.
    """

    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return (B, N), float32."""
        return (batch, outputs), np.float32

    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise unless targets are (B, N) real numbers."""
        if targets.shape != (batch, outputs):
            raise ShapeError(f"targets have shape {targets.shape}; ({batch}, {outputs}) is required")
        if targets.dtype.kind not in "fiub":
            raise DtypeError(f"targets have dtype {targets.dtype}; real numbers are required")

    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise unless every target is finite, in float32 too."""
        targets = np.asarray(targets)
        wrong = first_not_finite(targets)
        if wrong is not None:
            at = ", ".join(map(str, wrong))
            raise DatasetError(f"targets[{at}] is {targets[wrong]}; finite is required, in float32")

    def bind(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        outputs: int,
        targets: npt.NDArray[Any],
        result: npt.NDArray[Any],
        values: npt.NDArray[np.float64],
    ) -> list[Operation]:
        """Return the fused loss and its mean."""
        return list(
            device.kernels.mean_squared_error.bind(
                device.threads, z=z, width=outputs, targets=targets, result=result, values=values
            )
        )

    def bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
    ) -> Operation:
        """Return 2 (z - y) / N."""
        return device.kernels.mean_squared_error.bind_residual(
            device.threads, z=z, targets=targets, residual=residual
        )

    def value(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> float:
        """Return the mean of the squared differences."""
        z, targets = self.checked_pair(outputs, targets)
        return float(np.mean((z - targets) ** 2))
