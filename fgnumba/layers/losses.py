"""Losses: the value for a batch, and its directional derivatives along the tangents of the outputs.

Sums over outputs and over the batch are float64 on every device, except the sums of a GPU's softmax, which are float32.
Results are float64 too, so a loss beyond float32, such as the square of an error of 10²⁵, is reported as it is. No
training step is taken with it, because a step requires that loss and derivatives are finite in float32. Outputs that
are not finite give what float64 arithmetic gives (see each loss), and never an exception or a warning.
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
    """The base class of losses, each of which is a mean over the batch.

    A plan that is bound for a loss is kept under the loss's :attr:`key`, which by default stands for its class and all
    of its attributes: a loss whose attribute is changed, even in place, counts as another loss. A class with attributes
    that its kernels do not use (a counter, a cache) should override :attr:`key`. Otherwise each change of them costs a
    new plan, and a run cannot be resumed.
    """

    _slotted: ClassVar[bool] = False

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        cls._slotted = any(vars(base).get("__slots__") for base in cls.__mro__)

    @property
    def key(self) -> Hashable:
        """The value under which plans are kept, and which must be equal when a run is resumed."""
        # It is asked for in every step, so a loss without attributes takes the short way: its class.
        return fingerprint(self) if self.__dict__ or self._slotted else type(self)

    @property
    def takes_labels(self) -> bool:
        """Whether a target is a class label, a whole number; else it is real numbers, one for each output."""
        return np.dtype(self.target_layout(1, 1)[1]).kind in "iu"

    @property
    def metric(self) -> str:
        """The name of the metric by which models with this loss are judged: ``"accuracy"`` or ``"r2"``."""
        return "accuracy" if self.takes_labels else "r2"

    def predictions(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return what a model with this loss predicts, in the form of the targets.

        Parameters
        ----------
        outputs : ndarray, (B, N) float32
            The model's outputs.

        Returns
        -------
        ndarray
            (B,) int64, the class of the largest output (the lowest one among equals), if targets are labels; else the
            outputs themselves.
        """
        return outputs.argmax(axis=1) if self.takes_labels else outputs

    @abstractmethod
    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return the shape and the dtype in which the kernels read the targets of a batch.

        Parameters
        ----------
        batch : int
            The number of examples B.
        outputs : int
            The number N of outputs of the model.
        """

    @abstractmethod
    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Check the shape and the dtype of the targets of a batch.

        Parameters
        ----------
        targets : array
            The targets, whose values are not read: they may lie on a GPU.
        batch : int
            The number of examples B.
        outputs : int
            The number N of outputs of the model.

        Raises
        ------
        ShapeError, DtypeError
            If the shape or the kind of the dtype is wrong.
        """

    @abstractmethod
    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Check the values of targets.

        Parameters
        ----------
        targets : array
            Targets that have passed :meth:`check_targets`.
        outputs : int
            The number N of outputs of the model.

        Raises
        ------
        DatasetError
            If a target has an impossible value.
        """

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
        """Return the operations that write the loss of a batch and its directional derivatives.

        Parameters
        ----------
        device : Device
            The device whose kernels are bound.
        z : device array, (1 + T, B, ld) float32
            The model's outputs, primal and T tangents; the first `outputs` columns count.
        outputs : int
            The number N of outputs of the model.
        targets : device array
            The targets, in the shape and dtype of :meth:`target_layout`.
        result : device array, (1,) of dtype ``kernels.shared.loss.RESULT``
            Written: whether the loss and all derivatives are finite.
        values : device array, (1 + T,) float64
            Written: the loss, then the T directional derivatives.
        """

    @abstractmethod
    def bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
    ) -> Operation:
        """Return the operation that writes the residual ∂f_i/∂z_i: the gradient of each example's own loss f_i.

        Parameters
        ----------
        device : Device
            The device whose kernels are bound.
        z : device array, (B, ld) float32
            The model's outputs.
        targets : device array
            The targets, in the shape and dtype of :meth:`target_layout`.
        residual : device array, (B, N) float32
            Written.
        """

    @abstractmethod
    def value(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> float:
        """Return the loss of a batch, computed in float64.

        Parameters
        ----------
        outputs : ndarray, (B, N) float32
            The model's outputs.
        targets : ndarray
            The targets, in the shape and kind of dtype of :meth:`target_layout`.

        Raises
        ------
        ShapeError, DtypeError, DatasetError
            If the shape, the dtype or a value of the outputs or targets is impossible.
        """

    def checked_pair(
        self, outputs: npt.ArrayLike, targets: npt.ArrayLike
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[Any]]:
        """Return the outputs as (B, N) float64 and the targets in the kernels' dtype, after checking that they fit."""
        z, y = as_array("outputs", outputs), as_array("targets", targets)
        if z.ndim < 2 or z.size == 0:
            raise ShapeError(f"outputs have shape {z.shape}; (B, N) is required")
        batch, width = len(z), z[0].size
        self.check_targets(y, batch, width)
        self.check_target_values(y, width)
        layout = self.target_layout(batch, width)
        return z.reshape(batch, width).astype(np.float64), y.astype(layout[1], copy=False)


class SoftmaxCrossEntropy(Loss):
    """Softmax cross-entropy of logits z (B, C) with integer targets y (B,), each in [0, C).

        f = mean_i (logsumexp(z_i) - z_i[y_i])
        d = mean_i ((softmax(z_i) - onehot(y_i)) · dz_i)

    The largest logit of a row is subtracted first. For any finite logits, also those with a large common offset, the
    error of f is at most 16 U = 9.5e-7, U = 2⁻²⁴, relative to f or to 1, whichever is larger. If there is one class, f,
    d and the residual are 0; if the C logits are equal, f is log C. A logit of minus infinity has probability 0; if it
    is the target's, f is infinite. A row that holds plus infinity or NaN, or nothing but minus infinity, makes f, d and
    its own residual NaN. The residuals of a row sum to 0.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> round(fg.SoftmaxCrossEntropy().value(np.zeros((2, 10), np.float32), np.array([3, 7])), 6)  # log 10
    2.302585
    """

    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return the shape (B,) and the dtype int64 in which the kernels read targets."""
        return (batch,), np.int64

    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise ShapeError or DtypeError unless targets are (B,) integers."""
        if targets.shape != (batch,):
            raise ShapeError(f"targets have shape {targets.shape}; ({batch},), a class each, is required")
        if targets.dtype.kind not in "iu":
            raise DtypeError(f"targets have dtype {targets.dtype}; integers are required")

    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise DatasetError unless every target is in [0, C)."""
        targets = np.asarray(targets)
        if targets.dtype == np.int64 and targets.size and targets.view(np.uint64).max() < outputs:
            # One pass over memory checks both bounds: as an unsigned number, a negative target exceeds every class.
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
        """Return the operations that write the loss and its derivatives; see :meth:`Loss.bind`."""
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
        """Return the operation that writes the residual, softmax(z) - onehot(y)."""
        return device.kernels.softmax_cross_entropy.bind_residual(
            device.threads, z=z, targets=targets, residual=residual
        )

    def value(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> float:
        """Return the loss, the mean of logsumexp(z_i) - z_i[y_i], computed in float64."""
        z, targets = self.checked_pair(outputs, targets)
        # The logits of a model that has diverged are NaN, of which NumPy must not warn.
        with np.errstate(invalid="ignore"):
            z -= z.max(axis=1, keepdims=True)
            target_logits = np.take_along_axis(z, targets[:, None], axis=1)[:, 0]
            return float(np.mean(np.log(np.exp(z).sum(axis=1)) - target_logits))


class MeanSquaredError(Loss):
    """Mean squared error of outputs z (B, N) with targets y (B, N).

        f = mean_in (z_in - y_in)²
        d = mean_in 2 (z_in - y_in) dz_in

    i counts examples and n outputs. Differences and squares are float64, so the differences of float32 numbers are
    exact, whatever their size.
    """

    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return the shape (B, N) and the dtype float32 in which the kernels read targets."""
        return (batch, outputs), np.float32

    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise ShapeError or DtypeError unless targets are (B, N) real numbers."""
        if targets.shape != (batch, outputs):
            raise ShapeError(f"targets have shape {targets.shape}; ({batch}, {outputs}) is required")
        if targets.dtype.kind not in "fiub":
            raise DtypeError(f"targets have dtype {targets.dtype}; real numbers are required")

    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise DatasetError unless every target is finite in float32."""
        targets = np.asarray(targets)
        wrong = first_not_finite(targets)
        if wrong is not None:
            at = ", ".join(map(str, wrong))
            raise DatasetError(
                f"targets[{at}] is {targets[wrong]}; a number that is finite in float32 is required"
            )

    def bind(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        outputs: int,
        targets: npt.NDArray[Any],
        result: npt.NDArray[Any],
        values: npt.NDArray[np.float64],
    ) -> list[Operation]:
        """Return the operations that write the loss and its derivatives; see :meth:`Loss.bind`."""
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
        """Return the operation that writes the residual, 2 (z - y) / N."""
        return device.kernels.mean_squared_error.bind_residual(
            device.threads, z=z, targets=targets, residual=residual
        )

    def value(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> float:
        """Return the loss, the mean of the squared differences, computed in float64."""
        z, targets = self.checked_pair(outputs, targets)
        return float(np.mean((z - targets) ** 2))
