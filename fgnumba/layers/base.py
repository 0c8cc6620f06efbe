"""What every layer is: shapes, parameters, and a way to be bound to memory."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, ShapeError, did_you_mean
from fgnumba.kernels.activations.rules import RULES
from fgnumba.kernels.device import Device
from fgnumba.kernels.images import NO_BORDER, Border, Images
from fgnumba.kernels.program import Operation
from fgnumba.parameters import Parameter
from fgnumba.validation import whole_number

Shape = tuple[int, ...]
Initial = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Perturbation:
    """The directions of a dual pass.

    Parameters
    ----------
    kind : of ``kernels.directions``.
    count : T, how many directions share the primal; 0 for the primal alone.
    stream : (1,) ``kernels.philox.STREAM``, read when the pass runs.
    first : index of the first.
    explicit : for EXPLICIT, a packed array a parameter name, with a leading axis of length T.
    """

    kind: int
    count: int
    stream: npt.NDArray[Any]
    first: int = 0
    explicit: Mapping[str, npt.NDArray[np.float32]] | None = None

    def of(self, parameter: Parameter | None) -> npt.NDArray[np.float32] | None:
        """Return the explicit tangents of a parameter, None where directions are drawn."""
        return self.explicit[parameter.name] if self.explicit is not None and parameter else None


@dataclass(frozen=True)
class Site:
    """Where a layer is bound: its input and output buffers, its parameters, the directions.

    Parameters
    ----------
    device : whose kernels are bound.
    batch, images : B, and how many examples are a part of the batch.
    index : number of the layer in the model.
    inputs, output : examples as the kernels see them.
    parameters : by the layer's own names.
    """

    device: Device
    batch: int
    images: int
    index: int
    inputs: tuple[Images, ...]
    output: Images
    parameters: Mapping[str, Parameter]
    perturbation: Perturbation

    @property
    def isa(self) -> Any:
        """The device's instructions."""
        return self.device.isa

    @property
    def threads(self) -> int:
        """What the device shares work among."""
        return self.device.threads

    @property
    def part(self) -> dict[str, Any]:
        """What operations on images take to walk over a part of the batch."""
        return {"batch": self.batch, "images_a_part": self.images}


class Layer(ABC):
    """One layer of a model: a value, which holds no parameters.

    ``inputs`` is how many inputs it takes, least and most; `whole_batch` says that it is bound to the whole batch at
    once, not part by part.
    """

    inputs: ClassVar[tuple[int, int | None]] = (1, 1)
    whole_batch: ClassVar[bool] = False

    @abstractmethod
    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of one example's output; ShapeError where an input does not fit."""

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters by name."""
        return {}

    def column_groups(self, inputs: Sequence[Shape]) -> int:
        """Return into how many groups the parameters' columns are packed."""
        return 1

    def is_view(self, training: bool) -> bool:
        """Whether the output is the input, perhaps under another shape: nothing is computed."""
        return False

    def border(self, inputs: Sequence[Shape]) -> Border:
        """Return the pixels around its input that the layer reads as zeros."""
        return NO_BORDER

    def reads_beyond(self, inputs: Sequence[Shape]) -> bool:
        """Return whether the layer reads memory past the end of its input, without using it."""
        return False

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return the multiply-adds of the layer's product for one example."""
        return 0

    def with_activation(self, activation: str) -> "Layer | None":
        """Return the layer with `activation` applied to its output, or None where that cannot be fused."""
        if getattr(self, "activation", None) != "identity":
            return None
        return replace(self, activation=activation)  # type: ignore[type-var]

    @abstractmethod
    def bind(self, site: Site) -> list[Operation]:
        """Return the operations that compute the layer at `site`."""

    @property
    def kind(self) -> str:
        """The layer's name, for messages and plans."""
        return type(self).__name__


def checked_activation(kind: str, activation: str) -> None:
    """Raise ConfigError unless `activation` is the name of one."""
    if not isinstance(activation, str) or activation not in RULES:
        raise ConfigError(f"{kind}: unknown activation {activation!r}{did_you_mean(str(activation), RULES)}")


def checked_flag(name: str, value: Any) -> None:
    """Raise ConfigError unless `value` is true or false."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name} is {value!r}; true or false is required")


def pair(name: str, value: Any, low: int = 1) -> tuple[int, int]:
    """Return a whole number, or two of them, as (of height, of width)."""
    both = (value, value) if not isinstance(value, (tuple, list)) else tuple(value)
    if len(both) != 2:
        raise ConfigError(
            f"{name} is {value!r}; a whole number, or one each of height and width, is required"
        )
    return whole_number(name, both[0], low), whole_number(name, both[1], low)


def checked_image(kind: str, shape: Shape) -> tuple[int, int, int]:
    """Return `shape` as (H, W, C); ShapeError where it is no image's."""
    if len(shape) != 3:
        raise ShapeError(f"{kind}: the input's shape is {shape}; an image (H, W, C) is required")
    return shape


def gain(activation: str) -> float:
    """Return g of initial weights N(0, g / K): 2 before rectifiers, 1 elsewhere.

    Source: K. He et al., arXiv 1502.01852.
    """
    return 1.0 if activation in ("identity", "tanh", "sigmoid") else 2.0
