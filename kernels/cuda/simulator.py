"""A simulator of GPU kernels: it runs block after block and thread after thread, and watches what they do.

A thread runs until it reaches a barrier, then the next one does. A seed shuffles the order of the threads: a kernel's
result must not depend on it. Besides running the kernel, the simulator checks that

- every access to global memory lies inside an array, at a multiple of the access's size;
- where one thread writes a word and another reads or writes it, there is a barrier between them; for global memory,
  they must also be in one block;
- every thread reaches every barrier, and has waited for the copies that it began before it ends.

Shared memory begins as NaN, and an asynchronous copy arrives only when it is waited for. Memory is the host's: the
address of an array is its own.
"""

import bisect
import contextvars
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.kernels.machine.subnormals import flushed

_WORD = 4
_WARP = 32
_POISON = 0xFF
_PRODUCT = -1
_SIZES = {"u1": 1, "f4": 4, "u4": 4, "f8": 8, "i8": 8}


class SimulatedError(RuntimeError):
    """A kernel did what it must not do; the message says what it did, where, and in which thread."""


class Memory:
    """The arrays of the simulated GPU, found by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._arrays: list[npt.NDArray[np.uint8]] = []

    def add(self, array: npt.NDArray[np.uint8]) -> None:
        """Add an array of bytes."""
        start = array.ctypes.data
        at = bisect.bisect_left(self._starts, start)
        self._starts.insert(at, start)
        self._arrays.insert(at, array)

    def remove(self, array: npt.NDArray[np.uint8]) -> None:
        """Remove an array."""
        at = bisect.bisect_left(self._starts, array.ctypes.data)
        del self._starts[at], self._arrays[at]

    def at(self, address: int, nbytes: int, size: int) -> npt.NDArray[np.uint8]:
        """Return the bytes at an address.

        Parameters
        ----------
        address : int
            The address.
        nbytes : int
            Number of bytes.
        size : int
            What the address must be a multiple of.

        Returns
        -------
        ndarray of uint8
            A view of an array's bytes.

        Raises
        ------
        SimulatedError
            The bytes do not lie in one array, or the address is no multiple of `size`.
        """
        found = bisect.bisect_right(self._starts, address) - 1
        offset = address - self._starts[found] if found >= 0 else -1
        if found < 0 or offset + nbytes > self._arrays[found].nbytes:
            raise SimulatedError(f"access of {nbytes} bytes at {address:#x}, which is in no array")
        if address % size:
            raise SimulatedError(f"access at {address:#x}, which is no multiple of {size}")
        return self._arrays[found][offset : offset + nbytes]


memory = Memory()
"""Memory of the simulated GPU."""

_running: "_Thread | None" = None


def running() -> "_Thread":
    """Return the thread that is running; RuntimeError outside of a kernel."""
    if _running is None:
        raise RuntimeError("a GPU primitive was called outside of a kernel")
    return _running


class _Accesses:
    """The last accesses to each word of global memory, to find two threads without a barrier between them."""

    def __init__(self) -> None:
        # Of each word: the block, epoch and thread of the last write; those of the last read, thread -2 for several.
        self._written: dict[int, tuple[int, int, int]] = {}
        self._read: dict[int, tuple[int, int, int]] = {}

    def touch(self, address: int, nbytes: int, thread: "_Thread", writes: bool) -> None:
        block, epoch, number = me = thread.group.number, thread.group.epoch, thread.thread
        for word in range(address // _WORD, (address + nbytes - 1) // _WORD + 1):
            for others, kind in ((self._written, "written"), (self._read, "read")):
                if kind == "read" and not writes:
                    continue
                other = others.get(word)
                if other and (other[0] != block or (other[1] == epoch and other[2] != number)):
                    raise SimulatedError(
                        f"global word {word * _WORD:#x} is {'written' if writes else 'read'} by thread {number} "
                        f"of block {block} and {kind} by thread {other[2]} of block {other[0]}, no barrier between"
                    )
            if writes:
                self._written[word] = me
            else:
                before = self._read.get(word)
                alone = before is None or before[:2] != (block, epoch) or before[2] == number
                self._read[word] = me if alone else (block, epoch, -2)


class _SharedAccesses:
    """The last accesses to each word of shared memory: lists of numbers, for its words are few and touched often.

    A number is 1024 times the epoch (the number of barriers so far) plus the thread; `_SEVERAL` in place of the thread
    means that several threads have read the word.
    """

    _SEVERAL = 1023

    def __init__(self, nbytes: int) -> None:
        words = -(-nbytes // _WORD)
        self._written, self._read = [-1] * words, [-1] * words

    def touch(self, address: int, nbytes: int, thread: "_Thread", writes: bool) -> None:
        epoch = thread.group.epoch << 10
        me = epoch + thread.thread
        written, read = self._written, self._read
        for word in range(address // _WORD, (address + nbytes - 1) // _WORD + 1):
            other = written[word]
            if other >= epoch and other != me:
                self._refuse(word, thread, writes, "written", other)
            other = read[word]
            if writes:
                if other >= epoch and other != me:
                    self._refuse(word, thread, writes, "read", other)
                written[word] = me
            else:
                read[word] = me if other < epoch or other == me else epoch + self._SEVERAL

    def _refuse(self, word: int, thread: "_Thread", writes: bool, kind: str, other: int) -> None:
        number = other & 1023
        raise SimulatedError(
            f"shared word {word * _WORD:#x} is {'written' if writes else 'read'} by thread {thread.thread} of block "
            f"{thread.group.number} and {kind} by {'several' if number == self._SEVERAL else f'thread {number}'}, "
            f"no barrier between"
        )


class _Group:
    """The threads of a block."""

    def __init__(self, number: int, accesses: _Accesses) -> None:
        self.number, self.epoch = number, 0
        self.global_accesses = accesses
        self.shared_accesses: _SharedAccesses | None = None
        self.memory: npt.NDArray[np.uint8] | None = None
        self.waiting: dict[int, dict[int, Any]] = {}


class _Thread:
    """A thread of a simulated block; the twins of primitives call the methods of the thread that is running."""

    def __init__(self, group: _Group, block: tuple[int, int, int], thread: int) -> None:
        self.group, self.block, self.thread = group, block, thread
        self._copies: list[list[tuple[int, npt.NDArray[np.uint8]]]] = [[]]
        self.greenlet: Any = None
        self.at_barrier = False

    def barrier(self) -> None:
        self.at_barrier = True
        self.greenlet.parent.switch()

    def load(self, address: int, kind: str, count: int = 1) -> Any:
        size = _SIZES[kind]
        found = memory.at(int(address), size * count, size * count)
        self.group.global_accesses.touch(int(address), size * count, self, writes=False)
        values = found.view(kind)
        return values[0] if count == 1 else values.copy()

    def store(self, address: int, kind: str, *values: Any) -> None:
        size = _SIZES[kind] * len(values)
        found = memory.at(int(address), size, size)
        self.group.global_accesses.touch(int(address), size, self, writes=True)
        found.view(kind)[:] = values

    def shared(self, nbytes: int) -> int:
        if self.group.memory is None:
            self.group.memory = np.full(nbytes, _POISON, np.uint8)
            self.group.shared_accesses = _SharedAccesses(nbytes)
        if self.group.memory.nbytes != nbytes:
            raise SimulatedError("shared memory is asked for twice")
        return 0

    def _shared(self, address: int, nbytes: int, writes: bool) -> npt.NDArray[np.uint8]:
        held, accesses = self.group.memory, self.group.shared_accesses
        if held is None or accesses is None or not 0 <= address <= held.nbytes - nbytes:
            raise SimulatedError(f"access of {nbytes} bytes at {address} of shared memory, outside of it")
        if address % nbytes:
            raise SimulatedError(f"access at {address} of shared memory, which is no multiple of {nbytes}")
        accesses.touch(address, nbytes, self, writes)
        return held[address : address + nbytes]

    def shared_load(self, address: int, kind: str, count: int = 1) -> Any:
        values = self._shared(int(address), _SIZES[kind] * count, writes=False).view(kind)
        return values[0] if count == 1 else values.copy()

    def shared_store(self, address: int, kind: str, *values: Any) -> None:
        self._shared(int(address), _SIZES[kind] * len(values), writes=True).view(kind)[:] = values

    def copy(self, target: int, source: int, size: int, nbytes: int) -> None:
        if not 0 <= nbytes <= size:
            raise SimulatedError(f"a copy of {nbytes} bytes; 0 to {size} are possible")
        arriving = np.zeros(size, np.uint8)
        if int(source) % size:
            raise SimulatedError(f"copy from {int(source):#x}, which is no multiple of {size}")
        if nbytes:
            arriving[:nbytes] = memory.at(int(source), int(nbytes), 1)
            self.group.global_accesses.touch(int(source), int(nbytes), self, writes=False)
        # It may arrive from now on: until it is waited for, nobody else may touch the place.
        self._shared(int(target), size, writes=True)[:] = _POISON
        self._copies[-1].append((int(target), arriving))

    def commit_copies(self) -> None:
        self._copies.append([])

    def wait_copies(self, groups: int) -> None:
        while len(self._copies) - 1 > groups:
            for target, arriving in self._copies.pop(0):
                self._shared(target, len(arriving), writes=True)[:] = arriving

    def under_way(self) -> bool:
        """Whether the thread began copies that it has not waited for."""
        return any(self._copies)

    def exchange(self, value: Any, mask: int) -> Any:
        """Return the value of the lane whose number differs from this one's by the bits of `mask`."""
        return self._gather(value)[(self.thread % _WARP) ^ int(mask)]

    def _gather(self, value: Any) -> dict[int, Any]:
        """Return the values of all lanes of the warp, after every lane has given its own."""
        warp, lane = divmod(self.thread, _WARP)
        values = self.group.waiting.setdefault(warp, {})
        values[lane] = value
        if len(values) == _WARP:
            del self.group.waiting[warp]
        while len(values) < _WARP:
            self.greenlet.parent.switch()
        return values

    def matrix_multiply(
        self, total: Any, a: Sequence[Any], b: Sequence[Any], kind: str
    ) -> npt.NDArray[np.float32]:
        """Return a lane's numbers of total + A B.

        Parameters
        ----------
        total : floats
            The lane's numbers of the sum so far.
        a, b : sequence of uint32
            The lane's words of A and B, laid out as the PTX manual has them.
        kind : str
            ``tf32`` or ``bf16``.

        Returns
        -------
        ndarray of float32
            Four numbers a tile.
        """
        lanes = self._gather((a, b))
        if _PRODUCT not in lanes:
            # The first lane to go on multiplies for all.
            operands = [lanes[lane] for lane in range(_WARP)]
            lanes[_PRODUCT] = _tiles([one[0] for one in operands], kind) @ _tiles(
                [one[1] for one in operands], kind, True
            )
        down, across = len(a) // 4, len(b) // 2
        product = lanes[_PRODUCT].reshape(down, 2, 8, across, 4, 2)
        group, member = divmod(self.thread % _WARP, 4)
        mine = product[:, :, group, :, member].transpose(0, 2, 1, 3).ravel()
        return (np.asarray(total, np.float64) + mine).astype(np.float32)


def _tiles(words: Sequence[Sequence[Any]], kind: str, right: bool = False) -> npt.NDArray[np.float64]:
    """Return the matrix whose words the lanes hold: A, a column of tiles, or B (`right`), a row of tiles."""
    bits = np.array(words, np.uint32)  # (lanes, words)
    if kind == "tf32":
        values = bits.view(np.float32)[..., None]
    else:
        values = np.stack([bits << np.uint32(16), bits & np.uint32(0xFFFF0000)], axis=-1).view(np.float32)
    pairs = values.shape[2]
    if right:
        # Word i of a tile: rows pairs * member + 4 pairs i and next, column group.
        values = values.reshape(8, 4, -1, 2, pairs).transpose(3, 1, 4, 2, 0)
        return values.reshape(8 * pairs, -1).astype(np.float64)
    # Word i of a tile: row group + 8 (i % 2), columns pairs * member + 4 pairs (i // 2) and next.
    values = values.reshape(8, 4, -1, 2, 2, pairs).transpose(2, 4, 0, 3, 1, 5)
    return values.reshape(-1, 8 * pairs).astype(np.float64)


def run(
    function: Callable[..., None],
    arguments: Sequence[Any],
    blocks: tuple[int, int, int],
    threads: int,
    seed: int = 0,
) -> None:
    """Run a kernel's function in every thread of a grid.

    Parameters
    ----------
    function : callable
        The kernel's function.
    arguments : sequence
        Its arguments in order.
    blocks : tuple of int
        Number of blocks along the three axes of the grid.
    threads : int
        Number of threads of a block.
    seed : int
        Seed of the order in which threads run.

    Raises
    ------
    SimulatedError
        The kernel did something that the simulator checks for.
    """
    accesses = _Accesses()
    generator = np.random.default_rng(seed)
    for number, (z, y, x) in enumerate(np.ndindex(blocks[2], blocks[1], blocks[0])):
        # A GPU's kernels are compiled to count subnormal numbers as zero.
        with np.errstate(all="ignore"), flushed():
            _run_block(function, arguments, (x, y, z), threads, _Group(number, accesses), generator)


def _run_block(
    function: Callable[..., None],
    arguments: Sequence[Any],
    block: tuple[int, int, int],
    threads: int,
    group: _Group,
    generator: np.random.Generator,
) -> None:
    global _running
    from greenlet import greenlet

    live = []
    for number in generator.permutation(threads):
        thread = _Thread(group, block, int(number))
        thread.greenlet = greenlet(lambda: function(*arguments))
        # What NumPy warns of is part of a context, of which a greenlet has its own.
        thread.greenlet.gr_context = contextvars.copy_context()
        live.append(thread)
    try:
        while live:
            moved = False
            for thread in live:
                if thread.at_barrier:
                    continue
                waited = len(group.waiting.get(thread.thread // _WARP, ()))
                _running = thread
                thread.greenlet.switch()
                now = len(group.waiting.get(thread.thread // _WARP, ()))
                moved |= thread.greenlet.dead or thread.at_barrier or now != waited
                if thread.greenlet.dead and thread.under_way():
                    raise SimulatedError(f"thread {thread.thread} ends before its copies do")
            ended = [thread for thread in live if thread.greenlet.dead]
            live = [thread for thread in live if not thread.greenlet.dead]
            if live and all(thread.at_barrier for thread in live):
                if len(live) != threads or ended:
                    raise SimulatedError(
                        f"{len(live)} of {threads} threads reach a barrier that others do not"
                    )
                group.epoch += 1
                for thread in live:
                    thread.at_barrier = False
            elif live and not moved:
                raise SimulatedError("threads wait for others that do not come")
    finally:
        _running = None
