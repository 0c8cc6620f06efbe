"""Convolutions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fgnumba.errors import ConfigError, ShapeError, shown
from fgnumba.kernels.layout.geometry import Geometry, is_channelwise
from fgnumba.kernels.layout.images import NO_BORDER, Border
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.ops.conv2d import cpu as conv2d
from fgnumba.kernels.rules.philox import MAX_COLUMNS
from fgnumba.layers.base import (
    Initial,
    Layer,
    Shape,
    Site,
    checked_activation,
    checked_image,
    gain,
    initial_values,
    pair,
)
from fgnumba.layers.dense import weights_at
from fgnumba.validation import flag, several, store, whole_number

Padding = str | int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]] | Border


@dataclass(frozen=True)
class Conv2d(Layer):
    """Two-dimensional convolution, channels last (a cross-correlation, as everywhere in this field).

        y  = a(x * W + b)
        dy = a'(x * W + b) ⊙ (dx * W + x * V + c)

    Parameters
    ----------
    filters : N, the channels of the output; at least 1.
    kernel_size, stride, dilation : a whole number, or (height, width).
    padding : ``valid``: none. ``same``: zeros such that the output is ceil(H / stride) x ceil(W / stride), what is odd
        at the bottom and right. A number, (height, width) or ((top, bottom), (left, right)): so many zeros.
    groups : channels in and out are cut into so many groups, each convolved by itself; C for a depthwise
        convolution.
    activation : as in :class:`Dense`.
    bias : with b (N,).

    x is (H, W, C), W is (KH, KW, C / groups, N), drawn as a dense layer's with K = KH KW C / groups; b starts at 0.

    Raises
    ------
    ConfigError
        An argument is not possible.
    ShapeError
        The input is no image, is smaller than the kernel, or its channels cannot be cut into the groups.
    """

    filters: int
    kernel_size: int | tuple[int, int] = 3
    stride: int | tuple[int, int] = 1
    padding: Padding = "valid"
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    activation: str = "identity"
    bias: bool = True

    def __post_init__(self) -> None:
        store(
            self,
            filters=whole_number("Conv2d: filters", self.filters, 1, MAX_COLUMNS),
            kernel_size=pair("Conv2d: kernel_size", self.kernel_size),
            stride=pair("Conv2d: stride", self.stride),
            padding=checked_padding("Conv2d", self.padding),
            dilation=pair("Conv2d: dilation", self.dilation),
            groups=whole_number("Conv2d: groups", self.groups),
            activation=checked_activation("Conv2d", self.activation),
            bias=flag("Conv2d: bias", self.bias),
        )
        if self.filters % self.groups:
            raise ConfigError(f"Conv2d: {self.filters} filters cannot be cut into {self.groups} equal groups")

    def geometry(self, shape: Shape) -> Geometry:
        """Return how the kernel moves over an image (H, W, C)."""
        shape = checked_image("Conv2d", shape)
        size, stride, dilation = _pairs(self.kernel_size, self.stride, self.dilation)
        padding = resolved_padding(self.padding, shape, _extent(size, dilation), stride)
        return Geometry(size, stride, dilation, padding, self.groups)

    def border(self, inputs: Sequence[Shape]) -> Border:
        """Return the pixels around its input that are read: the padding, and what fills up the last tiles."""
        shape = checked_image("Conv2d", inputs[0])
        return conv2d.needed_border(self.geometry(shape), shape, self.filters)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (H', W', N)."""
        shape = checked_image("Conv2d", inputs[0])
        if shape[2] % self.groups:
            raise ShapeError(
                f"Conv2d: the input's shape is {shape}; its channels cannot be cut into "
                f"{self.groups} equal groups"
            )
        size, stride, dilation = _pairs(self.kernel_size, self.stride, self.dilation)
        extent = _extent(size, dilation)
        return (
            *windows_along("Conv2d", "kernel", shape, extent, stride, self.geometry(shape).padding),
            self.filters,
        )

    def parameter_shapes(self, inputs: Sequence[Shape]) -> dict[str, Shape]:
        """Return ``weight`` (KH, KW, C / groups, N) and, with a bias, ``bias`` (N,)."""
        (size,) = _pairs(self.kernel_size)
        weight = (*size, int(inputs[0][2]) // self.groups, self.filters)
        return {"weight": weight, **({"bias": (self.filters,)} if self.bias else {})}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return a weight drawn from N(0, g / K), and a bias of zeros."""
        return initial_values(self.parameter_shapes(inputs), gain(self.activation), generator)

    def column_groups(self, inputs: Sequence[Shape]) -> int:
        """Return the groups, but 1 where every channel is one."""
        return 1 if self.reads_beyond(inputs) else self.groups

    def reads_beyond(self, inputs: Sequence[Shape]) -> bool:
        """Return whether every channel is a group: then vectors of channels are read."""
        return is_channelwise(self.geometry(inputs[0]), inputs[0][2], self.filters)

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return H' W' K N."""
        height, width, filters = self.output_shape(*inputs)
        (size,) = _pairs(self.kernel_size)
        return height * width * filters * math.prod(size) * int(inputs[0][2]) // self.groups

    def bind(self, site: Site) -> list[Operation]:
        """Return the fused convolution."""
        return list(
            site.device.kernels.conv2d.bind(
                site.isa,
                site.threads,
                **site.part,
                x=site.inputs[0],
                y=site.output,
                geometry=self.geometry(site.inputs[0].shape),
                weights=weights_at(site),
                activation_name=self.activation,
            )
        )


def _pairs(*values: int | tuple[int, int]) -> list[tuple[int, int]]:
    return [(value, value) if isinstance(value, int) else value for value in values]


def _extent(size: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    return (size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1


def checked_padding(kind: str, padding: Padding) -> str | Border:
    """Return `padding` as ``valid``, ``same`` or a border; ConfigError where it is none."""
    if isinstance(padding, str):
        if padding in ("valid", "same"):
            return str(padding)
    else:
        name, sides = f"{kind}: padding", several(padding)
        try:
            if isinstance(padding, Border):
                sides = (padding[:2], padding[2:])
            down, across = sides if sides is not None and len(sides) == 2 else (padding, padding)
            return Border(*pair(name, down, low=0), *pair(name, across, low=0))
        except ConfigError:
            pass
    raise ConfigError(
        f"{kind}: padding is {shown(padding)}; 'valid', 'same', a whole number, (height, width) or "
        "((top, bottom), (left, right)) is required"
    )


def resolved_padding(
    padding: Padding, shape: Shape, extent: tuple[int, int], stride: tuple[int, int]
) -> Border:
    """Return the zeros around an image (H, W, C) for a window of `extent` pixels."""
    if isinstance(padding, Border):
        return padding
    if padding == "valid":
        return NO_BORDER
    sides: list[int] = []
    for n, window, step in zip(shape[:2], extent, stride, strict=True):
        total = max((-(-n // step) - 1) * step + window - n, 0)
        sides += [total // 2, total - total // 2]
    return Border(*sides)


def windows_along(
    kind: str, what: str, shape: Shape, extent: tuple[int, int], stride: tuple[int, int], padding: Border
) -> tuple[int, int]:
    """Return how many windows of `extent` fit into the padded image, along height and width."""
    height, width = shape[0] + padding.top + padding.bottom, shape[1] + padding.left + padding.right
    if extent[0] > height or extent[1] > width:
        padded = "" if padding == NO_BORDER else f", padded to {height} x {width}"
        raise ShapeError(
            f"{kind}: the input's shape is {shape}{padded}; its {what} covers {extent[0]} x {extent[1]} pixels"
        )
    return (height - extent[0]) // stride[0] + 1, (width - extent[1]) // stride[1] + 1
