"""Convolutional layers."""

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
    """A two-dimensional convolution of images with the channels last.

        y  = a(x * W + b)
        dy = a'(x * W + b) ⊙ (dx * W + x * V + c)

    As is usual in this field, x * W is a cross-correlation: the kernel is not flipped. V and c are the tangents of W
    and b. x is (H, W, C), and W is (KH, KW, C / groups, N), drawn from N(0, g / K) with K = KH KW C / groups and the g
    of :class:`Dense`. b starts at 0.

    Parameters
    ----------
    filters : int
        The number N of channels of the output, at least 1.
    kernel_size : int or (int, int), optional
        The height and the width of the kernel in pixels, or one number for both. By default 3.
    stride : int or (int, int), optional
        The distance in pixels from one position of the kernel to the next, along height and width. By default 1.
    padding : str, int, (int, int) or ((int, int), (int, int)), optional
        The zeros around the image. ``valid`` (the default) adds none. ``same`` adds so many that the output has
        ceil(H / stride) x ceil(W / stride) pixels; if that is an odd number, one more at the bottom or right. A number,
        (height, width) or ((top, bottom), (left, right)) adds that many.
    dilation : int or (int, int), optional
        The distance in pixels between neighbouring elements of the kernel, along height and width. By default 1.
    groups : int, optional
        The number of groups into which the channels of input and output are cut; each group is convolved by itself.
        C groups make a depthwise convolution. By default 1.
    activation : str, optional
        The activation a, as in :class:`Dense`. By default ``identity``.
    bias : bool, optional
        Whether there is a bias b (N,). By default True.

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is no image, is smaller than the kernel, or its channels cannot be cut into the groups.

    Examples
    --------
    >>> import fgnumba as fg
    >>> fg.Conv2d(64, kernel_size=3, padding="same", activation="relu").output_shape((28, 28, 1))
    (28, 28, 64)
    """

    filters: int
    kernel_size: int | tuple[int, int] = 3
    stride: int | tuple[int, int] = 1
    padding: Padding = "valid"
    dilation: int | tuple[int, int] = 1
    groups: int = 1
    activation: str | None = "identity"
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
        """Return how the kernel moves over an image of the shape (H, W, C)."""
        shape = checked_image("Conv2d", shape)
        size, stride, dilation = _pairs(self.kernel_size, self.stride, self.dilation)
        padding = resolved_padding(self.padding, shape, _extent(size, dilation), stride)
        return Geometry(size, stride, dilation, padding, self.groups)

    def border(self, inputs: Sequence[Shape]) -> Border:
        """Return the border that is read: the padding, and the pixels that fill the last register tiles."""
        shape = checked_image("Conv2d", inputs[0])
        return conv2d.needed_border(self.geometry(shape), shape, self.filters)

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, (H', W', N)."""
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
        """Return the shapes of ``weight`` (KH, KW, C / groups, N) and, with a bias, of ``bias`` (N,)."""
        (size,) = _pairs(self.kernel_size)
        weight = (*size, int(inputs[0][2]) // self.groups, self.filters)
        return {"weight": weight, **({"bias": (self.filters,)} if self.bias else {})}

    def initial_parameters(self, inputs: Sequence[Shape], generator: np.random.Generator) -> Initial:
        """Return the initial parameters: a weight drawn from N(0, g / K), and a bias of zeros."""
        return initial_values(self.parameter_shapes(inputs), gain(str(self.activation)), generator)

    def column_groups(self, inputs: Sequence[Shape]) -> int:
        """Return the number of groups, but 1 for a depthwise convolution, whose kernels read vectors of channels."""
        return 1 if self.reads_beyond(inputs) else self.groups

    def reads_beyond(self, inputs: Sequence[Shape]) -> bool:
        """Return whether every channel is a group; then vectors of channels are read, the last past the image's end."""
        return is_channelwise(self.geometry(inputs[0]), inputs[0][2], self.filters)

    def multiply_adds(self, inputs: Sequence[Shape]) -> int:
        """Return the number of multiply-adds for one example, H' W' K N with K = KH KW C / groups."""
        height, width, filters = self.output_shape(*inputs)
        (size,) = _pairs(self.kernel_size)
        return height * width * filters * math.prod(size) * int(inputs[0][2]) // self.groups

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`: convolution, bias and activation in one."""
        return list(
            site.device.kernels.conv2d.bind(
                site.isa,
                site.threads,
                **site.part,
                x=site.inputs[0],
                y=site.output,
                geometry=self.geometry(site.inputs[0].shape),
                weights=weights_at(site),
                activation_name=str(self.activation),
            )
        )


def _pairs(*values: int | tuple[int, int]) -> list[tuple[int, int]]:
    return [(value, value) if isinstance(value, int) else value for value in values]


def _extent(size: tuple[int, int], dilation: tuple[int, int]) -> tuple[int, int]:
    return (size[0] - 1) * dilation[0] + 1, (size[1] - 1) * dilation[1] + 1


def checked_padding(kind: str, padding: Padding) -> str | Border:
    """Return `padding` as ``valid``, ``same`` or a border; raise ConfigError if it is none of these."""
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
    """Return how many zeros stand around an image (H, W, C) for a window of `extent` pixels."""
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
    """Return how many windows of `extent` pixels fit into the padded image, along height and width.

    Raises
    ------
    ShapeError
        If a window is larger than the padded image.
    """
    height, width = shape[0] + padding.top + padding.bottom, shape[1] + padding.left + padding.right
    if extent[0] > height or extent[1] > width:
        padded = "" if padding == NO_BORDER else f", padded to {height} x {width}"
        raise ShapeError(
            f"{kind}: the input's shape is {shape}{padded}; its {what} covers {extent[0]} x {extent[1]} pixels"
        )
    return (height - extent[0]) // stride[0] + 1, (width - extent[1]) // stride[1] + 1
