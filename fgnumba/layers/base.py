"""What every layer is: shapes, parameters, and a way to be bound to memory."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, ShapeError, did_you_mean, shown
from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.layout.images import NO_BORDER, Border, Images
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.rules.activations.rules import RULES
from fgnumba.kernels.rules.philox import ORTHOGONAL
from fgnumba.layers.parameters import Parameter
from fgnumba.validation import several, store, whole_number

MAX_PIXELS = 1 << 20
"""Of a window, a step or a border, along a side: products of two fit kernels' integers."""

MAX_DRAWN = 2 * ORTHOGONAL
"""Above the number of any direction: those of families come after the others."""

Shape = tuple[int, ...]
Initial = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Perturbation:
    """The directions of a dual pass.

    Parameters
    ----------
    kind : of ``kernels.rules.directions``.
    count : T, how many directions share the primal; 0 for the primal alone.
    stream : (1,) ``kernels.rules.philox.STREAM``, read when the pass runs.
    first : index of the first.
    explicit : for EXPLICIT, a packed array a parameter name, with a leading axis of length T.
    """

    kind: int
    count: int
    stream: npt.NDArray[Any]
    first: int = 0
    explicit: Mapping[str, npt.NDArray[np.float32]] | None = None

    def __post_init__(self) -> None:
        for name in ("kind", "count", "first"):
            store(self, **{name: whole_number(name, getattr(self, name), 0, MAX_DRAWN)})

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

    def __post_init__(self) -> None:
        store(
            self,
            batch=whole_number("batch", self.batch),
            images=whole_number("images", self.images, 0),
            index=whole_number("index", self.index, 0),
        )

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

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters by name."""
        return {}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters by name, in the shapes that :meth:`parameter_shapes` says."""
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


def checked_activation(kind: str, activation: str) -> str:
    """Return `activation`; ConfigError unless it is the name of one."""
    if not isinstance(activation, str) or activation not in RULES:
        raise ConfigError(
            f"{kind}: unknown activation {shown(activation)}{did_you_mean(shown(activation), RULES)}"
        )
    return str(activation)


def pair(name: str, value: Any, low: int = 1) -> tuple[int, int]:
    """Return a whole number, or two of them, as (of height, of width)."""
    both = several(value)
    both = (value, value) if both is None else both
    if len(both) != 2:
        raise ConfigError(
            f"{name} is {shown(value)}; a whole number, or one each of height and width, is required"
        )
    return whole_number(name, both[0], low, MAX_PIXELS), whole_number(name, both[1], low, MAX_PIXELS)


def sizes(shape: Shape) -> Shape:
    """Return a shape in Python's numbers: products of NumPy's may wrap."""
    return tuple(map(int, shape))


def checked_image(kind: str, shape: Shape) -> tuple[int, int, int]:
    """Return `shape` as (H, W, C); ShapeError where it is no image's."""
    if len(shape) != 3:
        raise ShapeError(f"{kind}: the input's shape is {shape}; an image (H, W, C) is required")
    height, width, channels = map(int, shape)
    return height, width, channels


def initial_values(shapes: Mapping[str, Shape], gain: float, generator: np.random.Generator) -> Initial:
    """Return a weight (..., N) from N(0, gain / K), K the product of the sizes before N, and zeros for all else."""
    weight = shapes["weight"]
    deviation = np.float32(math.sqrt(gain / math.prod(weight[:-1])))
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name != "weight"}
    return {"weight": generator.standard_normal(weight, np.float32) * deviation, **zeros}


def gain(activation: str) -> float:
    """Return g of initial weights N(0, g / K): 2 before rectifiers, 1 elsewhere.

    Source: K. He et al., arXiv 1502.01852.
    """
    return 1.0 if activation in ("identity", "tanh", "sigmoid") else 2.0
