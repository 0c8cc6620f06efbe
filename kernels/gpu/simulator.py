"""Runs GPU kernels without a GPU: block after block, thread after thread, watched.

A thread runs until it reaches a barrier, then the next one does, in an order that a seed shuffles: what a kernel
computes must not depend on it. Besides the result, these are checked:

- every access to global memory lies inside an array, at a multiple of its size;
- no two threads touch a word of shared or global memory without a barrier between them, one of them writing; of global
  memory, no two blocks at all;
- every thread reaches every barrier, and the copies that it began have ended when it ends;
- shared memory begins as NaN, and asynchronous copies arrive no sooner than they are waited for.

Memory is the host's: an array is at home at its own address.
"""

import bisect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

_WORD = 4
_WARP = 32
_POISON = 0xFF


class SimulatedError(RuntimeError):
    """A kernel did what it must not do; the message says what, where, and which thread."""


class Memory:
    """Arrays by address."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._arrays: list[npt.NDArray[np.uint8]] = []

    def add(self, array: npt.NDArray[np.uint8]) -> None:
        """Take an array of bytes in."""
        start = array.ctypes.data
        at = bisect.bisect_left(self._starts, start)
        self._starts.insert(at, start)
        self._arrays.insert(at, array)

    def remove(self, array: npt.NDArray[np.uint8]) -> None:
        """Forget an array."""
        at = bisect.bisect_left(self._starts, array.ctypes.data)
        del self._starts[at], self._arrays[at]

    def at(self, address: int, nbytes: int, size: int) -> npt.NDArray[np.uint8]:
        """Return the bytes at an address; SimulatedError where they are in no array or cross an access's bounds."""
        found = bisect.bisect_right(self._starts, address) - 1
        offset = address - self._starts[found] if found >= 0 else -1
        if found < 0 or offset + nbytes > self._arrays[found].nbytes:
            raise SimulatedError(f"access of {nbytes} bytes at {address:#x}, which is in no array")
        if address % size:
            raise SimulatedError(f"access at {address:#x}, which is no multiple of {size}")
        return self._arrays[found][offset : offset + nbytes]


memory = Memory()
"""Of the simulated device."""

_running: "_Thread | None" = None


def running() -> "_Thread":
    """Return the thread that runs; RuntimeError outside of a kernel."""
    if _running is None:
        raise RuntimeError("a GPU primitive was called outside of a kernel")
    return _running


class _Accesses:
    """Who touched which word: finds two threads that do without a barrier between them."""

    def __init__(self, what: str) -> None:
        self._what = what
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
                        f"{self._what} word {word * _WORD:#x} is {'written' if writes else 'read'} by thread {number} "
                        f"of block {block} and {kind} by thread {other[2]} of block {other[0]}, no barrier between"
                    )
            if writes:
                self._written[word] = me
            else:
                before = self._read.get(word)
                alone = before is None or before[:2] != (block, epoch) or before[2] == number
                self._read[word] = me if alone else (block, epoch, -2)


class _Group:
    """The threads of a block."""

    def __init__(self, number: int, accesses: _Accesses) -> None:
        self.number, self.epoch = number, 0
        self.global_accesses = accesses
        self.shared_accesses = _Accesses("shared")
        self.memory: npt.NDArray[np.uint8] | None = None
        self.waiting: dict[int, dict[int, Any]] = {}


class _Thread:
    """What a thread can do; primitives ask the one that runs."""

    def __init__(self, group: _Group, block: tuple[int, int, int], thread: int) -> None:
        self.group, self.block, self.thread = group, block, thread
        self._copies: list[list[tuple[int, npt.NDArray[np.uint8]]]] = [[]]
        self.greenlet: Any = None
        self.at_barrier = False

    def barrier(self) -> None:
        self.at_barrier = True
        self.greenlet.parent.switch()

    def load(self, address: int, kind: str, count: int = 1) -> Any:
        size = np.dtype(kind).itemsize
        found = memory.at(int(address), size * count, size * count)
        self.group.global_accesses.touch(int(address), size * count, self, writes=False)
        values = found.view(kind)
        return values[0] if count == 1 else values.copy()

    def store(self, address: int, kind: str, *values: Any) -> None:
        size = np.dtype(kind).itemsize * len(values)
        found = memory.at(int(address), size, size)
        self.group.global_accesses.touch(int(address), size, self, writes=True)
        found.view(kind)[:] = values

    def shared(self, nbytes: int) -> int:
        if self.group.memory is None:
            self.group.memory = np.full(nbytes, _POISON, np.uint8)
        if self.group.memory.nbytes != nbytes:
            raise SimulatedError("shared memory is asked for twice")
        return 0

    def _shared(self, address: int, nbytes: int, writes: bool) -> npt.NDArray[np.uint8]:
        held = self.group.memory
        if held is None or not 0 <= address <= held.nbytes - nbytes:
            raise SimulatedError(f"access of {nbytes} bytes at {address} of shared memory, outside of it")
        if address % nbytes:
            raise SimulatedError(f"access at {address} of shared memory, which is no multiple of {nbytes}")
        self.group.shared_accesses.touch(address, nbytes, self, writes)
        return held[address : address + nbytes]

    def shared_load(self, address: int, kind: str, count: int = 1) -> Any:
        values = self._shared(int(address), np.dtype(kind).itemsize * count, writes=False).view(kind)
        return values[0] if count == 1 else values.copy()

    def shared_store(self, address: int, kind: str, *values: Any) -> None:
        self._shared(int(address), np.dtype(kind).itemsize * len(values), writes=True).view(kind)[:] = values

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
        """Whether copies that were begun have not been waited for."""
        return any(self._copies)

    def exchange(self, value: Any, mask: int) -> Any:
        """Return the value of the lane that differs by `mask`."""
        return self._gather(value)[(self.thread % _WARP) ^ int(mask)]

    def _gather(self, value: Any) -> dict[int, Any]:
        """Return the values of all lanes of the warp, once all are there."""
        warp, lane = divmod(self.thread, _WARP)
        values = self.group.waiting.setdefault(warp, {})
        values[lane] = value
        if len(values) == _WARP:
            del self.group.waiting[warp]
        while len(values) < _WARP:
            self.greenlet.parent.switch()
        return values

    def matrix_multiply(self, total: Any, a: Sequence[Any], b: Sequence[Any], kind: str) -> tuple[Any, ...]:
        """Return a lane's part of total + A B; the layout of fragments is that of the PTX manual's ``mma``."""
        lanes = self._gather((a, b))
        deep = 8 if kind == "tf32" else 16
        left, right = np.zeros((16, deep)), np.zeros((deep, 8))
        for lane, (mine, yours) in lanes.items():
            group, member = divmod(lane, 4)
            for i, word in enumerate(mine):
                row = group + 8 * (i % 2)
                if kind == "tf32":
                    left[row, member + 4 * (i // 2)] = _float(word)
                else:
                    left[row, 2 * member + 8 * (i // 2) : 2 * member + 8 * (i // 2) + 2] = _floats_bf16(word)
            for i, word in enumerate(yours):
                if kind == "tf32":
                    right[member + 4 * i, group] = _float(word)
                else:
                    right[2 * member + 8 * i : 2 * member + 8 * i + 2, group] = _floats_bf16(word)
        product = left @ right
        group, member = divmod(self.thread % _WARP, 4)
        mine = product[[group, group, group + 8, group + 8], [2 * member, 2 * member + 1] * 2]
        return tuple((np.array(total, np.float64) + mine).astype(np.float32))


def _float(word: Any) -> float:
    return float(np.uint32(word).view(np.float32))


def _floats_bf16(word: Any) -> list[float]:
    return [_float(np.uint32((int(word) & 0xFFFF) << 16)), _float(np.uint32(int(word) & 0xFFFF0000))]


def run(
    function: Callable[..., None],
    arguments: Sequence[Any],
    blocks: tuple[int, int, int],
    threads: int,
    seed: int = 0,
) -> None:
    """Run a kernel's function over a grid.

    Raises
    ------
    SimulatedError
        Whatever is checked, see above.
    """
    accesses = _Accesses("global")
    generator = np.random.default_rng(seed)
    for number, (z, y, x) in enumerate(np.ndindex(blocks[2], blocks[1], blocks[0])):
        with np.errstate(all="ignore"):
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
