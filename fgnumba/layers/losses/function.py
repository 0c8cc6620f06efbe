"""Losses made of a function of one example's outputs and target."""

from collections.abc import Hashable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import types

from fgnumba.errors import ConfigError, DeviceError, DtypeError, FgError, ShapeError, shown
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.shared.loss.cpu import bind_loss, bind_loss_residual
from fgnumba.layers import own_function
from fgnumba.layers.losses import function_kernels as kernels
from fgnumba.layers.losses.base import Loss
from fgnumba.layers.losses.cross_entropy import SoftmaxCrossEntropy, checked_class_weights
from fgnumba.layers.losses.example_weights import ExampleWeights, WeighableLoss
from fgnumba.layers.losses.function_kernels import ARRAY, LABEL, NUMBER
from fgnumba.layers.losses.real_targets import packable_rows
from fgnumba.objects.code import name_of
from fgnumba.validation.arrays import REAL, check_finite

TARGETS = (LABEL, NUMBER, ARRAY)
"""What the function of a loss can take as target."""

_OUTPUTS = types.Array(types.float64, 1, "C")
# In this order: what indexes with the target, as a loss of classes does, fits neither of the first two.
_TYPES = {ARRAY: _OUTPUTS, NUMBER: types.float64, LABEL: types.int64}


class FunctionLoss(WeighableLoss):
    """The mean of a function f(z, y) over examples; :meth:`fgnumba.Loss.from_function` makes it.

        f = (1/B) Σ_i c_i f(z_i, y_i)

    c_i is the weight of the class of example i, 1 without any. See :meth:`fgnumba.Loss.from_function` for the
    parameters and for what the function may be.
    """

    def __init__(
        self,
        function: own_function.Function,
        targets: str | None = None,
        class_weight: Sequence[float] | npt.NDArray[Any] | None = None,
    ) -> None:
        self._function = own_function.checked_function("loss", function, 2)
        self._targets = self._kind(targets)
        self._class_weight = checked_class_weights(class_weight)
        if self._class_weight is not None and self._targets != LABEL:
            raise ConfigError(f"class_weight: targets is {self._targets!r}; classes are those of 'label'")

    @property
    def function(self) -> own_function.Function:
        """The function f(z, y)."""
        return self._function

    @property
    def targets(self) -> str:
        """What f takes as target: ``"label"``, ``"number"`` or ``"array"``."""
        return self._targets

    @property
    def class_weight(self) -> tuple[float, ...] | None:
        """The weights of the classes, or None."""
        return self._class_weight

    @property
    def key(self) -> Hashable:
        """What tells the loss from others: the code of the function and of what it calls, and the arguments."""
        return type(self), own_function.digest(self._function), self._targets, self._class_weight

    def __repr__(self) -> str:
        name = name_of(self._function)
        return f"Loss.from_function({name or own_function.described(self._function)})"

    def __reduce__(self) -> tuple[Any, ...]:
        # Machine code is not copied.
        return type(self), (self._function, self._targets, self._class_weight)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FunctionLoss":
        # A copy of a Numba function would be compiled again.
        return type(self)(self._function, self._targets, self._class_weight)

    def _kind(self, given: str | None) -> str:
        """Return what the function takes as target; if nobody said, what it can be compiled for."""
        if given is not None and given not in TARGETS:
            raise ConfigError(f"targets is {shown(given)}; one of {', '.join(TARGETS)} is required")
        reasons = []
        for kind in _TYPES if given is None else (given,):
            try:
                found = own_function.returned_type("loss", self._function, (_OUTPUTS, _TYPES[kind]))
            except ConfigError as error:
                reasons.append(error)
                continue
            if isinstance(found, types.Integer | types.Float | types.Boolean):
                return kind
            name = own_function.described(self._function)
            reasons.append(ConfigError(f"loss: {name} returns {found} where a real number is required"))
        raise reasons[-1]

    def predictions(self, outputs: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Return the class of the largest output, the first output, or all outputs, in the form of the targets.

        Parameters
        ----------
        outputs : ndarray
            (B, N) float32, the model's outputs.

        Returns
        -------
        ndarray
            (B,) int64 where targets are labels, (B, 1) float32 where they are numbers, (B, N) where they are arrays.
        """
        found: npt.NDArray[Any] = outputs[:, :1] if self._targets == NUMBER else super().predictions(outputs)
        return found

    def target_layout(self, batch: int, outputs: int) -> tuple[tuple[int, ...], type]:
        """Return the shape and the dtype in which kernels read targets: (B,) int64, (B, 1) or (B, N) float32."""
        if self._targets == LABEL:
            return (batch,), np.int64
        return (batch, 1 if self._targets == NUMBER else outputs), np.float32

    def check_targets(self, targets: npt.NDArray[Any], batch: int, outputs: int) -> None:
        """Raise ShapeError or DtypeError unless targets are labels, numbers or arrays, as the function takes them."""
        self._check_outputs(outputs)
        shape, _ = self.target_layout(batch, outputs)
        if targets.shape != shape and not (shape == (batch, 1) and targets.shape == (batch,)):
            raise ShapeError(f"targets have shape {targets.shape}; {shape} is required{self._hint(targets)}")
        if targets.dtype.kind not in ("iu" if self._targets == LABEL else REAL):
            required = "integers" if self._targets == LABEL else "real numbers"
            raise DtypeError(
                f"targets have dtype {targets.dtype}; {required} are required{self._hint(targets)}"
            )

    def _hint(self, targets: npt.NDArray[Any]) -> str:
        """Return what to say where the kind of target was found by trying, and may not be meant."""
        meant = ARRAY if targets.ndim > 1 else LABEL if targets.dtype.kind in "iu" else NUMBER
        if meant == self._targets:
            return ""
        name = own_function.python_function(self._function).__name__
        return (
            f" by {name}, whose targets are of kind {self._targets!r}; "
            f"Loss.from_function(f, targets={meant!r}) makes it another"
        )

    def check_target_values(self, targets: npt.NDArray[Any], outputs: int) -> None:
        """Raise DatasetError unless every label is a class, and every number finite in float32."""
        if self._targets == LABEL:
            SoftmaxCrossEntropy().check_target_values(targets, outputs)
        else:
            check_finite("targets", np.asarray(targets))

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
        self._check_device(device)
        bound = bind_loss(
            "own-loss",
            self._rows,
            device.threads,
            z=z,
            width=outputs,
            targets=targets,
            result=result,
            values=values,
            weighted=weighted,
            constants=self._constants(outputs),
            scratch_itemsize=kernels.SCRATCH_ITEMSIZE,
        )
        return list(bound)

    def _bind_residual(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        residual: npt.NDArray[np.float32],
        weighted: bool,
    ) -> Operation:
        self._check_device(device)
        width = residual.shape[1]
        operation = bind_loss_residual(
            "own-loss-residual",
            self._residual,
            device.threads,
            z=z,
            targets=targets,
            residual=residual,
            weighted=weighted,
            constants=self._constants(width),
        )
        return replace(operation, scratch_bytes=width * kernels.SCRATCH_ITEMSIZE)

    @cached_property
    def _rows(self) -> int:
        with own_function.compiling("loss", self._function):
            return kernels.rows_kernel("own-loss", own_function.tangent(self._function), self._targets)

    @cached_property
    def _residual(self) -> int:
        tangent = own_function.tangent(self._function)
        with own_function.compiling("loss", self._function):
            return kernels.residual_kernel("own-loss-residual", tangent, self._targets)

    @cached_property
    def _values(self) -> Any:
        return kernels.values_function(own_function.primal(self._function), self._targets)

    def _losses(self, z: npt.NDArray[np.float64], y: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        targets = np.ascontiguousarray(y, np.int64 if self._targets == LABEL else np.float64)
        try:
            losses: npt.NDArray[np.float64] = self._values(np.ascontiguousarray(z), targets)
        except FgError:
            raise
        except Exception as error:
            raise ConfigError(
                f"loss: {own_function.described(self._function)} raised {type(error).__name__}: {error}"
            ) from None
        return losses if self._class_weight is None else losses * np.array(self._class_weight)[y]

    def _packable(self, targets: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        if self._targets == LABEL:
            return SoftmaxCrossEntropy()._packable(targets)
        return packable_rows(self, targets)

    def _unpacked(self, targets: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        return SoftmaxCrossEntropy()._unpacked(targets) if self._targets == LABEL else targets

    def _constants(self, outputs: int) -> npt.NDArray[np.float64] | None:
        self._check_outputs(outputs)
        return None if self._class_weight is None else np.array([outputs, *self._class_weight], np.float64)

    def _check_outputs(self, outputs: int) -> None:
        if self._class_weight is not None and outputs and len(self._class_weight) != outputs:
            raise ConfigError(
                f"class_weight has {len(self._class_weight)} numbers; "
                f"the model has {outputs} outputs, one for each class"
            )

    def _check_device(self, device: Device) -> None:
        if not device.by_parts:
            raise DeviceError(
                f"loss: {own_function.described(self._function)} runs on the CPU alone; a model with device='cpu' is "
                "required, or one of fgnumba's own losses"
            )


def check_calls(loss: Loss, outputs: npt.NDArray[np.float32], targets: npt.NDArray[Any]) -> None:
    """Raise ConfigError if a loss is made of a function that raises an exception for an example of a batch.

    In kernels an exception is NaN, of which this says where it came from.

    Parameters
    ----------
    loss : Loss
        Any loss.
    outputs : ndarray
        (B, N) float32, the model's outputs.
    targets : ndarray
        The targets.
    """
    own = loss.loss if isinstance(loss, ExampleWeights) else loss
    if isinstance(own, FunctionLoss):
        loss.value(outputs, targets)
