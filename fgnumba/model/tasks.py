"""Tasks: the pieces of a pass that keeps activations. Each reads and writes buffers, which get memory at the end.

Tasks are listed in the order in which they run, and a buffer lives from the task that writes it to the last task that
reads it. Consecutive tasks that work image by image form a group, and each image goes through the whole group. A buffer
that only such a group uses lies in a thread's own memory and stays in its cache. If sums over the images follow, one
chunk of the batch goes through the group and into the sums before the next chunk does, and a buffer that lives no
longer than that is as small as a chunk. All other buffers hold the whole batch, and share memory if their lives do not
overlap.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.devices.device import Device
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.layout.images import NO_BORDER, Border, Images, bordered_size, image_shape
from fgnumba.kernels.machine import program
from fgnumba.kernels.machine.interfaces import Operation
from fgnumba.kernels.machine.memory import CACHE_LINE, address, aligned, leading, round_up
from fgnumba.kernels.machine.program import Stage, cpu_operations
from fgnumba.kernels.machine.work import ELEMENT_WORK, threads_for
from fgnumba.layers import Shape
from fgnumba.model.input_rows import InputRows
from fgnumba.model.liveness import SLACK, Lifetime, assign
from fgnumba.model.wiring import Value

CHUNK_BYTES = 4 * 1024 * 1024
"""Bytes of the buffers that live for a chunk of the batch, so that they stay in the last-level cache."""

CHUNKS = 8
"""The most chunks of a batch: each adds its sums to those of the chunks before, which takes time."""


@dataclass(eq=False)
class Buffer:
    """A buffer of float32 elements. It gets memory once all tasks are known.

    Parameters
    ----------
    size : int
        The number of elements.
    """

    size: int
    memory: npt.NDArray[np.float32] | None = field(default=None, init=False)

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The elements; the buffer must have memory."""
        assert self.memory is not None
        return self.memory[: self.size]


class PanelBuffer(Buffer):
    """A buffer of a matrix that is stored as panels of `PANEL` columns each.

    Parameters
    ----------
    panels : int
        The number of panels.
    rows : int
        The number of rows of each panel.
    """

    def __init__(self, panels: int, rows: int) -> None:
        super().__init__(panels * rows * PANEL)
        self.panels, self.rows = panels, rows

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The panels, (panels, rows, PANEL)."""
        return super().array.reshape(self.panels, self.rows, PANEL)


class ImageBuffer(Buffer):
    """A buffer of the images of a batch, or of one image in a thread's own memory: the primal, then the tangents.

    Parameters
    ----------
    batch : int
        The number of images.
    shape : tuple of int
        The shape of one image, or of one row of a matrix.
    border : Border
        The pixels around each image. By default there are none.
    tangents : int
        The number of tangents. By default 0.
    by_position : bool
        Whether the images are sequences (L, C), of which each position is a row. By default False.
    """

    def __init__(
        self,
        batch: int,
        shape: Shape,
        border: Border = NO_BORDER,
        tangents: int = 0,
        by_position: bool = False,
    ) -> None:
        # Without a border the images are rows of a matrix, at a distance at which a product reads at full speed.
        bare, self.by_position = border == NO_BORDER, by_position
        self.positions = shape[0] if by_position else 1
        self.image = bordered_size(shape, border)
        if bare:
            self.image = self.positions * leading(math.prod(shape) // self.positions)
        self.blocks = 1 + tangents
        super().__init__(self.blocks * batch * self.image)
        self.batch, self.shape, self.border = batch, shape, border
        self.local: npt.NDArray[np.float32] | None = None
        self.start = 0

    def images(self, shape: Shape | None = None, one_a_part: bool = True) -> Images:
        """Return the images as the kernels take them; `shape`, if it is given, is that of each image instead."""
        if self.local is not None:
            images = Images.of_part(self.local, self.start, self.shape, 1, self.blocks > 1, self.border)
        else:
            height, width, channels = image_shape(self.shape)
            row = (width + self.border.left + self.border.right) * channels
            pixel, first = channels, self.border.top * row + self.border.left * channels
            if self.by_position:
                row = pixel = self.image // self.positions
            part = self.image if one_a_part else self.batch * self.image
            strides = (self.batch * self.image, self.image, row, pixel, part)
            images = Images(
                self.array,
                first,
                (height, width, channels),
                *strides,
                has_tangent=self.blocks > 1,
                border=self.border,
            )
        return images if shape is None else images.viewed_as(shape)

    def rows(self) -> npt.NDArray[np.float32]:
        """Return the primal as a matrix (B, ld), or (B L, ld) of positions."""
        return self.dual()[0]

    def dual(self) -> npt.NDArray[np.float32]:
        """Return the primal and the T tangents as matrices (1 + T, B, ld), or (1 + T, B L, ld)."""
        return self.array.reshape(self.blocks, self.batch * self.positions, self.image // self.positions)


class InputBuffer(ImageBuffer):
    """The model's input. If the device reads it in place, its address is set each time the pass runs.

    Parameters
    ----------
    batch : int
        The number of examples.
    source : Value
        The value of the model's input.
    rows : InputRows
        The rows through which it is read.
    """

    def __init__(self, batch: int, source: Value, rows: InputRows) -> None:
        super().__init__(batch, source.shape, by_position=source.by_position)
        self._rows = rows

    def images(self, shape: Shape | None = None, one_a_part: bool = True) -> Images:
        """Return the images as the kernels take them; `shape`, if it is given, is that of each image instead."""
        # The memory is not the buffer's own, but that of the rows.
        each = 1 if one_a_part else self.batch
        return Images.of_batch(
            self._rows.array, shape or self.shape, False, each, self._rows.in_place, self.by_position
        )


@dataclass(eq=False)
class Task:
    """Operations that read and write buffers.

    Parameters
    ----------
    reads : sequence of Buffer
        The buffers that the operations read.
    writes : sequence of Buffer
        The buffers that the operations write.
    bind : callable
        A function that returns the operations, called once the buffers have memory.
    by_image : bool
        Whether the operations can take one image at a time. By default True.
    sums : bool
        Whether the operations sum over images, and can do so for some of the images at a time. By default False.
    numbered : bool
        Whether the result for an example depends on its number in the batch. By default False.
    begins : bool
        Whether the task begins a group, so that everything before it is done when it runs. By default False.
    """

    reads: Sequence[Buffer]
    writes: Sequence[Buffer]
    bind: Callable[[], list[Operation]]
    by_image: bool = True
    sums: bool = False
    numbered: bool = False
    begins: bool = False


@dataclass(eq=False)
class _Group:
    """Tasks that each image goes through, followed by tasks that sum over the images; or one task by itself."""

    by_image: list[Task]
    others: list[Task]

    @property
    def tasks(self) -> list[Task]:
        return [*self.by_image, *self.others]

    @property
    def chunked(self) -> bool:
        """Whether one chunk of the batch goes through the whole group before the next chunk does."""
        return bool(self.by_image and self.others) and not any(task.numbered for task in self.by_image)


@dataclass
class Placed:
    """Tasks whose buffers have memory: the steps of a program.

    Parameters
    ----------
    steps : list of Operation or Stage
        The operations, and stages that run several operations image by image.
    nbytes : int
        The number of bytes of all buffers.
    keeps : list of ndarray
        The arrays that hold the memory; they must live as long as the steps.
    readers : list of (Operation, str, int)
        The operations that read the model's input, each with the field that takes its address and the first example.
    second : int
        The number of the first step of the second half of the pass. By default 0: the pass has no halves.
    """

    steps: list[Operation | Stage]
    nbytes: int
    keeps: list[npt.NDArray[np.float32]]
    readers: list[tuple[Operation, str, int]]
    second: int = 0


def place(tasks: Sequence[Task], batch: int, device: Device, second: Task | None = None) -> Placed:
    """Give every buffer memory, and bind the tasks.

    Parameters
    ----------
    tasks : sequence of Task
        The tasks, in the order in which they run.
    batch : int
        The number of examples B.
    device : Device
        The device that runs them.
    second : Task, optional
        The first task of the second half of the pass, which must begin a group; ``Placed.second`` is then the number
        of its first step. By default the pass has no halves.
    """
    threads = device.threads
    groups = _grouped(tasks) if device.by_parts else [_Group([], [task]) for task in tasks]
    spans: dict[Buffer, tuple[int, int]] = {}
    for time, group in enumerate(groups):
        for task in group.tasks:
            for buffer in (*task.reads, *task.writes):
                if not isinstance(buffer, InputBuffer):
                    spans[buffer] = (spans.get(buffer, (time, 0))[0], time)
    local: list[list[ImageBuffer]] = [[] for _ in groups]
    chunk: list[list[ImageBuffer]] = [[] for _ in groups]
    lasting: list[Buffer] = []
    for buffer, (first, last) in spans.items():
        group = groups[first]
        if first != last or not isinstance(buffer, ImageBuffer) or not group.by_image:
            lasting.append(buffer)
        elif all(buffer not in task.reads for task in group.others):
            local[first].append(buffer)
        else:
            (chunk[first] if group.chunked else lasting).append(buffer)
    slots, capacities = assign([Lifetime(buffer.size, *spans[buffer]) for buffer in lasting])
    arenas = [device.zeros((capacity + SLACK,)) for capacity in capacities]
    for buffer, slot in zip(lasting, slots, strict=True):
        buffer.memory = arenas[slot]
    thread_bytes = [
        _place_locally(buffers, group.by_image) for buffers, group in zip(local, groups, strict=True)
    ]
    shared = aligned((max(thread_bytes, default=0) * threads // 4,))
    for buffer in (local_buffer for buffers in local for local_buffer in buffers):
        buffer.local = shared
    placed = Placed([], 0, [*arenas, shared], [])
    for group, buffers, nbytes in zip(groups, chunk, thread_bytes, strict=True):
        if second in group.tasks:
            placed.second = len(placed.steps)
        _place_group(placed, group, buffers, nbytes, batch, threads)
    placed.nbytes = sum(array.nbytes for array in placed.keeps)
    return placed


def _grouped(tasks: Sequence[Task]) -> list[_Group]:
    groups: list[_Group] = []
    for task in tasks:
        joins = groups and groups[-1].by_image and not task.begins
        if task.by_image and joins and not groups[-1].others:
            groups[-1].by_image.append(task)
        elif task.by_image:
            groups.append(_Group([task], []))
        elif task.sums and joins:
            groups[-1].others.append(task)
        else:
            groups.append(_Group([], [task]))
    return groups


def _place_locally(images: Sequence[ImageBuffer], tasks: Sequence[Task]) -> int:
    """Place buffers of one image each in a thread's own memory, and return the bytes that they need there."""
    lives: dict[Buffer, tuple[int, int]] = {}
    for time, task in enumerate(tasks):
        for buffer in (*task.reads, *task.writes):
            lives[buffer] = (lives.get(buffer, (time, 0))[0], time)
    slots, capacities = assign([Lifetime(b.blocks * b.image, *lives[b]) for b in images])
    starts, end = [], 0
    for capacity in capacities:
        starts.append(end)
        end += round_up((capacity + SLACK) * 4, CACHE_LINE) // 4
    for image, slot in zip(images, slots, strict=True):
        image.start = starts[slot]
    return end * 4


def _place_group(
    placed: Placed,
    group: _Group,
    chunk_buffers: Sequence[ImageBuffer],
    thread_bytes: int,
    batch: int,
    threads: int,
) -> None:
    """Bind the tasks of a group; if it runs in chunks, once for each chunk of the batch."""
    images = _chunk(chunk_buffers, batch, threads) if group.chunked else batch
    for buffer in chunk_buffers:
        buffer.batch, buffer.size = images, buffer.blocks * images * buffer.image
        buffer.memory = aligned((buffer.size + SLACK,))
        placed.keeps.append(buffer.memory)
    bound = [operation for task in group.by_image for operation in task.bind()]
    summed = [operation for task in group.others for operation in task.bind()]
    repeated = [operation for operation in bound if not operation.once]
    written = sum(buffer.size for task in group.by_image for buffer in task.writes)
    work = sum(operation.multiply_adds for operation in repeated) + ELEMENT_WORK * written
    placed.steps += [operation for operation in bound if operation.once]
    stage: Sequence[Operation]
    after: Sequence[Operation]
    for first in range(0, batch, images):
        count = min(images, batch - first)
        if group.chunked:
            window = [(address(b.memory), address(b.memory) + b.size * 4) for b in chunk_buffers]
            stage, after = (
                [_of_chunk(operation, first, count, batch, window) for operation in operations]
                for operations in (cpu_operations(repeated), cpu_operations(summed))
            )
        else:
            stage, after = repeated, summed
        if stage:
            threads_of_chunk = threads_for(work // -(-batch // count), count, threads)
            placed.steps.append(Stage(cpu_operations(stage), count, threads_of_chunk, thread_bytes))
        placed.steps += after
        placed.readers += [(op, name, first) for op in (*stage, *after) for name in op.external]


def _chunk(buffers: Sequence[ImageBuffer], batch: int, threads: int) -> int:
    """Return the number of images of a chunk: as many as the cache holds, but enough that there are few chunks."""
    nbytes = 4 * sum(buffer.blocks * buffer.image for buffer in buffers)
    most = max(threads, -(-batch // CHUNKS), CHUNK_BYTES // max(1, nbytes))
    return -(-batch // -(-batch // min(batch, most)))


def _of_chunk(
    operation: program.Operation, first: int, count: int, batch: int, window: Sequence[tuple[int, int]]
) -> program.Operation:
    """Return `operation` restricted to `count` images of the batch, from image `first` on.

    An argument whose address lies in `window` (ranges of addresses) is a buffer of a chunk, which holds only these
    images; its address stays. The addresses of all other images move to image `first`.
    """
    arguments = operation.arguments.copy()
    names = arguments.dtype.names or ()
    for name in names:
        at = int(arguments[name][0])
        moves = name not in operation.local and name not in operation.external
        if f"{name}_image" in names and moves and not any(low <= at < high for low, high in window):
            arguments[name] += 4 * first * arguments[f"{name}_image"]
    arguments["batch"] = count
    if "example" in names:
        arguments["example"] += first
    if "onto" in names and first > 0:
        arguments["onto"] = 1
    return replace(operation, arguments=arguments, multiply_adds=operation.multiply_adds * count // batch)
