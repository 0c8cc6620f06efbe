"""Losses whose examples have weights, and what a loss needs for it."""

from abc import abstractmethod
from collections.abc import Hashable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError, DtypeError, ShapeError, shown
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops.output_curvature import COUPLED
from fgnumba.layers.losses.base import Loss, WeightedLoss
from fgnumba.validation.arrays import REAL, as_array, first_not_finite


class WeighableLoss(Loss):
    """A loss that can be computed with a weight for each example: every built-in loss is one.

    Its kernels then read packed targets, (B, 1 + N) float32: an example's weight, and its N targets behind it.
    """

    _curvature: ClassVar[str | None] = None
    """The loss's name in ``kernels.ops.output_curvature``; None: its second derivative is not known."""

    def with_example_weights(self) -> "ExampleWeights":
        """Return this loss with a weight w_i for each example, (1/B) Σ_i w_i f_i; see :class:`ExampleWeights`.

        Raises
        ------
        ConfigError
            If this is an object of a user's subclass, whose own kernels may not know of weights.
        """
        if not _is_built_in(self):
            built_in = next(kind.__name__ for kind in type(self).__mro__ if "_losses" in vars(kind))
            raise ConfigError(
                f"{type(self).__name__} takes no weights of examples, being a subclass of {built_in}; "
                f"{built_in} itself, or a with_example_weights of its own, is required"
            )
        return ExampleWeights(self)

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
        return self._bind(device, z, outputs, targets, result, values, False)

    def bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
    ) -> Operation:
        """Return the operation that writes the residual, the gradient of each example's own loss."""
        return self._bind_residual(device, z, targets, residual, False)

    def bind_curvature(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        curvature: npt.NDArray[np.float32],
    ) -> Operation:
        """Return the operation that writes the second derivative of each example's own loss.

        It raises ConfigError if it is not known, and for an object of a user's subclass, whose loss may be another one.
        """
        return self._bind_curvature(device, z, targets, curvature, False)

    @property
    def coupled(self) -> bool:
        """Whether the second derivative has a term of rank 1."""
        return self._curvature in COUPLED

    def _bind_curvature(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        curvature: npt.NDArray[np.float32],
        weighted: bool,
    ) -> Operation:
        """Return the operation of :meth:`bind_curvature`; where `weighted`, the targets are packed."""
        if not self.has_gauss_newton:
            return super().bind_curvature(device, z, targets, curvature)
        assert self._curvature is not None
        constants = self._curvature_constants(device, curvature.shape[1])
        operation: Operation = device.kernels.output_curvature.bind(
            device.threads,
            loss=self._curvature,
            z=z,
            targets=targets,
            curvature=curvature,
            constants=constants,
            weighted=weighted,
        )
        return operation

    def _curvature_constants(self, device: Device, outputs: int) -> Any:
        """Return the numbers that the kernel of the second derivative reads; by default there are none."""
        return None

    def value(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> float:
        """Return the loss, computed in float64; see :meth:`Loss.value`."""
        z, y = self.checked_pair(outputs, targets)
        # The outputs of a model that has diverged are NaN, of which NumPy must not warn.
        with np.errstate(invalid="ignore"):
            return float(np.mean(self._losses(z, y)))

    @property
    def has_gauss_newton(self) -> bool:
        """Whether the second derivatives are known: those of a built-in loss, and not of a user's subclass of one."""
        return _is_built_in(self) and self._curvature is not None

    def gauss_newton(
        self, outputs: npt.NDArray[Any], tangents: npt.NDArray[Any], targets: npt.NDArray[Any]
    ) -> float:
        """Return vᵀGv, computed in float64; see :meth:`Loss.gauss_newton`."""
        if not self.has_gauss_newton:
            return super().gauss_newton(outputs, tangents, targets)
        z, y = self.checked_pair(outputs, targets)
        # The outputs of a model that has diverged are not finite, of which NumPy must not warn.
        with np.errstate(invalid="ignore", over="ignore"):
            return float(np.mean(self._curvatures(z, np.asarray(tangents, np.float64).reshape(z.shape), y)))

    def _curvatures(
        self, z: npt.NDArray[np.float64], r: npt.NDArray[np.float64], y: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        """Return rᵀHr of each example (B,), or of each of its outputs (B, N), whose mean is the example's."""
        raise NotImplementedError

    @abstractmethod
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
        """Return the operations of :meth:`bind`; where `weighted`, the targets are packed."""

    @abstractmethod
    def _bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
        weighted: bool,
    ) -> Operation:
        """Return the operation of :meth:`bind_residual`; where `weighted`, the targets are packed."""

    @abstractmethod
    def _losses(self, z: npt.NDArray[np.float64], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return the loss of each example (B,), or of each of its outputs (B, N), whose mean is the example's."""

    @abstractmethod
    def _packable(self, targets: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return targets as (B, N) float32, having checked what can be checked without a model."""

    @abstractmethod
    def _unpacked(self, targets: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        """Return packed targets, without the weights, as the loss takes them; DatasetError where they are none."""

    def _check_outputs(self, outputs: int) -> None:
        """Raise ConfigError if the loss does not fit a model with so many outputs."""


class ExampleWeights(WeightedLoss):
    """A loss with a weight w_i for each example; ``loss.with_example_weights()`` makes it.

        f = (1/B) Σ_i w_i f_i

    f_i is the loss of example i. The sum is divided by the number of examples, not by the sum of their weights: so the
    mean over mini-batches is the loss of the whole data. Weights that add up to the number of examples keep the loss's
    size. Directional derivatives and residuals carry the weights too.

    Targets are packed together with the weights in one array, by :meth:`pack`.

    Parameters
    ----------
    loss : Loss
        The loss f_i, one of the built-in ones.

    Raises
    ------
    ConfigError
        If the loss takes no weights of examples.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> weighted = fg.MeanSquaredError().with_example_weights()
    >>> targets = weighted.pack(np.zeros((2, 1)), [1.0, 0.5])
    >>> weighted.value(np.array([[1.0], [2.0]], np.float32), targets)  # (1 * 1 + 0.5 * 4) / 2
    1.5
    """

    def __init__(self, loss: Loss) -> None:
        if not isinstance(loss, WeighableLoss) or not _is_built_in(loss):
            raise ConfigError(f"loss is {shown(loss)}; a built-in loss is required")
        self.loss = loss

    def pack(self, targets: npt.ArrayLike, weights: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return targets and weights as one array, which the loss takes as targets.

        Parameters
        ----------
        targets : array_like
            Targets of n examples, as the loss without weights takes them; of sequences those of each position, (n, L)
            or (n, L, N).
        weights : array_like, (n,) or (n, L)
            The weights of examples, or of the positions of sequences: finite, 0 or above, and not all 0. A mask of
            positions is weights of 1 and 0; the mean is over all positions, masked ones included.

        Returns
        -------
        ndarray, (n, 1 + N) or (n, L, 1 + N) float32
            In each row an example's weight, then its N targets; a class is one target.

        Raises
        ------
        ShapeError, DtypeError, DatasetError
            If targets or weights are not of this kind.
        """
        y, w = as_array("targets", targets), as_array("weights", weights)
        if y.ndim == 0 or len(y) == 0:
            raise ShapeError(f"targets have shape {y.shape}; targets of one example or more are required")
        if w.ndim == 2 and w.shape == y.shape[:2]:
            rows = self.pack(y.reshape(-1, *y.shape[2:]), w.reshape(-1))
            return rows.reshape(*w.shape, -1)
        if w.shape != (len(y),):
            raise ShapeError(f"weights have shape {w.shape}; ({len(y)},), one for each example, is required")
        if w.dtype.kind not in REAL:
            raise DtypeError(f"weights have dtype {w.dtype}; real numbers are required")
        _check_weights(w)
        rows = self.loss._packable(y)
        packed = np.empty((len(y), 1 + rows.shape[1]), np.float32)
        packed[:, 0], packed[:, 1:] = w, rows
        if not packed[:, 0].any():
            raise DatasetError("weights are all 0 in float32; one above 0 is required")
        return packed

    def unpack(self, packed: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """Return targets and weights, each as an array: the inverse of :meth:`pack`.

        Parameters
        ----------
        packed : array_like, (n, 1 + N) float32
            Weights and targets, as :meth:`pack` returns them.

        Returns
        -------
        targets : ndarray
            The targets, as kernels of the loss without weights read them: (n,) int64, or (n, N) float32.
        weights : ndarray, (n,) float32
            The weights.

        Raises
        ------
        ShapeError, DatasetError
            If the array is not of this kind.
        """
        rows = as_array("packed", packed)
        if rows.ndim != 2 or rows.shape[1] < 2:
            raise ShapeError(f"packed has shape {rows.shape}; (n, 1 + N), as pack returns, is required")
        rows = rows.astype(np.float32, copy=False)
        return self.loss._unpacked(rows[:, 1:]), rows[:, 0]

    @property
    def key(self) -> Hashable:
        """What tells the loss from others, see :attr:`Loss.key`."""
        has_own = type(self.loss).key is not Loss.key
        return (type(self), self.loss.key) if has_own else super().key

    @property
    def metric(self) -> str:
        """The name of the metric by which models with the loss are judged."""
        return self.loss.metric

    def predictions(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return what a model with the loss predicts, in the form of the targets without weights.

        Parameters
        ----------
        outputs : ndarray, (B, N) float32
            The model's outputs.

        Returns
        -------
        ndarray
            The predictions, see :meth:`Loss.predictions`.
        """
        return self.loss.predictions(outputs)

    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return the shape (B, 1 + N) and the dtype float32 in which the kernels read weights and targets."""
        shape = self.loss.target_layout(batch, outputs)[0]
        return (batch, 2 if len(shape) == 1 else 1 + shape[1]), np.float32

    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise ShapeError or DtypeError unless targets are what :meth:`pack` makes."""
        self.loss._check_outputs(outputs)
        shape = self.target_layout(batch, outputs)[0]
        if targets.shape != shape:
            raise ShapeError(
                f"targets have shape {targets.shape}; {shape}, weights and targets as pack returns them, is required"
            )
        if targets.dtype.kind != "f":
            raise DtypeError(f"targets have dtype {targets.dtype}; float32, as pack returns, is required")

    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise DatasetError unless every weight is finite and 0 or above, and every target is possible."""
        targets = np.asarray(targets)
        _check_weights(targets[:, 0])
        self.loss.check_target_values(self.loss._unpacked(targets[:, 1:]), outputs)

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
        return self.loss._bind(device, z, outputs, targets, result, values, True)

    def bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
    ) -> Operation:
        """Return the operation that writes the residual, that of the loss times the example's weight."""
        return self.loss._bind_residual(device, z, targets, residual, True)

    def bind_curvature(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        curvature: npt.NDArray[np.float32],
    ) -> Operation:
        """Return the operation that writes the second derivative, that of the loss times the example's weight."""
        return self.loss._bind_curvature(device, z, targets, curvature, True)

    @property
    def coupled(self) -> bool:
        """Whether the second derivative has a term of rank 1."""
        return self.loss.coupled

    def value(self, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> float:
        """Return the loss, (1/B) Σ_i w_i f_i, computed in float64."""
        z, packed = self.checked_pair(outputs, targets)
        with np.errstate(invalid="ignore"):
            losses = self.loss._losses(z, self.loss._unpacked(packed[:, 1:])).reshape(len(z), -1)
            return float(np.mean(packed[:, 0].astype(np.float64) * losses.mean(axis=1)))

    @property
    def has_gauss_newton(self) -> bool:
        """Whether the second derivatives of the loss without weights are known."""
        return self.loss.has_gauss_newton

    def gauss_newton(
        self, outputs: npt.NDArray[Any], tangents: npt.NDArray[Any], targets: npt.NDArray[Any]
    ) -> float:
        """Return vᵀGv with the examples' weights, (1/B) Σ_i w_i r_iᵀ H_i r_i; see :meth:`Loss.gauss_newton`."""
        if not self.has_gauss_newton:
            return self.loss.gauss_newton(outputs, tangents, targets)
        z, packed = self.checked_pair(outputs, targets)
        r = np.asarray(tangents, np.float64).reshape(z.shape)
        with np.errstate(invalid="ignore", over="ignore"):
            each = self.loss._curvatures(z, r, self.loss._unpacked(packed[:, 1:])).reshape(len(z), -1)
            return float(np.mean(packed[:, 0].astype(np.float64) * each.mean(axis=1)))


def _is_built_in(loss: Loss) -> bool:
    """Return whether a loss is of one of this package's classes, and not of a user's subclass of one."""
    return "_losses" in vars(type(loss))


def _check_weights(weights: npt.NDArray[Any]) -> None:
    wrong = first_not_finite(weights)
    if wrong is None and weights.min() < 0:
        wrong = (int(np.argmin(weights)),)
    if wrong is not None:
        raise DatasetError(
            f"weights[{wrong[0]}] is {weights[wrong]}; a number that is 0 or above, and finite in float32, is required"
        )
