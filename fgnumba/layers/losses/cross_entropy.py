"""Softmax cross-entropy: of classes, with smoothed labels and with weights of classes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError, DtypeError, ShapeError, shown
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.losses.example_weights import WeighableLoss
from fgnumba.validation import real_number, several

_MOST_CLASSES = 1 << 24
"""Whole numbers up to this one are exact in float32, in which classes are packed beside weights."""


class SoftmaxCrossEntropy(WeighableLoss):
    """Softmax cross-entropy of logits z (B, C) with integer targets y (B,), each in [0, C).

        f = mean_i w_i (logsumexp(z_i) - q_i · z_i)
        d = mean_i w_i ((softmax(z_i) - q_i) · dz_i)
        q_i = (1 - ε) onehot(y_i) + ε / C

    Without arguments, ε is 0 and every weight w_i is 1: f is the mean of logsumexp(z_i) - z_i[y_i].

    The mean is over the B examples. PyTorch's ``CrossEntropyLoss(weight=...)`` divides by the sum of the batch's
    weights instead, which would bias the gradient of a mini-batch; multiply the class weights by the number of training
    examples over the sum of their weights for losses of its size. With label smoothing, PyTorch weighs each term of the
    smoothed sum by that term's own class; here, as in Keras, an example's whole loss is weighed by the class of its
    target.

    The largest logit of a row is subtracted first. For any finite logits, also those with a large common offset, the
    error of f is at most 16 U = 9.5e-7, U = 2⁻²⁴, relative to f or to 1, whichever is larger, if all weights are 1. If
    there is one class, f, d and the residual are 0; if the C logits are equal, f is log C. A logit of minus infinity
    has probability 0; if q_i is above 0 there, f is infinite. A row that holds plus infinity or NaN, or nothing but
    minus infinity, makes f, d and its own residual NaN. The residuals of a row sum to 0.

    Parameters
    ----------
    label_smoothing : float
        The share ε of each target that is spread evenly over all classes, at least 0 and below 1. Default: 0.
        Source: C. Szegedy et al., arXiv 1512.00567, section 7.
    class_weight : sequence of float or ndarray, optional
        A positive number for each of the C classes: w_i is that of the class y_i. None (the default): all are 1.

    Raises
    ------
    ConfigError
        An argument is not of this kind, or a model has another number of outputs than there are weights of classes.

    Examples
    --------
    >>> import numpy as np
    >>> import fgnumba as fg
    >>> round(fg.SoftmaxCrossEntropy().value(np.zeros((2, 10), np.float32), np.array([3, 7])), 6)  # log 10
    2.302585
    """

    _curvature = "softmax"

    label_smoothing: float = 0.0
    class_weight: tuple[float, ...] | None = None

    def __init__(
        self, label_smoothing: float = 0.0, class_weight: Sequence[float] | npt.NDArray[Any] | None = None
    ) -> None:
        smoothing, weights = _smoothing(label_smoothing), checked_class_weights(class_weight)
        # Only what differs from the default becomes an attribute: without attributes, the loss's key is its class, by
        # which earlier checkpoints know it.
        if smoothing:
            self.label_smoothing = smoothing
        if weights is not None:
            self.class_weight = weights

    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return the shape (B,) and the dtype int64 in which the kernels read targets."""
        return (batch,), np.int64

    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise ShapeError or DtypeError unless targets are (B,) integers; ConfigError where weights are not C."""
        self._check_outputs(outputs)
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
        arrays: dict[str, Any] = {
            "z": z,
            "classes": outputs,
            "targets": targets,
            "result": result,
            "values": values,
        }
        if self._plain and not weighted:
            return list(device.kernels.softmax_cross_entropy.bind(device.threads, **arrays))
        constants = device.array(self._constants(outputs))
        kernels = device.kernels.weighted_cross_entropy
        return list(kernels.bind(device.threads, **arrays, constants=constants, weighted=weighted))

    def _bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
        weighted: bool,
    ) -> Operation:
        arrays: dict[str, Any] = {"z": z, "targets": targets, "residual": residual}
        if self._plain and not weighted:
            return device.kernels.softmax_cross_entropy.bind_residual(device.threads, **arrays)
        constants = device.array(self._constants(residual.shape[1]))
        kernels = device.kernels.weighted_cross_entropy
        return kernels.bind_residual(device.threads, **arrays, constants=constants, weighted=weighted)

    def _curvature_constants(self, device: Device, outputs: int) -> Any:
        return None if self.class_weight is None else device.array(self._constants(outputs))

    def _losses(self, z: npt.NDArray[np.float64], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        z -= z.max(axis=1, keepdims=True)
        own = np.take_along_axis(z, y[:, None], axis=1)[:, 0]
        smoothing, weights = _smoothing(self.label_smoothing), checked_class_weights(self.class_weight)
        if smoothing:
            own = (1 - smoothing) * own + smoothing * z.mean(axis=1)
        losses: npt.NDArray[np.float64] = np.log(np.exp(z).sum(axis=1)) - own
        return losses if weights is None else losses * np.array(weights)[y]

    def _curvatures(
        self, z: npt.NDArray[np.float64], r: npt.NDArray[np.float64], y: npt.NDArray[Any]
    ) -> npt.NDArray[np.float64]:
        # H = diag(p) - p pᵀ whatever the target: rᵀHr is the variance of r over classes drawn by p.
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        apart = r - (p * r).sum(axis=1, keepdims=True)
        forms: npt.NDArray[np.float64] = (p * apart**2).sum(axis=1)
        weights = checked_class_weights(self.class_weight)
        return forms if weights is None else forms * np.array(weights)[y]

    def _packable(self, targets: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        # What depends on the number of classes is checked when a model is there.
        SoftmaxCrossEntropy().check_targets(targets, len(targets), 0)
        wrong = np.flatnonzero((targets < 0) | (targets >= _MOST_CLASSES))
        if wrong.size:
            raise DatasetError(
                f"targets[{wrong[0]}] is {targets[wrong[0]]}; "
                f"with weights of examples, classes are 0 to {_MOST_CLASSES - 1}"
            )
        return targets.astype(np.float32)[:, None]

    def _unpacked(self, targets: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        labels = targets[:, 0]
        wrong = np.flatnonzero(~((np.rint(labels) == labels) & (np.abs(labels) <= _MOST_CLASSES)))
        if wrong.size:
            raise DatasetError(
                f"targets[{wrong[0]}] is {labels[wrong[0]]}; a class, a whole number, is required"
            )
        return labels.astype(np.int64)

    @property
    def _plain(self) -> bool:
        return not self.label_smoothing and self.class_weight is None

    def _constants(self, outputs: int) -> npt.NDArray[np.float64]:
        """Return ε and the weights of the classes, as kernels read them."""
        self._check_outputs(outputs)
        # They are checked again: an attribute may have been set since.
        smoothing, weights = _smoothing(self.label_smoothing), checked_class_weights(self.class_weight)
        return np.array([smoothing, *(weights or (1.0,) * outputs)])

    def _check_outputs(self, outputs: int) -> None:
        if self.class_weight is not None and outputs and len(self.class_weight) != outputs:
            raise ConfigError(
                f"class_weight has {len(self.class_weight)} numbers; "
                f"the model has {outputs} outputs, one for each class"
            )


def _smoothing(value: float) -> float:
    return real_number("label_smoothing", value, below=1)


def checked_class_weights(value: Sequence[float] | npt.NDArray[Any] | None) -> tuple[float, ...] | None:
    """Return weights of classes as numbers above 0, None for None; raise ConfigError if they are something else."""
    if value is None:
        return None
    found = several(value)
    if not found:
        raise ConfigError(
            f"class_weight is {shown(value)}; a sequence of positive numbers, one for each class, is required"
        )
    return tuple(real_number(f"class_weight[{i}]", one, above_zero=True) for i, one in enumerate(found))
