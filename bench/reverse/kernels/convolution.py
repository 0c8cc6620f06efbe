"""The reverse pass of convolutions, channels last.

    dz = dy a'(z)                       with zeros around its pixels and, if the kernel has a stride, between them
    dx = dz * W'                        W' is W with its taps reversed, and inputs and outputs exchanged

dx is a convolution of stride 1, computed by the forward pass's own kernels.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import carray
from numba.extending import register_jitable

from fgnumba.kernels.emit import call, pointer
from fgnumba.kernels.emit.vector import PANEL, InstructionSet
from fgnumba.kernels.layout import images
from fgnumba.kernels.layout.geometry import clear
from fgnumba.kernels.layout.images import Images, operands
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address
from fgnumba.kernels.machine.program import Operation
from fgnumba.kernels.ops.example_panels.cpu import transpose
from fgnumba.kernels.rules.activations.rules import rule_of
from fgnumba.validation.launcher import launcher

_SLOPE = record(
    *images.fields("x"),
    *images.fields("source"),
    *images.fields("y"),
    *("batch", "images", "height", "width", "channels", "down", "across"),
    *("fill", "fill_height", "fill_row", "top", "left"),
)


@launcher
def bind_slope(
    *,
    batch: int,
    images_a_part: int,
    x: Images,
    source: Images | None,
    y: Images,
    activation_name: str = "identity",
    stride: tuple[int, int] = (1, 1),
) -> Operation:
    """Bind y = x a'(source), with zeros in y's border and, with a stride, between its pixels.

    Parameters
    ----------
    batch : int
        Number of examples B.
    images_a_part : int
        Number of examples in a part.
    x : Images
        (H, W, C) images.
    source : Images or None
        (H, W, C) images of which the slope is a function. None: the identity's slope, 1.
    y : Images
        ((H - 1) stride + 1, …, C) images. Without a stride, y may be x; otherwise they must not overlap.
    activation_name : str
        The activation a.
    stride : (int, int)
        Distance of the pixels in y.

    Notes
    -----
    Cost: reads x and source once, and writes y once, or twice with a stride.
    """
    height, width, channels = x.shape
    border = y.border
    values, memory = operands(**({"x": x, "y": y} | ({"source": source} if source else {})))
    spread = stride != (1, 1)
    fields = {
        **values,
        **images.part_fields(batch, images_a_part),
        "height": height,
        "width": width,
        "channels": channels,
        "down": stride[0],
        "across": stride[1],
        "fill": spread or border != images.NO_BORDER,
        "fill_height": border.top + y.shape[0] + border.bottom,
        "fill_row": (border.left + y.shape[1] + border.right) * y.pixel,
        "top": border.top,
        "left": border.left,
    }
    name = activation_name if source else "identity"
    return Operation("slope", _slope_entry(name), filled(_SLOPE, fields), **memory)


def _slope_entry(activation_name: str) -> int:
    rule, identity = rule_of(activation_name), activation_name == "identity"

    def slope(arguments: int, part: int, parts: int) -> None:
        a = carray(pointer(arguments, _SLOPE), 1)[0]
        for i in range(min(a.images, a.batch - part * a.images)):
            y_image = a.y + (part * a.y_part + i * a.y_image) * 4
            if a.fill:
                corner = y_image - (a.top * a.y_row + a.left * a.y_pixel) * 4
                if a.down == 1 and a.across == 1:
                    _surround(a, corner)
                else:
                    for row in range(a.fill_height):
                        clear(corner + row * a.y_row * 4, a.fill_row)
            for row in range(a.height):
                x_at = a.x + (part * a.x_part + i * a.x_image + row * a.x_row) * 4
                s_at = a.source + (part * a.source_part + i * a.source_image + row * a.source_row) * 4
                y_at = y_image + row * a.down * a.y_row * 4
                joined = (
                    a.x_pixel == a.channels
                    and a.y_pixel * a.across == a.channels
                    and (identity or a.source_pixel == a.channels)
                )
                runs, length = (1, a.width * a.channels) if joined else (a.width, a.channels)
                for j in range(runs):
                    x = carray(pointer(x_at + j * a.x_pixel * 4, np.float32), length)
                    y = carray(pointer(y_at + j * a.across * a.y_pixel * 4, np.float32), length)
                    if identity:
                        for c in range(length):
                            y[c] = x[c]
                    else:
                        s = carray(pointer(s_at + j * a.source_pixel * 4, np.float32), length)
                        for c in range(length):
                            y[c] = x[c] * rule(s[c])[1]

    return kernel(f"reverse-slope-{activation_name}", slope, 3)


@register_jitable
def _surround(a: Any, corner: int) -> None:
    """Fill the border of an image with zeros. `corner` is the address of the border's first pixel."""
    inside = a.width * a.y_pixel
    for row in range(a.fill_height):
        at = corner + row * a.y_row * 4
        if a.top <= row < a.top + a.height:
            clear(at, a.left * a.y_pixel)
            clear(at + (a.left * a.y_pixel + inside) * 4, a.fill_row - a.left * a.y_pixel - inside)
        else:
            clear(at, a.fill_row)


_REVERSED = record(
    *("weight", "out", "taps", "groups", "channels", "outputs", "panels", "out_panels", "channelwise"),
    "transpose",
)


@launcher
def bind_reversed(
    isa: InstructionSet,
    weight: npt.NDArray[np.float32],
    out: npt.NDArray[np.float32],
    *,
    taps: int,
    groups: int,
    channels: int,
    outputs: int,
    channelwise: bool,
) -> Operation:
    """Bind W' of the weights (taps, C, N) of each group: W'[tap, n, c] = W[taps - 1 - tap, c, n], both packed.

    Parameters
    ----------
    isa : InstructionSet
        The instruction set to bind for.
    weight : array, (panels, taps C, PANEL) float32
        W, packed.
    out : array, (panels, taps N, PANEL) float32
        Written: W', packed.
    taps : int
        Number of elements of the kernel.
    groups : int
        Number of groups.
    channels, outputs : int
        C and N of one group.
    channelwise : bool
        True: every channel is a group, and they are packed side by side. Then only the taps change places.

    Notes
    -----
    Cost: reads and writes the weights once.
    """
    fields = {
        "weight": address(weight),
        "out": address(out),
        "taps": taps,
        "groups": groups,
        "channels": channels,
        "outputs": outputs,
        "panels": weight.shape[0] // groups,
        "out_panels": out.shape[0] // groups,
        "channelwise": channelwise,
        "transpose": transpose(isa),
    }
    entry = kernel("reversed-weights", _reversed, 3)
    return Operation("reverse-taps", entry, filled(_REVERSED, fields), keeps=(weight, out))


def _reversed(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _REVERSED), 1)[0]
    if a.channelwise:
        for panel in range(a.panels):
            for tap in range(a.taps):
                source = carray(pointer(a.weight + (panel * a.taps + tap) * PANEL * 4, np.float32), PANEL)
                at = a.out + (panel * a.taps + a.taps - 1 - tap) * PANEL * 4
                target = carray(pointer(at, np.float32), PANEL)
                for lane in range(PANEL):
                    target[lane] = source[lane]
        return
    for g in range(a.groups):
        for tap in range(a.taps):
            for p in range(a.panels):
                outputs = min(PANEL, a.outputs - p * PANEL)
                row = ((g * a.panels + p) * a.taps + tap) * a.channels
                for q in range(a.out_panels):
                    channels = min(PANEL, a.channels - q * PANEL)
                    source = a.weight + (row + q * PANEL) * PANEL * 4
                    reverse = a.taps - 1 - tap
                    out_row = ((g * a.out_panels + q) * a.taps + reverse) * a.outputs + p * PANEL
                    target = a.out + out_row * PANEL * 4
                    call(a.transpose, (channels, outputs, source, PANEL, target, PANEL))
