"""Memory in which an access outside of an array crashes or is detected, and the process that runs cases in it.

Every buffer whose address a kernel gets lies between two inaccessible pages: its last byte is just before one of them
(``end``), or its first byte just behind the other (``start``). The rest of the buffer's own pages holds canaries. They
are NaN when read as floats, so that a result computed from them shows, and a change of them is detected. A guard can
also keep the pages of a freed buffer inaccessible, so that a late access crashes, too.

``python -m tests.guarded [CASE ...]`` runs the cases of ``tests/guarded_cases.py``, and prints the name of each before
it begins. It requires Linux.
"""

import ctypes
import faulthandler
import itertools
import mmap
import sys
import weakref
from collections import deque
from typing import Any

import numpy as np

PAGE = mmap.PAGESIZE
CANARY = 0xFF
_INACCESSIBLE = 0
_MAP_FIXED = 0x10
_MOST = 20_000  # buffers at a time: Linux lets a process have 65,530 stretches of pages

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class GuardError(AssertionError):
    """Bytes outside of an array were written."""


class Region:
    """Pages for one array, the inaccessible ones included, and what of them is not the array's."""

    def __init__(self, nbytes, side):
        self.nbytes = nbytes
        self.pages = -(-max(1, nbytes) // PAGE) * PAGE
        self.base = _libc.mmap(
            None, self.pages + 2 * PAGE, _INACCESSIBLE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0
        )
        if self.base in (None, ctypes.c_void_p(-1).value):
            raise MemoryError(f"mmap: errno {ctypes.get_errno()}")
        self.first = self.base + PAGE
        if _libc.mprotect(self.first, self.pages, mmap.PROT_READ | mmap.PROT_WRITE):
            raise MemoryError(f"mprotect: errno {ctypes.get_errno()}")
        self.start = self.first if side == "start" else self.first + self.pages - nbytes
        end = self.start + nbytes
        self.canaries = [(self.first, self.start - self.first), (end, self.first + self.pages - end)]
        for at, size in self.canaries:
            ctypes.memset(at, CANARY, size)

    def check(self):
        for at, size in self.canaries:
            found = ctypes.string_at(at, size)
            if found != bytes([CANARY]) * size:
                where = next(i for i, byte in enumerate(found) if byte != CANARY) + at - self.start
                raise GuardError(f"byte {where} of a buffer of {self.nbytes} bytes was written")

    def close(self):
        """Make all pages inaccessible, and give their memory back."""
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED
        if _libc.mmap(self.base, self.pages + 2 * PAGE, _INACCESSIBLE, flags, -1, 0) != self.base:
            raise MemoryError(f"mmap: errno {ctypes.get_errno()}")

    def release(self):
        _libc.munmap(self.base, self.pages + 2 * PAGE)


class Guard:
    """Hands guarded arrays out while there is a `side`, and checks those that are still there, or went since.

    Parameters
    ----------
    kept : so many of the buffers that went last stay inaccessible.

    Attributes
    ----------
    side : which end of a buffer lies at an inaccessible page, ``start`` or ``end``; None: arrays are as always.
    shuffled : whether parts run in a random order, in the caller's thread, on scratch memory that holds NaN.
    """

    def __init__(self, kept=0):
        self.side, self.shuffled = None, True
        self.regions = {}
        self.count = 0
        self._kept = kept
        self._gone: deque[Region] = deque()
        self._numbers = itertools.count(1)
        self._failures = []

    @property
    def active(self):
        """Whether arrays are guarded."""
        return self.side is not None and len(self.regions) < _MOST

    def allocate(self, shape, dtype):
        """Return an array of zeros."""
        shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
        dtype = np.dtype(dtype)
        region = Region(int(np.prod(shape)) * dtype.itemsize, self.side)
        owner = (ctypes.c_uint8 * region.nbytes).from_address(region.start)
        number = self.count = next(self._numbers)
        self.regions[number] = region
        weakref.finalize(owner, self._release, number).atexit = False
        return np.ndarray(shape, dtype, buffer=owner)

    def copy(self, array):
        """Return a guarded copy."""
        found = self.allocate(array.shape, array.dtype)
        found[...] = array
        return found

    def _release(self, number):
        region = self.regions.pop(number)
        try:
            region.check()
        except GuardError as error:
            self._failures.append(error)
        if self._kept:
            region.close()
            self._gone.append(region)
        else:
            region.release()
        if len(self._gone) > self._kept:
            self._gone.popleft().release()

    def check(self):
        """Raise GuardError if anything outside of an array was written since the last check."""
        for region in list(self.regions.values()):
            region.check()
        if self._failures:
            raise self._failures.pop()


def install(guard):
    """Let the package's buffers and the records that its kernels read come from `guard`, before it is imported."""
    from fgnumba.kernels.machine import memory

    plain, zeros, repeat = memory.aligned, np.zeros, np.repeat

    def ours():
        return guard.active and sys._getframe(2).f_globals["__name__"].startswith("fgnumba.")

    def aligned(shape, dtype=np.float32):
        return guard.allocate(shape, dtype) if guard.active else plain(shape, dtype)

    def guarded_zeros(shape, dtype=float, **more):
        return guard.allocate(shape, dtype) if ours() else zeros(shape, dtype, **more)

    def guarded_repeat(array, *arguments, **more):
        found = repeat(array, *arguments, **more)
        return guard.copy(found) if ours() else found

    for module, name, function in (
        (memory, "aligned", aligned),
        (np, "zeros", guarded_zeros),
        (np, "repeat", guarded_repeat),
    ):
        setattr(module, name, function)
    _give_each_operation_its_own_scratch_memory(guard)
    _run_parts_in_any_order(guard)


def _give_each_operation_its_own_scratch_memory(guard):
    # Operations of a program share their scratch memory one after another: the greatest would hide the others' ends.
    from fgnumba.kernels.machine.program import Program

    place: Any = Program._place

    def place_apart(self, op, stage, scratch_bytes):
        place(self, op, stage, scratch_bytes)
        if guard.side and op.scratch_bytes:
            apart = [guard.allocate((op.scratch_bytes,), np.uint8) for _ in range(stage.threads)]
            op.arguments["scratch"] = [array.ctypes.data for array in apart]
            op.keeps = (*op.keeps, *apart)

    setattr(Program, "_place", place_apart)  # noqa: B010


def _run_parts_in_any_order(guard):
    # Whichever thread is free takes a part: so parts come in any order, on any lane, and find anything in its scratch
    # memory. Lanes without a part would leave the ends of their buffers unseen.
    from fgnumba.kernels.machine.program import Program
    from fgnumba.kernels.machine.subnormals import flushed

    run = Program.run
    signature = ctypes.CFUNCTYPE(None, *(ctypes.c_int64,) * 3)
    generator = np.random.default_rng(0)

    def run_shuffled(self):
        if not (guard.side and guard.shuffled):
            run(self)
            return
        operations = iter(self.operations)
        with flushed():
            for first, length, lanes, parts in self._stages[:-1]:
                stage = [next(operations) for _ in range(length)]
                order = generator.permutation(int(parts))
                for turn, part in enumerate(order):
                    lane = int(turn % lanes)
                    for op, row in zip(
                        stage, range(first + lane * length, first + (lane + 1) * length), strict=True
                    ):
                        if op.scratch_bytes:
                            poison(int(op.arguments["scratch"][lane]), op.scratch_bytes)
                        entry, arguments = self._table[row]
                        signature(int(entry))(int(arguments), int(part), int(parts))
        self._stages[-1, 0] += 1

    setattr(Program, "run", run_shuffled)  # noqa: B010


def poison(address, nbytes):
    """Fill memory with what is NaN where it is read as floats."""
    ctypes.memset(address, CANARY, nbytes)


def cut_small_pieces():
    """Let small shapes be cut into parts, chunks and threads as large ones are."""
    from fgnumba.kernels.machine import work
    from fgnumba.model import plan, tasks

    work.THREAD_WORK, plan.CACHED_PART, tasks.CHUNK_BYTES = 2000, 24 * 1024, 16 * 1024


def main(names):
    """Run cases, each without guards and with them on either side: the results are the same, bit for bit."""
    faulthandler.enable()
    unraisable: list[str] = []
    # An exception in a kernel, as Numba's bounds checks raise, has no caller to go to.
    sys.unraisablehook = lambda error: unraisable.append(f"{error.exc_type.__name__}: {error.exc_value}")
    guard = Guard()
    install(guard)
    cut_small_pieces()
    from tests import guarded_cases

    cases = guarded_cases.CASES
    for name in names or cases:
        expected = cases[name](lambda array: array)
        assert all(np.isfinite(array).all() for array in expected), name
        for guard.side in ("end", "start"):
            print(f"{name}, {guard.side}", flush=True)
            found = cases[name](guard.copy)
            guard.check()
            assert not unraisable, unraisable
            for ours, plain in zip(found, expected, strict=True):
                np.testing.assert_array_equal(ours, plain, err_msg=f"{name}, {guard.side}")
            del found, ours
        guard.side = None
    if not names:
        print("bound:", *sorted(guarded_cases.bound_operations()))
    print("guarded:", guard.count)


if __name__ == "__main__":
    main(sys.argv[1:])
