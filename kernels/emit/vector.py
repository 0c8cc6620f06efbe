"""The vector instructions that the kernels are emitted for, chosen from the host.

A weight panel is always ``PANEL`` columns wide, whatever the host: packed weights, sign words and results of
the generators therefore do not depend on the instruction set. Only the register tile's shape does.
"""

import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import llvmlite.binding as llvm

from fgnumba.errors import DeviceError, did_you_mean

PANEL = 32
"""Columns of a packed weight panel; one 32-bit word of signs covers a panel's row."""

CACHE_LINE = 64

OVERRIDE = "FGNUMBA_VECTOR"


@dataclass(frozen=True)
class InstructionSet:
    """A vector instruction set, as far as a register tile needs to know it.

    Parameters
    ----------
    name : one of ``avx512``, ``avx2``, ``neon``, ``generic``.
    lanes : float32 values in a vector register.
    accumulators : vector registers that hold sums; what is left holds operands.
    features : CPU features that the host must report for the set to run at full speed.
    near : how many rows ahead of those that it multiplies a register tile asks for W; 0: it does not.
    """

    name: str
    lanes: int
    accumulators: int
    features: tuple[str, ...]
    near: int = 0

    def panels(self, rows: int) -> int:
        """Panels that a tile of `rows` rows spans: as many of 4, 2, 1 as the accumulators allow.

        Few rows need several panels, or the latency of a multiply-add would show.
        """
        per_panel = rows * PANEL // self.lanes
        return next((p for p in (4, 2) if p * per_panel <= self.accumulators), 1)

    @property
    def max_rows(self) -> int:
        """Rows of the tallest tile."""
        return max(1, self.accumulators * self.lanes // PANEL)

    @property
    def tile(self) -> str:
        """Name of the tallest tile: rows x columns, and ``+near``."""
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
    """Names of the features that LLVM reports for this processor."""
    features = {name for name, present in llvm.get_host_cpu_features().items() if present}
    if platform.machine().lower() in ("aarch64", "arm64"):
        features.add("neon")  # part of every 64-bit Arm, and not always listed
    return frozenset(features)


@cache
def processor_name() -> str:
    """Name of the processor, as its maker writes it where the system says so."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except (OSError, ValueError):
        pass
    return platform.processor() or platform.machine()


@cache
def executable() -> tuple[str, ...]:
    """Names of the sets that this machine can execute, widest first; ``generic`` is always among them."""
    return tuple(name for name, isa in INSTRUCTION_SETS.items() if host_features().issuperset(isa.features))


def instruction_set(name: str | None = None) -> InstructionSet:
    """Return the set called `name`, else the one that ``FGNUMBA_VECTOR`` names, else the host's widest.

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
