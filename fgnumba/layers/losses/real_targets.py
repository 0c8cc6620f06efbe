"""Losses of real targets: a mean over examples and outputs of a function of one output and its target."""

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import DatasetError, DtypeError, ShapeError
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.losses.example_weights import WeighableLoss
from fgnumba.validation import real_number
from fgnumba.validation.arrays import REAL, check_finite


class RealTargets(WeighableLoss):
    """A loss of outputs z (B, N) and real targets y (B, N). With one output, the targets may be (B,)."""

    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return the shape (B, N) and the dtype float32 in which the kernels read targets."""
        return (batch, outputs), np.float32

    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise ShapeError or DtypeError unless targets are (B, N) real numbers; (B,) will do where N is 1."""
        if targets.shape != (batch, outputs) and not (outputs == 1 and targets.shape == (batch,)):
            raise ShapeError(f"targets have shape {targets.shape}; ({batch}, {outputs}) is required")
        if targets.dtype.kind not in REAL:
            raise DtypeError(f"targets have dtype {targets.dtype}; real numbers are required")

    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise DatasetError unless every target is finite in float32."""
        check_finite("targets", np.asarray(targets))

    @abstractmethod
    def _kernels(self, device: Device) -> Any:
        """Return the operation's functions on a device."""

    def _constants(self, device: Device) -> dict[str, Any]:
        """Return the loss's own numbers, as an argument of its kernels; by default there are none."""
        return {}

    def _bind(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        outputs: int,
        targets: npt.NDArray[Any],
        result: npt.NDArray[Any],
        values: npt.NDArray[np.float64],
        weighted: bool,
    ) -> list[Operation]:
        arrays = {"z": z, "targets": targets, "result": result, "values": values, **self._constants(device)}
        bound = self._kernels(device).bind(device.threads, width=outputs, weighted=weighted, **arrays)
        return list(bound)

    def _bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
        weighted: bool,
    ) -> Operation:
        arrays = {"z": z, "targets": targets, "residual": residual, **self._constants(device)}
        operation: Operation = self._kernels(device).bind_residual(
            device.threads, weighted=weighted, **arrays
        )
        return operation

    def _packable(self, targets: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        return packable_rows(self, targets)

    def _unpacked(self, targets: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        return targets


def packable_rows(loss: WeighableLoss, targets: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return real targets (n, N), or (n,) of one number each, as rows of float32, having checked them for a loss."""
    rows = targets[:, None] if targets.ndim == 1 else targets
    if rows.ndim != 2 or not rows.shape[1]:
        raise ShapeError(f"targets have shape {targets.shape}; (n, N) or (n,) is required")
    loss.check_targets(rows, *rows.shape)
    loss.check_target_values(rows, rows.shape[1])
    return rows.astype(np.float32)


class MeanSquaredError(RealTargets):
    """Mean squared error of outputs z (B, N) with targets y (B, N), or (B,) where N is 1.

        f = mean_in (z_in - y_in)²
        d = mean_in 2 (z_in - y_in) dz_in

    i counts examples and n outputs. Differences and squares are float64, so the differences of float32 numbers are
    exact, whatever their size.
    """

    _curvature = "squared"

    def _kernels(self, device: Device) -> Any:
        return device.kernels.mean_squared_error

    def _losses(self, z: npt.NDArray[np.float64], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        losses: npt.NDArray[np.float64] = (z - y) ** 2
        return losses

    def _curvatures(
        self, z: npt.NDArray[np.float64], r: npt.NDArray[np.float64], y: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        forms: npt.NDArray[np.float64] = 2.0 * r**2
        return forms


class Huber(RealTargets):
    """Huber's loss of outputs z (B, N) with targets y (B, N), or (B,) where N is 1.

        f = mean_in φ(z_in - y_in)
        d = mean_in φ'(z_in - y_in) dz_in
        φ(d) = d² / 2 where |d| ≤ δ, else δ (|d| - δ / 2)

    i counts examples and n outputs. It is quadratic near the target and linear beyond, so that a few targets that are
    far off pull less than with the squared error. This is the convention of PyTorch's ``HuberLoss`` and of Keras's
    ``Huber``; with δ = 1 it is PyTorch's ``SmoothL1Loss``, too. Half the mean squared error is the limit for large δ.
    Everything is float64, as in :class:`MeanSquaredError`.

    Parameters
    ----------
    delta : float
        The distance δ from the target up to which the loss is quadratic, above 0. Default: 1.

    Raises
    ------
    ConfigError
        `delta` is no finite number above 0.

    Notes
    -----
    Source: P. J. Huber, Robust Estimation of a Location Parameter, Annals of Mathematical Statistics 35, 1964.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> fg.Huber(delta=1.0).value(np.array([[0.5], [3.0]], np.float32), np.zeros(2))  # (0.125 + 2.5) / 2
    1.3125
    """

    _curvature = "huber"

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = real_number("delta", delta, above_zero=True)

    def _kernels(self, device: Device) -> Any:
        return device.kernels.huber

    def _constants(self, device: Device) -> dict[str, Any]:
        # It is checked again: the attribute may have been set since.
        return {"constants": device.array(np.array([real_number("delta", self.delta, above_zero=True)]))}

    def _curvature_constants(self, device: Device, outputs: int) -> Any:
        return self._constants(device)["constants"]

    def _losses(self, z: npt.NDArray[np.float64], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        size, delta = np.abs(z - y), real_number("delta", self.delta, above_zero=True)
        inside = np.minimum(size, delta)
        losses: npt.NDArray[np.float64] = 0.5 * inside**2 + delta * (size - inside)
        return losses

    def _curvatures(
        self, z: npt.NDArray[np.float64], r: npt.NDArray[np.float64], y: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        forms: npt.NDArray[np.float64] = np.where(np.abs(z - y) <= self.delta, r**2, 0.0)
        return forms


class BinaryCrossEntropy(RealTargets):
    """Binary cross-entropy of logits z (B, N) with targets y (B, N) from 0 to 1, or (B,) where N is 1.

        f = mean_in (softplus(z_in) - y_in z_in)
        d = mean_in (sigmoid(z_in) - y_in) dz_in

    i counts examples and n outputs. Every output is a label of its own, and sigmoid(z_in) its probability: an example
    may have several labels, or none. The model's last layer has no activation. This is PyTorch's
    ``BCEWithLogitsLoss`` and Keras's ``BinaryCrossentropy(from_logits=True)``.

    For labels 0 and 1 nothing cancels: values and derivatives keep their relative accuracy where an example is well
    classified, and no finite logit overflows. An infinite logit makes f infinite or NaN.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> loss = fg.BinaryCrossEntropy()
    >>> round(loss.value(np.zeros((2, 3), np.float32), np.array([[1, 0, 0], [1, 1, 0]])), 6)  # log 2
    0.693147
    """

    _curvature = "binary"

    @property
    def metric(self) -> str:
        """The name ``"accuracy"``: the fraction of labels, over examples and outputs, that are predicted correctly."""
        return "accuracy"

    def predictions(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return the labels with a probability above 1/2.

        Parameters
        ----------
        outputs : ndarray, (B, N) float32
            The model's outputs.

        Returns
        -------
        ndarray
            (B, N) bool, whether z is above 0.
        """
        return outputs > 0

    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise DatasetError unless every target is from 0 to 1."""
        targets = np.asarray(targets)
        if targets.dtype.kind == "b" or (targets.size and targets.min() >= 0 and targets.max() <= 1):
            return
        wrong = np.argwhere(~((targets >= 0) & (targets <= 1)))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            where = ", ".join(map(str, at))
            raise DatasetError(f"targets[{where}] is {targets[at]}; a number from 0 to 1 is required")

    def _kernels(self, device: Device) -> Any:
        return device.kernels.binary_cross_entropy

    def _losses(self, z: npt.NDArray[np.float64], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        size = np.abs(z)
        against = np.where(z >= 0, 1.0 - y.astype(np.float64), y)
        losses: npt.NDArray[np.float64] = size * against + np.log1p(np.exp(-size))
        return losses

    def _curvatures(
        self, z: npt.NDArray[np.float64], r: npt.NDArray[np.float64], y: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        # sigmoid(z) (1 - sigmoid(z)), in which nothing cancels or overflows.
        small = np.exp(-np.abs(z))
        forms: npt.NDArray[np.float64] = small / (1.0 + small) ** 2 * r**2
        return forms
