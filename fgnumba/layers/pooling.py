"""Pooling layers."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

from fgnumba.errors import ConfigError, shown
from fgnumba.kernels.layout.images import NO_BORDER, Border
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.layers.base import Layer, Shape, Site, checked_image, pair
from fgnumba.layers.convolution import Padding, checked_padding, resolved_padding, windows_along
from fgnumba.validation import store


@dataclass(frozen=True)
class _Pool2d(Layer):
    pool_size: int | tuple[int, int] = 2
    stride: int | tuple[int, int] | None = None
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        window = pair(f"{self.kind}: pool_size", self.pool_size)
        stride = window if self.stride is None else pair(f"{self.kind}: stride", self.stride)
        padding = checked_padding(self.kind, self.padding)
        if isinstance(padding, Border) and (
            max(padding.top, padding.bottom) >= window[0] or max(padding.left, padding.right) >= window[1]
        ):
            raise ConfigError(
                f"{self.kind}: padding is {shown(self.padding)}; less than the window, {window[0]} x {window[1]}, "
                "is required"
            )
        store(self, pool_size=window, stride=stride, padding=padding)

    def border_of(self, shape: Shape) -> Border:
        """Return the padding around an image of the shape (H, W, C)."""
        return resolved_padding(self.padding, shape, self.pool_size, self.stride)  # type: ignore[arg-type]

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, (H', W', C)."""
        shape = checked_image(self.kind, inputs[0])
        window, stride = pair("", self.pool_size), pair("", self.stride)
        return (*windows_along(self.kind, "window", shape, window, stride, self.border_of(shape)), shape[2])

    def _arguments(self, site: Site) -> dict[str, Any]:
        x = site.inputs[0]
        return {
            **site.part,
            "count": site.perturbation.count,
            "x": x,
            "y": site.output,
            "window": self.pool_size,
            "stride": self.stride,
            "padding": self.border_of(x.shape),
        }

    @abstractmethod
    def bind(self, site: Site) -> list[Operation]: ...


@dataclass(frozen=True)
class MaxPool2d(_Pool2d):
    """Maximum pooling: each output is the maximum of a window of its channel.

        y = x[argmax],   dy = dx[argmax]

    Of equal values the first counts.

    Parameters
    ----------
    pool_size : int or (int, int), optional
        The height and the width of a window in pixels, or one number for both. By default 2.
    stride : int or (int, int), optional
        The distance in pixels from one window to the next. By default the windows lie side by side.
    padding : str, int, (int, int) or ((int, int), (int, int)), optional
        The pixels added around the image, as :class:`Conv2d` takes them, fewer than the window has. They are never the
        maximum. By default ``valid``: none.

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is no image, or is smaller than the window.
    """

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`."""
        return [site.device.kernels.max_pool2d.bind(**self._arguments(site))]


@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """Average pooling: each output is the mean of a window of its channel.

        y = mean x,   dy = mean dx

    The mean is over the pixels of the image that the window covers. Its error is at most 9.5e-7 of the mean of |x|, for
    windows of any size, and no sum overflows.

    Parameters
    ----------
    pool_size : int or (int, int), optional
        The height and the width of a window in pixels, or one number for both. By default 2.
    stride : int or (int, int), optional
        The distance in pixels from one window to the next. By default the windows lie side by side.
    padding : str, int, (int, int) or ((int, int), (int, int)), optional
        The pixels added around the image, as :class:`Conv2d` takes them, fewer than the window has. They do not count
        in the mean. By default ``valid``: none.

    Raises
    ------
    ConfigError
        If an argument is impossible.
    ShapeError
        If the input is no image, or is smaller than the window.
    """

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`."""
        return [site.device.kernels.avg_pool2d.bind(**self._arguments(site))]


@dataclass(frozen=True)
class GlobalAveragePool2d(Layer):
    """The mean of each channel over all pixels: (H, W, C) becomes (C,). It is as accurate as :class:`AvgPool2d`."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return the shape of the output, (C,)."""
        return (checked_image("GlobalAveragePool2d", inputs[0])[2],)

    def bind(self, site: Site) -> list[Operation]:
        """Return the operation that computes the layer at `site`: average pooling with the image as the window."""
        x = site.inputs[0]
        size = (x.shape[0], x.shape[1])
        return [
            site.device.kernels.avg_pool2d.bind(
                **site.part,
                count=site.perturbation.count,
                x=x,
                y=site.output,
                window=size,
                stride=size,
                padding=NO_BORDER,
            )
        ]
