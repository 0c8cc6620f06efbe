"""Pooling."""

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
        """Return the padding of an image (H, W, C)."""
        return resolved_padding(self.padding, shape, self.pool_size, self.stride)  # type: ignore[arg-type]

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (H', W', C)."""
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
    """Maximum over windows: y = x[argmax], dy = dx[argmax], the first of equal values.

    Parameters
    ----------
    pool_size, stride : a whole number, or (height, width); windows side by side without a stride.
    padding : as :class:`Conv2d` takes it, less than the window; it is never the maximum.

    Raises
    ------
    ConfigError, ShapeError
    """

    def bind(self, site: Site) -> list[Operation]:
        """Return the pooling."""
        return [site.device.kernels.max_pool2d.bind(**self._arguments(site))]


@dataclass(frozen=True)
class AvgPool2d(_Pool2d):
    """Mean over windows: y = mean x, dy = mean dx, over the pixels of the image that a window covers.

    Right to 9.5e-7 of the mean of |x| for windows of any size; no sum overflows.

    Parameters
    ----------
    pool_size, stride : a whole number, or (height, width); windows side by side without a stride.
    padding : as :class:`Conv2d` takes it, less than the window; it does not count.

    Raises
    ------
    ConfigError, ShapeError
    """

    def bind(self, site: Site) -> list[Operation]:
        """Return the pooling."""
        return [site.device.kernels.avg_pool2d.bind(**self._arguments(site))]


@dataclass(frozen=True)
class GlobalAveragePool2d(Layer):
    """Mean over all pixels: (H, W, C) becomes (C,), as accurate as :class:`AvgPool2d`."""

    def output_shape(self, *inputs: Shape) -> Shape:
        """Return (C,)."""
        return (checked_image("GlobalAveragePool2d", inputs[0])[2],)

    def bind(self, site: Site) -> list[Operation]:
        """Return the average pooling of one window, the image."""
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
