"""The base class of losses: the value for a batch, and its directional derivatives along the outputs' tangents.

Sums over outputs and over the batch are float64 on every device, except the sums of a GPU's softmax, which are float32.
Results are float64 too, so a loss beyond float32, such as the square of an error of 10²⁵, is reported as it is. No
training step is taken with it, because a step requires that loss and derivatives are finite in float32. Outputs that
are not finite give what float64 arithmetic gives (see each loss), and never an exception or a warning.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, ShapeError
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.objects.fingerprint import fingerprint
from fgnumba.validation.arrays import as_array


class Loss(ABC):
    """The base class of losses, each of which is a mean over the batch.

    A plan that is bound for a loss is kept under the loss's :attr:`key`, which by default stands for its class and all
    of its attributes: a loss whose attribute is changed, even in place, counts as another loss. A class with attributes
    that its kernels do not use (a counter, a cache) should override :attr:`key`. Otherwise each change of them costs a
    new plan, and a run cannot be resumed.
    """

    _slotted: ClassVar[bool] = False

    @staticmethod
    def from_function(
        function: Callable[..., Any],
        targets: str | None = None,
        class_weight: Sequence[float] | npt.NDArray[Any] | None = None,
    ) -> "Loss":
        """Return the loss that is the mean of a function f(z, y) over the examples of a batch.

            f = (1/B) Σ_i c_i f(z_i, y_i),  d = (1/B) Σ_i c_i ∂f(z_i, y_i)/∂z_i · dz_i

        Numba compiles f, and :func:`fgnumba.differentiable` derives the function that computes value and tangent; the
        partial derivatives that feedback needs are N tangents. f is called for one example at a time, on all threads.

        Parameters
        ----------
        function : callable
            A Python function f(z, y), or one that ``numba.njit`` has decorated, that returns a number. z (N,) holds the
            example's N outputs. z, and y where it is no label, are float64 copies, so that the loss is computed in
            float64, and f may write to them. The loss is NaN, and a step refuses it, where f raises an exception or
            an output is not finite.
        targets : str, optional
            What y is. ``"label"``: a whole number from 0 to N - 1, the class; predictions are the largest outputs, and
            models are judged by accuracy. ``"array"``: (N,) real numbers. ``"number"``: one real number, whatever N is,
            which the first output predicts. Models of both are judged by R². None (the default): the first of array,
            number and label for which Numba can compile f; a function that writes z[y] takes labels.
        class_weight : sequence of float or ndarray, optional
            A positive number for each of the N classes: c_i is that of the label y_i. None (the default): all are 1.

        Returns
        -------
        Loss
            The loss, for models on the CPU.

        Raises
        ------
        ConfigError
            f is no such function, Numba cannot compile it, or an argument is not of its kind.

        Examples
        --------
        >>> import numpy as np
        >>> import fgnumba as fg
        >>> def hinge(z, y):
        ...     worst = 0.0
        ...     for n in range(len(z)):
        ...         if n != y:
        ...             worst = max(worst, 1 + z[n] - z[y])
        ...     return worst
        >>> loss = fg.Loss.from_function(hinge)
        >>> loss.value(np.array([[2.0, 0.5, 1.5]], np.float32), np.array([0]))
        0.5
        """
        # The module needs this base class, so that an import statement would close a ring.
        module = import_module("fgnumba.layers.losses.function")
        made: Loss = module.FunctionLoss(function, targets, class_weight)
        return made

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

    def bind_curvature(
        self,
        device: Device,
        z: npt.NDArray[np.float32],
        targets: npt.NDArray[Any],
        curvature: npt.NDArray[np.float32],
    ) -> Operation:
        """Return the operation that writes the second derivative of each example's own loss f_i in its outputs.

            ∂²f_i/∂z_i² = diag(h_i) - h_i h_iᵀ / Σ_n h_in        if outputs are :attr:`coupled`, else diag(h_i)

        A loss of a user's own has to override it to be used by estimators that need it.

        Parameters
        ----------
        device : Device
            The device whose kernels are bound.
        z : device array, (B, ld) float32
            The model's outputs.
        targets : device array
            The targets, in the shape and dtype of :meth:`target_layout`.
        curvature : device array, (B, N) float32
            Written: h, 0 or above.

        Raises
        ------
        ConfigError
            If the second derivative is not known: this base class raises it.
        """
        raise ConfigError(
            f"{type(self).__name__}: its second derivative in the outputs is not known; "
            "a built-in loss, or one that overrides bind_curvature, is required"
        )

    @property
    def coupled(self) -> bool:
        """Whether the second derivative has a term of rank 1, see :meth:`bind_curvature`. By default False."""
        return False

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

    @property
    def has_gauss_newton(self) -> bool:
        """Whether :meth:`gauss_newton` knows the loss's second derivatives; this base class knows none."""
        return False

    def gauss_newton(
        self, outputs: npt.NDArray[Any], tangents: npt.NDArray[Any], targets: npt.NDArray[Any]
    ) -> float:
        """Return the Gauss-Newton form along a direction v of the parameters, computed in float64.

            vᵀ G v = (1/B) Σ_i r_iᵀ H_i r_i,   r_i = ∂z_i/∂θ v,   H_i = ∂²f_i/∂z_i²

        G is the generalised Gauss-Newton matrix of the loss: its Hessian, without the curvature of the model's outputs
        in θ. Every built-in loss is convex in the outputs, so that vᵀGv is never negative.
        Source: N. N. Schraudolph, Neural Computation 14 (2002), section 3.

        Parameters
        ----------
        outputs : ndarray, (B, N)
            The model's outputs z.
        tangents : ndarray, (B, N)
            The tangents r of the outputs along v.
        targets : ndarray
            The targets, in the shape and kind of dtype of :meth:`target_layout`.

        Raises
        ------
        ConfigError
            If the loss's second derivatives are not known.
        ShapeError, DtypeError, DatasetError
            If the shape, the dtype or a value of the outputs or targets is impossible.
        """
        raise ConfigError(
            f"{type(self).__name__} has no second derivatives in closed form; "
            "SoftmaxCrossEntropy, BinaryCrossEntropy, MeanSquaredError or Huber is required"
        )

    def with_example_weights(self) -> "WeightedLoss":
        """Return this loss with a weight w_i for each example, (1/B) Σ_i w_i f_i.

        It is divided by the number of examples, not by the sum of their weights, so that the gradient of a mini-batch
        is an unbiased estimate of that of the whole data. The built-in losses return an :class:`ExampleWeights`.

        Raises
        ------
        ConfigError
            If the loss takes no weights: this base class raises it.
        """
        raise ConfigError(
            f"{type(self).__name__} takes no weights of examples; "
            "a built-in loss, or one that overrides with_example_weights, is required"
        )

    def laid_out(self, targets: Any, outputs: int) -> Any:
        """Return checked targets in the shape of :meth:`target_layout`: those (B,) of one output become (B, 1).

        Parameters
        ----------
        targets : array
            Targets that have passed :meth:`check_targets`; they may lie on a GPU.
        outputs : int
            The number N of outputs of the model.
        """
        shape = self.target_layout(len(targets), outputs)[0]
        return targets.reshape(shape) if targets.ndim == 1 and shape == (len(targets), 1) else targets

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
        dtype = self.target_layout(batch, width)[1]
        return z.reshape(batch, width).astype(np.float64), self.laid_out(y, width).astype(dtype, copy=False)


class WeightedLoss(Loss):
    """The base class of losses whose examples have weights; a loss's ``with_example_weights`` returns one.

        f = (1/B) Σ_i w_i f_i

    Its targets are packed together with the weights in one array, whose shape and dtype are those of
    :meth:`target_layout`.
    """

    def with_example_weights(self) -> "WeightedLoss":
        """Return the loss itself, which has weights."""
        return self

    @abstractmethod
    def pack(self, targets: npt.ArrayLike, weights: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return targets and weights as one array, which the loss takes as targets.

        Parameters
        ----------
        targets : array_like
            Targets of n examples, as the loss without weights takes them.
        weights : array_like, (n,)
            The weights: finite, 0 or above, and not all 0.

        Raises
        ------
        ShapeError, DtypeError, DatasetError
            If targets or weights are not of this kind.
        """

    @abstractmethod
    def unpack(self, packed: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return targets and weights, each as an array: the inverse of :meth:`pack`.

        Parameters
        ----------
        packed : array_like
            Weights and targets, as :meth:`pack` returns them.

        Raises
        ------
        ShapeError, DatasetError
            If the array is not of this kind.
        """
