"""What a reverse pass is made of before it has memory: tasks that read and write buffers.

Tasks are put down in order, and a buffer lives from the task that writes it to the last that reads it. Neighbouring
tasks that work image by image form a group, which an image goes through as a whole; what only such a group uses lies
in a thread's own buffers and stays in its cache. All other buffers hold the whole batch, and share memory where their
lives do not overlap.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.images import NO_BORDER, Border, Images, bordered_size, image_shape
from fgnumba.kernels.memory import CACHE_LINE, aligned, leading, round_up
from fgnumba.kernels.program import Operation, Stage
from fgnumba.kernels.tiling import parts_for
from fgnumba.kernels.vector import PANEL
from fgnumba.layers import Shape
from fgnumba.liveness import Lifetime, assign

_SLACK = 32  # float32 at the end of a buffer: a tile of channels reads whole vectors, past the last pixel
_ELEMENT_WORK = 4


@dataclass(eq=False)
class Buffer:
    """float32 elements that live for a while."""

    size: int
    memory: npt.NDArray[np.float32] | None = field(default=None, init=False)

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The elements, once they have memory."""
        assert self.memory is not None
        return self.memory[: self.size]


class PanelBuffer(Buffer):
    """Panels of `PANEL` columns."""

    def __init__(self, panels: int, rows: int) -> None:
        super().__init__(panels * rows * PANEL)
        self.panels, self.rows = panels, rows

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The panels, (panels, rows, PANEL)."""
        return super().array.reshape(self.panels, self.rows, PANEL)


class ImageBuffer(Buffer):
    """Images of a batch, or one of them in a thread's own memory."""

    def __init__(self, batch: int, shape: Shape, border: Border = NO_BORDER) -> None:
        # Rows of a matrix lie at a distance that a product reads at full speed.
        bare = border == NO_BORDER
        self.image = leading(int(np.prod(shape))) if bare else bordered_size(shape, border)
        super().__init__(batch * self.image)
        self.batch, self.shape, self.border = batch, shape, border
        self.local: npt.NDArray[np.float32] | None = None
        self.start = 0

    def images(self, shape: Shape | None = None, one_a_part: bool = True) -> Images:
        """Return the images as the kernels see them, as images of another `shape` where that is given."""
        if self.local is not None:
            found = Images.of_part(self.local, self.start, self.shape, 1, False, self.border)
        else:
            height, width, channels = image_shape(self.shape)
            row = (width + self.border.left + self.border.right) * channels
            first = self.border.top * row + self.border.left * channels
            part = self.image if one_a_part else self.batch * self.image
            strides = (self.size, self.image, row, channels, part)
            found = Images(
                self.array, first, (height, width, channels), *strides, has_tangent=False, border=self.border
            )
        return found if shape is None else found.viewed_as(shape)

    def rows(self) -> npt.NDArray[np.float32]:
        """Return the batch as a matrix (B, ld)."""
        return self.array.reshape(self.batch, self.image)


class InputBuffer(ImageBuffer):
    """The model's input, whose address is set when the pass runs."""

    def __init__(self, batch: int, shape: Shape) -> None:
        super().__init__(batch, shape)
        size = int(np.prod(shape))
        self._placeholder = np.lib.stride_tricks.as_strided(
            np.zeros(1, np.float32), (1, batch, size), (0, 0, 0)
        )

    def images(self, shape: Shape | None = None, one_a_part: bool = True) -> Images:
        """Return the images, without an address."""
        return Images.of_batch(
            self._placeholder, shape or self.shape, False, 1 if one_a_part else self.batch, external=True
        )


@dataclass(eq=False)
class Task:
    """Operations that read and write buffers.

    Parameters
    ----------
    bind : returns the operations, once the buffers have memory.
    by_image : the operations take an image at a time.
    """

    reads: Sequence[Buffer]
    writes: Sequence[Buffer]
    bind: Callable[[], list[Operation]]
    by_image: bool = True


@dataclass
class Placed:
    """Tasks with memory: what a program runs, and the bytes of its buffers."""

    steps: list[Operation | Stage]
    nbytes: int
    keeps: list[npt.NDArray[np.float32]]


def place(tasks: Sequence[Task], batch: int, threads: int) -> Placed:
    """Give every buffer memory, and bind the tasks."""
    groups: list[list[Task]] = []
    for by_image, run in groupby(tasks, key=lambda task: task.by_image):
        together = list(run)
        groups += [together] if by_image else [[task] for task in together]
    spans: dict[Buffer, tuple[int, int]] = {}
    for time, group in enumerate(groups):
        for task in group:
            for buffer in (*task.reads, *task.writes):
                if not isinstance(buffer, InputBuffer):
                    spans[buffer] = (spans.get(buffer, (time, 0))[0], time)
    local = {
        buffer: first
        for buffer, (first, last) in spans.items()
        if first == last and isinstance(buffer, ImageBuffer) and groups[first][0].by_image
    }
    lasting = [buffer for buffer in spans if buffer not in local]
    slots, capacities = assign([Lifetime(buffer.size, *spans[buffer]) for buffer in lasting])
    arenas = [aligned((capacity + _SLACK,)) for capacity in capacities]
    for buffer, slot in zip(lasting, slots, strict=True):
        buffer.memory = arenas[slot]
    thread_bytes = [
        _place_locally([b for b, first in local.items() if first == time], group)
        for time, group in enumerate(groups)
    ]
    shared = aligned((max(thread_bytes, default=0) * threads // 4,))
    for buffer in local:
        assert isinstance(buffer, ImageBuffer)
        buffer.local = shared
    steps: list[Operation | Stage] = []
    for group, nbytes in zip(groups, thread_bytes, strict=True):
        operations = [operation for task in group for operation in task.bind()]
        if not group[0].by_image:
            steps += operations
            continue
        steps += [operation for operation in operations if operation.once]
        repeated = tuple(operation for operation in operations if not operation.once)
        written = sum(buffer.size for task in group for buffer in task.writes)
        work = sum(operation.multiply_adds for operation in repeated) + _ELEMENT_WORK * written
        steps.append(Stage(repeated, batch, parts_for(work, batch, threads), nbytes))
    return Placed(steps, sum(arena.nbytes for arena in arenas) + shared.nbytes, [*arenas, shared])


def _place_locally(buffers: Sequence[Buffer], group: Sequence[Task]) -> int:
    """Place buffers of one image in a thread's memory, and return its bytes."""
    lives: dict[Buffer, tuple[int, int]] = {}
    for time, task in enumerate(group):
        for buffer in (*task.reads, *task.writes):
            lives[buffer] = (lives.get(buffer, (time, 0))[0], time)
    images = [buffer for buffer in buffers if isinstance(buffer, ImageBuffer)]
    slots, capacities = assign([Lifetime(b.image, *lives[b]) for b in images])
    starts, end = [], 0
    for capacity in capacities:
        starts.append(end)
        end += round_up((capacity + _SLACK) * 4, CACHE_LINE) // 4
    for buffer, slot in zip(images, slots, strict=True):
        buffer.start = starts[slot]
    return end * 4
