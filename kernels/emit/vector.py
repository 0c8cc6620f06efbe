"""The vector instruction sets that kernels can be compiled for, and the choice of the host's.

A weight panel always has ``PANEL`` columns. The layout of packed weights, the words of sign bits and the numbers drawn
are therefore the same on every machine. Only the shape of the register tile depends on the instruction set.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm

from fgnumba.errors import DeviceError, did_you_mean

PANEL = 32
"""Columns of a packed weight panel. One 32-bit word holds the signs of one row of a panel."""

CACHE_LINE = 64
"""Bytes of a cache line."""

OVERRIDE = "FGNUMBA_VECTOR"
"""Environment variable that names the instruction set to use instead of the host's widest."""


@dataclass(frozen=True)
class InstructionSet:
    """A vector instruction set, with the properties that decide the shape of the register tile.

    Parameters
    ----------
    name : str
        One of ``avx512``, ``avx2``, ``neon``, ``generic``.
    lanes : int
        Number of float32 values in a vector register.
    accumulators : int
        Number of vector registers that hold sums; the rest hold operands.
    features : tuple of str
        CPU features that the host must report for this set to be usable.
    near : int
        How many rows of W ahead of its multiplications a register tile prefetches. 0: it does not prefetch.
    """

    name: str
    lanes: int
    accumulators: int
    features: tuple[str, ...]
    near: int = 0

    def panels(self, rows: int) -> int:
        """Return how many panels a tile of `rows` rows spans: the largest of 4, 2, 1 that the accumulators allow.

        A tile of few rows needs several panels. With fewer sums in flight, each multiply-add would wait for the
        previous one.
        """
        per_panel = rows * PANEL // self.lanes
        return next((p for p in (4, 2) if p * per_panel <= self.accumulators), 1)

    @property
    def max_rows(self) -> int:
        """Number of rows of the tallest tile."""
        return max(1, self.accumulators * self.lanes // PANEL)

    @property
    def tile(self) -> str:
        """Name of the tallest tile: rows x columns, then ``+near`` if the tile prefetches, for example ``13x32+48``."""
        return f"{self.max_rows}x{PANEL}" + (f"+{self.near}" if self.near else "")


INSTRUCTION_SETS = {
    isa.name: isa
    for isa in (
        InstructionSet(
            "avx512", lanes=16, accumulators=26, features=("avx512f", "avx512vl", "avx512dq"), near=48
        ),
        InstructionSet("avx2", lanes=8, accumulators=12, features=("avx2", "fma"), near=48),
        InstructionSet("neon", lanes=4, accumulators=24, features=("neon",)),
        InstructionSet("generic", lanes=4, accumulators=8, features=()),
    )
}


@cache
def host_features() -> frozenset[str]:
    """Return the names of the features that LLVM reports for this processor."""
    features = {name for name, present in llvm.get_host_cpu_features().items() if present}
    if platform.machine().lower() in ("aarch64", "arm64"):
        features.add("neon")  # every 64-bit Arm has it, but LLVM does not always list it
    return frozenset(features)


@cache
def processor_name() -> str:
    """Return the processor's name, as the maker writes it if the system reports that."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except (OSError, ValueError):
        pass
    return platform.processor() or platform.machine()


@cache
def executable() -> tuple[str, ...]:
    """Return the names of the sets that this machine can execute, widest first. ``generic`` is always among them."""
    return tuple(name for name, isa in INSTRUCTION_SETS.items() if host_features().issuperset(isa.features))


def instruction_set(name: str | None = None) -> InstructionSet:
    """Return the instruction set called `name`.

    Parameters
    ----------
    name : str or None
        None: the set that the environment variable ``FGNUMBA_VECTOR`` names, else the widest that the host can execute.

    Raises
    ------
    DeviceError
        The name is unknown, or this machine cannot execute the set.
    """
    source = "vector"
    if name is None:
        name, source = os.environ.get(OVERRIDE) or executable()[0], OVERRIDE
    if name not in INSTRUCTION_SETS:
        raise DeviceError(f"{source}: unknown instruction set {name!r}{did_you_mean(name, INSTRUCTION_SETS)}")
    if name not in executable():
        raise DeviceError(
            f"{source}: this processor cannot execute {name!r}; it has {', '.join(executable())}"
        )
    return INSTRUCTION_SETS[name]
