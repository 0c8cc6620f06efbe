"""A model: layers in a row, and the parameters that they compute with."""

import math
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba import device as devices
from fgnumba.errors import ConfigError, DtypeError, ShapeError
from fgnumba.kernels.directions import EXPLICIT, NONE
from fgnumba.kernels.memory import aligned
from fgnumba.kernels.philox import MAX_COLUMNS, MAX_PARAMETERS, MAX_SEED, STREAM
from fgnumba.layers import Layer, Perturbation, Shape
from fgnumba.losses import Loss
from fgnumba.parameters import Parameter, checked
from fgnumba.plan import Plan
from fgnumba.validation import whole_number

FORWARD_BATCH = 256
"""Examples that a forward pass without a loss takes at a time: its buffers stay small whatever the batch."""

_PLANS_KEPT = 8


class Sequential:
    """Layers, each fed by the one before.

    Parameters
    ----------
    layers : at least one that computes something.
    input_shape : of one example: (K,), or (H, W, C) for images. A whole number K stands for (K,).
    seed : of the initial parameters; the same on every machine.
    device : ``auto``, ``cpu``.

    Raises
    ------
    ShapeError
        A layer does not accept what it is fed.
    ConfigError
        There is no layer, or one is not a layer; the seed is impossible.
    DeviceError
        The device is unknown or not there.
    """

    def __init__(
        self, layers: Sequence[Layer], input_shape: Shape | int, seed: int = 0, device: str = "auto"
    ) -> None:
        self.device = devices.resolve(device)
        self.layers = tuple(layers)
        for index, layer in enumerate(self.layers):
            if not isinstance(layer, Layer):
                raise ConfigError(f"layers[{index}] is {layer!r}; a layer is required, for example Dense(10)")
        if all(layer.is_view for layer in self.layers):
            raise ConfigError("layers: at least one that computes is required, for example Dense(10)")
        self.input_shape = _shape(input_shape)
        self.seed = whole_number("seed", seed, 0, MAX_SEED)
        self.shapes = [self.input_shape]
        for index, layer in enumerate(self.layers):
            try:
                self.shapes.append(layer.output_shape(self.shapes[-1]))
            except ShapeError as error:
                raise ShapeError(f"layers[{index}]: {error}") from None
        self.output_shape = self.shapes[-1]
        self.outputs = math.prod(self.output_shape)
        self._parameters: dict[str, Parameter] = {}
        self._create_parameters()
        self._plans: OrderedDict[Any, Plan] = OrderedDict()
        self._lock = threading.RLock()

    def _create_parameters(self) -> None:
        for index, (layer, shape) in enumerate(zip(self.layers, self.shapes, strict=False)):
            generator = np.random.Generator(np.random.Philox(key=[self.seed, index]))
            for name, values in layer.initial_parameters(shape, generator).items():
                full = f"{index}.{name}"
                if values.shape[-1] > MAX_COLUMNS:
                    raise ShapeError(
                        f"{full}: {values.shape[-1]} columns; at most {MAX_COLUMNS} are possible"
                    )
                self._parameters[full] = Parameter.create(full, len(self._parameters), values)
        if len(self._parameters) > MAX_PARAMETERS:
            raise ShapeError(
                f"{len(self._parameters)} parameter arrays; at most {MAX_PARAMETERS} are possible"
            )

    @property
    def parameter_count(self) -> int:
        """P, the number of scalar parameters."""
        return sum(math.prod(parameter.shape) for parameter in self._parameters.values())

    @property
    def packed_parameters(self) -> Mapping[str, Parameter]:
        """The parameters as the kernels hold them, by name."""
        return self._parameters

    def layer_parameters(self, index: int) -> dict[str, Parameter]:
        """Return the parameters of layer `index` by the layer's own names."""
        prefix = f"{index}."
        return {
            name.removeprefix(prefix): parameter
            for name, parameter in self._parameters.items()
            if name.startswith(prefix)
        }

    def parameters(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return copies of all parameters, ``{"<layer index>.weight": (K, N) float32, ...}``."""
        with self._lock:
            return {name: parameter.array() for name, parameter in self._parameters.items()}

    def load_parameters(self, parameters: Mapping[str, npt.ArrayLike]) -> None:
        """Take a mapping shaped like :meth:`parameters`; on an error nothing is changed.

        Raises
        ------
        ShapeError
            A name is missing or unknown, or a shape differs.
        DtypeError
            An array does not hold real numbers.
        """
        arrays = checked(self._parameters, parameters, "parameters")
        with self._lock:
            for name, parameter in self._parameters.items():
                parameter.assign(arrays[name])

    def __call__(self, x: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Return the outputs (B, N) float32 of `x` (B, *input_shape); any B >= 1.

        Raises
        ------
        ShapeError, DtypeError
        """
        inputs = self.checked_input(x)
        outputs = np.empty((len(inputs), self.outputs), np.float32)
        with self._lock:
            for start in range(0, len(inputs), FORWARD_BATCH):
                part = inputs[start : start + FORWARD_BATCH]
                plan = self.plan(len(part))
                plan.run(part)
                outputs[start : start + FORWARD_BATCH] = plan.output[0, :, : outputs.shape[1]]
        return outputs.reshape(len(inputs), *self.output_shape)

    def checked_input(self, x: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return `x` as an array of real numbers of shape (B, *input_shape)."""
        array = np.asarray(x)
        if array.shape[1:] != self.input_shape or array.ndim == 0 or len(array) == 0:
            required = ", ".join(("B", *map(str, self.input_shape)))
            raise ShapeError(f"x has shape {array.shape}; ({required}) with B >= 1 is required")
        if array.dtype.kind not in "fiub":
            raise DtypeError(f"x has dtype {array.dtype}; real numbers are required")
        return array

    def plan(self, batch: int, kind: int = NONE, count: int = 0, loss: Loss | None = None) -> Plan:
        """Return the plan for these arguments, from the few that are kept; the caller holds :attr:`lock`."""
        key = (batch, kind, count, type(loss))
        if key not in self._plans:
            explicit = None
            if kind == EXPLICIT:
                explicit = {name: aligned((count, *p.packed.shape)) for name, p in self._parameters.items()}
            perturbation = Perturbation(kind, count, stream=np.zeros(1, STREAM), explicit=explicit)
            self._plans[key] = Plan(self, batch, perturbation, loss)
        self._plans.move_to_end(key)
        if len(self._plans) > _PLANS_KEPT:
            self._plans.popitem(last=False)
        return self._plans[key]

    @property
    def lock(self) -> "threading.RLock":
        """Held while a plan runs: plans of one model share its parameters."""
        return self._lock

    def __getstate__(self) -> dict[str, Any]:
        return {
            "layers": self.layers,
            "input_shape": self.input_shape,
            "seed": self.seed,
            "device": self.device,
            "parameters": self.parameters(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Plans hold addresses: a copy binds its own.
        parameters = state.pop("parameters")
        Sequential.__init__(self, **state)
        self.load_parameters(parameters)

    def __repr__(self) -> str:
        return f"Sequential({list(self.layers)}, input_shape={self.input_shape}, device={self.device!r})"


def _shape(shape: Shape | int) -> Shape:
    sizes = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sizes or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in sizes):
        raise ShapeError(f"input_shape is {shape!r}; whole numbers of at least 1 are required")
    return sizes
