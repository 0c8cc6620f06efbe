"""The base class of layers, and what a layer is given when its kernels are bound to memory."""

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
from fgnumba.kernels.rules.directions import NONE
from fgnumba.kernels.rules.philox import ORTHOGONAL
from fgnumba.layers.own_activation import OwnActivation
from fgnumba.layers.parameters import Parameter
from fgnumba.layers.workspace import Workspace
from fgnumba.validation import several, store, whole_number

MAX_PIXELS = 1 << 20
"""The most pixels of a window, a stride or a border along one side, so that the product of two fits into int64."""

MAX_DRAWN = 2 * ORTHOGONAL
"""A bound above the number of every direction; the numbers of orthogonal families come after all others."""

Shape = tuple[int, ...]
Initial = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True)
class Perturbation:
    """The directions of a dual pass.

    Parameters
    ----------
    kind : int
        The kind of the directions, a constant of ``kernels.rules.directions``.
    count : int
        The number of directions T, which share one primal pass; 0 for the primal alone.
    stream : device array, (1,) of dtype ``kernels.rules.philox.STREAM``
        The seed and the step from which the directions are drawn. It is read each time the pass runs.
    first : int
        The number of the first direction. By default 0.
    explicit : mapping of str to device array, optional
        If `kind` is EXPLICIT, the directions as arrays: for each parameter name a packed array with a leading axis of
        length T. By default the directions are drawn.

    Raises
    ------
    ConfigError
        If a number is out of its range.
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
        """Return the explicit tangents of a parameter, or None if the directions are drawn."""
        return self.explicit[parameter.name] if self.explicit is not None and parameter else None


@dataclass(frozen=True)
class Site:
    """The place in a model at which a layer is bound: its device, its buffers, its parameters and the directions.

    Parameters
    ----------
    device : Device
        The device whose kernels are bound.
    batch : int
        The number of examples B.
    images : int
        The number of examples that a thread takes at a time (a part of the batch), 0 for the whole batch at once.
    index : int
        The number of the layer in the model.
    inputs : tuple of Images
        The layer's inputs, as the kernels take them.
    output : Images
        The layer's output, as the kernels take it.
    parameters : mapping of str to Parameter
        The layer's parameters, by its own names.
    perturbation : Perturbation
        The directions.
    shapes : tuple of tuple of int, optional
        The shape of one example of each input, which the kernels take as an image. By default that of the image.
    state : device array, (1 + T, B, S) or (1, B, S) float32, optional
        The state with which a recurrent layer begins and into which it writes its last one, with the tangents of both
        or without. By default None: the layer begins at zeros, and its last state is lost.
    workspace : Workspace, optional
        Memory that other layers use before and after this one. By default None: what the layer asks for is its own.
    """

    device: Device
    batch: int
    images: int
    index: int
    inputs: tuple[Images, ...]
    output: Images
    parameters: Mapping[str, Parameter]
    perturbation: Perturbation
    shapes: tuple[Shape, ...] = ()
    state: npt.NDArray[np.float32] | None = None
    workspace: Workspace | None = None

    def __post_init__(self) -> None:
        store(
            self,
            batch=whole_number("batch", self.batch),
            images=whole_number("images", self.images, 0),
            index=whole_number("index", self.index, 0),
        )

    @property
    def isa(self) -> Any:
        """The instruction set for which the device's kernels are compiled."""
        return self.device.isa

    @property
    def threads(self) -> int:
        """The number of threads among which the device shares its work."""
        return self.device.threads

    def memory(self, name: str, shape: tuple[int, ...]) -> Any:
        """Return a float32 array for what an operation of the layer hands to the next; see ``Workspace.array``."""
        return self.device.zeros(shape) if self.workspace is None else self.workspace.array(name, shape)

    @property
    def part(self) -> dict[str, Any]:
        """The arguments by which operations on images take the batch part by part."""
        return {"batch": self.batch, "images_a_part": self.images}


class Element:
    """What a node of a model holds: a :class:`Layer`, or a ``Composite`` of several. Both have `inputs`."""

    inputs: ClassVar[tuple[int, int | None]] = (1, 1)

    @property
    def kind(self) -> str:
        """The name of the class, for messages and plans."""
        return type(self).__name__


class Layer(Element, ABC):
    """The base class of layers. A layer is an immutable value that describes a computation and holds no parameters.

    In the methods below, `inputs` are the shapes of one example of each input: [(784,)] for a dense layer on MNIST.

    Attributes
    ----------
    inputs : tuple of (int, int or None)
        The least and the greatest number of inputs that the layer takes; None stands for any number.
    whole_batch : bool
        Whether the layer is bound to the whole batch at once. If not, it is bound to one part after another.
    numbers_examples : bool
        Whether the kernel counts the examples of the batch from 0, as dropout does to draw each one's mask.
    mixes_positions : bool
        Whether an output at a position of a sequence depends on other positions in another way than by a carried state.
    counts_positions : bool
        Whether it depends on the number of the position, counted from 0 at the beginning of a sequence.
    still : int
        The kind of directions that the layer is bound with where its inputs have tangents and its parameters have none.
        EXPLICIT: it reads tangents of its parameters, which are zeros.
    ungrouped : tuple of str
        The names of the parameters whose columns are not packed in groups, although those of others are.
    """

    whole_batch: ClassVar[bool] = False
    numbers_examples: ClassVar[bool] = False
    mixes_positions: ClassVar[bool] = False
    counts_positions: ClassVar[bool] = False
    still: ClassVar[int] = NONE
    ungrouped: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of one example's output.

        Parameters
        ----------
        *inputs : tuple of int
            The shape of one example of each input.

        Raises
        ------
        ShapeError
            If the layer cannot take an input of that shape.
        """

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return the shapes of the parameters by name."""
        return {}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters by name, float32, in the shapes that :meth:`parameter_shapes` returns.

        Parameters
        ----------
        inputs : sequence of tuple of int
            The shape of one example of each input.
        generator : numpy.random.Generator
            The generator to draw from. Each layer of a model has its own, which depends on the model's seed.
        """
        return {}

    def column_groups(self, inputs: Sequence[Shape]) -> int:
        """Return the number of groups in which the columns of the parameters are packed."""
        return 1

    def is_view(self, training: bool) -> bool:
        """Return whether the output is the input itself, perhaps under another shape, so that nothing is computed."""
        return False

    def in_evaluation(self) -> "Layer":
        """Return the layer as it computes outside of training: the layer itself, unless a part of it drops elements."""
        return self

    def border(self, inputs: Sequence[Shape]) -> Border:
        """Return how many pixels around its input the layer reads, which must be zeros in memory."""
        return NO_BORDER

    def reads_beyond(self, inputs: Sequence[Shape]) -> bool:
        """Return whether the layer reads memory past the end of its input, although it does not use what it reads."""
        return False

    def state_width(self, inputs: Sequence[Shape]) -> int:
        """Return the number S of float32 of the state that an example has in memory; 0 if the layer has none."""
        return 0

    def symbols_read(self) -> int | None:
        """Return the number V of symbols 0, …, V - 1 that the layer takes as its input; None if it takes numbers."""
        return None

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return the number of multiply-adds of the layer's matrix product for one example."""
        return 0

    def with_activation(self, activation: str) -> "Layer | None":
        """Return the layer with `activation` fused to its output, or None if the layer cannot take it."""
        if getattr(self, "activation", None) != "identity":
            return None
        return replace(self, activation=activation)  # type: ignore[type-var]

    @property
    def fused_activation(self) -> str:
        """The activation that the layer applies to its output itself, ``identity`` if it applies none."""
        return getattr(self, "activation", "identity")

    @property
    def lone_activation(self) -> str:
        """The activation if it is all that the layer computes, else ``identity``."""
        return "identity"

    def without_activation(self) -> "Layer":
        """Return the layer without its activation: its output is what the activation would be applied to."""
        return replace(self, activation="identity")  # type: ignore[type-var]

    @abstractmethod
    def bind(self, site: Site) -> list[Operation]:
        """Return the operations that compute the layer at `site`."""


def checked_activation(kind: str, activation: str | None) -> str:
    """Return the name of an activation, identity for None; raise ConfigError if no activation has that name."""
    if activation is None:
        return "identity"
    if isinstance(activation, OwnActivation):
        return activation
    if callable(activation):
        raise ConfigError(f"{kind}: activation is {shown(activation)}; fg.activation(...) of it is required")
    if not isinstance(activation, str) or activation not in RULES:
        raise ConfigError(
            f"{kind}: unknown activation {shown(activation)}{did_you_mean(shown(activation), RULES)}"
        )
    return str(activation)


def pair(name: str, value: Any, low: int = 1) -> tuple[int, int]:
    """Return `value`, a whole number or a pair (height, width), as a pair of numbers of at least `low`, or raise."""
    both = several(value)
    both = (value, value) if both is None else both
    if len(both) != 2:
        raise ConfigError(
            f"{name} is {shown(value)}; a whole number, or one each of height and width, is required"
        )
    return whole_number(name, both[0], low, MAX_PIXELS), whole_number(name, both[1], low, MAX_PIXELS)


def sizes(shape: Shape) -> Shape:
    """Return a shape in Python's numbers, because products of NumPy's numbers may wrap."""
    return tuple(map(int, shape))


def checked_image(kind: str, shape: Shape) -> tuple[int, int, int]:
    """Return `shape` as (H, W, C); raise ShapeError if it is not the shape of an image."""
    if len(shape) != 3:
        raise ShapeError(f"{kind}: the input's shape is {shape}; an image (H, W, C) is required")
    height, width, channels = map(int, shape)
    return height, width, channels


def initial_values(shapes: Mapping[str, Shape], gain: float, generator: np.random.Generator) -> Initial:
    """Return a weight (..., N) drawn from N(0, `gain` / K), and zeros for all other parameters.

    K is the product of the sizes before N, the number of inputs of each output.
    """
    weight = shapes["weight"]
    deviation = np.float32(math.sqrt(gain / math.prod(weight[:-1])))
    zeros = {name: np.zeros(shape, np.float32) for name, shape in shapes.items() if name != "weight"}
    return {"weight": generator.standard_normal(weight, np.float32) * deviation, **zeros}


def gain(activation: str) -> float:
    """Return the g of initial weights N(0, g / K): 2 before a rectifier (ReLU and its kin), else 1.

    Source: K. He et al., arXiv 1502.01852.
    """
    return 1.0 if activation in ("identity", "tanh", "sigmoid") else 2.0
