"""The machine that a measurement ran on: its properties, its measured peaks, and whether it was otherwise idle."""

import os
import platform
import time
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba import carray

import fgnumba
from fgnumba.kernels.devices.device import CPU, Cpu
from fgnumba.kernels.devices.tuning import described
from fgnumba.kernels.emit import dot_peak, dots_a_round, multiply_add_peak, pointer
from fgnumba.kernels.emit.precision import PRECISIONS
from fgnumba.kernels.emit.vector import InstructionSet, instruction_set, processor_name
from fgnumba.kernels.machine.arguments import filled, record
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.memory import address, aligned
from fgnumba.kernels.machine.program import Operation, Program
from fgnumba.kernels.machine.threads import thread_count
from fgnumba.kernels.machine.work import split

PEAK_ROUNDS = 20_000
BANDWIDTH_BYTES = 256 * 1024 * 1024
FOREIGN_SHARE, PEAK_SPREAD = 0.05, 0.05
"""Limits above which a machine counts as disturbed: the share of processor time that other processes took, and the
distance between the quartiles of the peak's time over its median."""

_PEAK = record("rounds", "out")
_TRIAD = record("x", "y", "size")


def facts(device: Cpu = CPU) -> dict[str, Any]:
    """Return the processor, its caches, the versions of software and the number of threads, as JSON values.

    Parameters
    ----------
    device : Cpu
        The device, whose precisions are returned as well. Default: the one whose precision is chosen.

    Raises
    ------
    DeviceError
        The processor does not have the device's precision.
    """
    isa = device.isa
    return {
        "processor": processor_name(),
        "architecture": str(llvmlite.binding.get_host_cpu_name()),
        "vector": f"{isa.name}, {isa.lanes} float32 lanes",
        "tile": described(isa),
        "instruction_set": isa.name,
        "precision": isa.precision,
        "tangent_precision": isa.tangent_precision,
        "threads": thread_count(),
        "last_level_cache_bytes": last_level_cache(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "fgnumba": fgnumba.__version__,
        "numba": numba.__version__,
        "numpy": np.__version__,
    }


@cache
def last_level_cache() -> int:
    """Return the size of the largest cache in bytes, or 0 if the system does not report it."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        try:
            text = path.read_text().strip()
            sizes.append(int(text.rstrip("KMG")) * {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1:], 1))
        except (OSError, ValueError):
            continue
    return max(sizes)


class Peak:
    """A call of many multiply-adds that touch no memory, on all threads, to measure the processor's peak.

    In a precision of bfloat16, they are those of the set's own instruction. A twin has none, and takes float32's.

    Parameters
    ----------
    threads : int, optional
        Number of threads. None (the default): as many as training steps use.
    isa : InstructionSet, optional
        The instruction set, with a precision. None (the default): the one that training steps use, in float32.

    Attributes
    ----------
    multiply_adds : int
        Number of multiply-adds that a call could do in the precision: those of the instructions, divided by the number
        of products that the precision takes for one.
    """

    def __init__(self, threads: int | None = None, isa: InstructionSet | None = None) -> None:
        isa, threads = isa or instruction_set(), threads or thread_count()
        terms = len(PRECISIONS[isa.precision].terms)
        of_dots = terms > 0 and not isa.twin
        emitted = dot_peak(isa) if of_dots else multiply_add_peak(isa)

        def peak(arguments: int, part: int, parts: int) -> None:
            a = carray(pointer(arguments, _PEAK), 1)[0]
            carray(pointer(a.out, np.float32), parts)[part] = emitted(a.rounds)

        out = np.zeros(threads, np.float32)
        name = f"dot-peak-{isa.name}" if of_dots else f"multiply-add-peak-{isa.vectors}"
        entry = kernel(f"{name}-{isa.accumulators}", peak, 3)
        arguments = filled(_PEAK, {"rounds": PEAK_ROUNDS, "out": address(out)})
        a_round = dots_a_round(isa) if of_dots else isa.accumulators * isa.lanes
        self.multiply_adds = PEAK_ROUNDS * a_round * threads // max(1, terms)
        self._program = Program([Operation("peak", entry, arguments, threads, keeps=(out,))])

    def __call__(self) -> None:
        self._program.run()


class Triad:
    """A call of y ← y + x / 2 on arrays that are too large for any cache, to measure the memory's bandwidth.

    Attributes
    ----------
    nbytes : int
        Number of bytes that a call reads and writes.
    """

    def __init__(self) -> None:
        threads, size = thread_count(), BANDWIDTH_BYTES // 8
        x, y = aligned((size,)), aligned((size,))
        x[...] = 1
        arguments = filled(_TRIAD, {"x": address(x), "y": address(y), "size": size})
        entry = kernel("memory-triad", _triad, 3)
        self.nbytes = 3 * 4 * size
        self._program = Program([Operation("triad", entry, arguments, threads, keeps=(x, y))])

    def __call__(self) -> None:
        self._program.run()


def _triad(arguments: int, part: int, parts: int) -> None:
    a = carray(pointer(arguments, _TRIAD), 1)[0]
    first, last = split(a.size, parts, part)
    x = carray(pointer(a.x + first * 4, np.float32), last - first)
    y = carray(pointer(a.y + first * 4, np.float32), last - first)
    for i in range(last - first):
        y[i] += np.float32(0.5) * x[i]


def bandwidth(rounds: int = 7) -> float:
    """Return the memory's bandwidth on all threads, in bytes per second.

    Parameters
    ----------
    rounds : int
        Number of calls of `Triad`, whose median counts. Default: 7.
    """
    triad = Triad()
    triad()
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        triad()
        seconds.append(time.perf_counter() - start)
    return triad.nbytes / float(np.median(seconds))


class Watch:
    """Measures the time that other processes, and a virtual machine's host, take from this process's processors."""

    def __init__(self) -> None:
        self._start = _times()

    def foreign_share(self) -> float | None:
        """Return this share of processor time since the object was made, or None if the system does not report it."""
        start, now = self._start, _times()
        if start is None or now is None or now[2] <= start[2]:
            return None
        busy, own, total = (b - a for a, b in zip(start, now, strict=True))
        return max(0.0, busy - own) / total


def _times() -> tuple[float, float, float] | None:
    """Return seconds of the processors that this process may use: busy ones, those of this process, and all."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = os.sched_getaffinity(0)
    tick = os.sysconf("SC_CLK_TCK")
    busy = 0.0
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in allowed:
            user, nice, system, _, _, irq, softirq, steal = map(int, fields[:8])
            busy += (user + nice + system + irq + softirq + steal) / tick
    return busy, time.process_time(), len(allowed) * time.perf_counter()


def quiet(foreign_share: float | None, peak_spread: float) -> str | None:
    """Return None if a machine was otherwise idle during a measurement, else the reason why it was not.

    Parameters
    ----------
    foreign_share : float or None
        Share of processor time that other processes took, or None if it is not known.
    peak_spread : float
        Distance between the quartiles of the peak's time, over its median.
    """
    if foreign_share is not None and foreign_share > FOREIGN_SHARE:
        return f"others took {foreign_share:.0%} of the processors"
    if peak_spread > PEAK_SPREAD:
        return f"the peak varied by {peak_spread:.0%} between its quartiles"
    return None
