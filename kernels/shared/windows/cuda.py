"""Windows that move over an image: what the pooling operations on a GPU share."""

from fgnumba.kernels.cuda.kernel import Kernel, device_function
from fgnumba.kernels.cuda.layout import elements, elementwise, images
from fgnumba.kernels.cuda.program import MAX_BLOCKS_YZ, Operation
from fgnumba.kernels.layout.images import Border, Images
from fgnumba.kernels.shared.windows import window_fields
from fgnumba.validation.launcher import launcher


@launcher
def bind(
    name: str,
    entry: Kernel,
    *,
    batch: int,
    images_a_part: int,
    count: int,
    x: Images,
    y: Images,
    window: tuple[int, int],
    stride: tuple[int, int],
    padding: Border,
) -> Operation:
    """Bind a pooling kernel to its arrays, as ``kernels.shared.windows.cpu.bind`` does; a thread an element of y.

    Where `entry` takes ``slices``, so many threads share an element's primal and tangents.
    """
    n, tangents = elements(batch, y), count if x.has_tangent else 0
    slices = min(1 + tangents, MAX_BLOCKS_YZ) if "slices" in entry.parameters else 1
    arguments = {
        **images(x=x, y=y),
        **window_fields(x, y, window, stride, padding),
        "n": n,
        "count": tangents,
    }
    if "slices" in entry.parameters:
        arguments["slices"] = slices
    return Operation(name, (elementwise(entry, n, arguments, slices),), keeps=(x.memory, y.memory))


@device_function
def covered(place: int, step: int, before: int, window: int, size: int) -> tuple[int, int]:
    """Return first and last (exclusive) of the image's rows, or columns, under the windows of a row of y.

    `step` is the windows' distance, `before` the padding before the first of `size` rows.
    """
    first = place * step - before
    return max(first, 0), min(first + window, size)
