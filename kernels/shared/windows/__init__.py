"""Windows that move over an image, for the pooling operations."""

from fgnumba.kernels.layout.images import Border, Images

FIELDS = (
    *("channels", "height", "width", "image_height", "image_width"),
    *("window_height", "window_width", "down", "across", "top", "left"),
)
"""The sizes of both images and of the window, the strides of the window, and the padding."""


def window_fields(
    x: Images, y: Images, window: tuple[int, int], stride: tuple[int, int], padding: Border
) -> dict[str, int]:
    """Return the values of `FIELDS`. The parameters are those of :func:`bind`."""
    height, width, channels = y.shape
    return {
        "channels": channels,
        "height": height,
        "width": width,
        "image_height": x.shape[0],
        "image_width": x.shape[1],
        "window_height": window[0],
        "window_width": window[1],
        "down": stride[0],
        "across": stride[1],
        "top": padding.top,
        "left": padding.left,
    }
