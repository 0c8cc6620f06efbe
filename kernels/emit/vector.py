"""The instruction sets that kernels can be compiled for, and the choice of the host's.

Some sets also multiply bfloat16, see :mod:`fgnumba.kernels.emit.precision`. Each of those has a *twin*, which computes
the same bits with the vector instructions that every machine has. A twin is slow: it is for tests, and for taking up on
one machine what began on another. It is used only where it is named.

A weight panel always has ``PANEL`` columns. The layout of packed weights, the words of sign bits and the numbers drawn
are therefore the same on every machine. Only the shape of the register tile depends on the instruction set.
"""

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, wraps
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import llvmlite.binding as llvm

from fgnumba.errors import DeviceError, did_you_mean
from fgnumba.kernels.emit.precision import FLOAT32, PRECISIONS
from fgnumba.kernels.emit.tile_permission import refusal

PANEL = 32
"""Columns of a packed weight panel. One 32-bit word holds the signs of one row of a panel."""

CACHE_LINE = 64
"""Bytes of a cache line."""

OVERRIDE = "FGNUMBA_VECTOR"
"""Environment variable that names the instruction set to use instead of the host's widest."""


@dataclass(frozen=True)
class InstructionSet:
    """An instruction set, with the properties that decide the shape of the register tile, and how products multiply.

    Parameters
    ----------
    name : str
        One of ``amx``, ``avx512bf16``, ``avx512``, ``avx2``, ``bfmmla``, ``neon``, ``generic``, or the name of a twin,
        such as ``amx-twin``.
    lanes : int
        Number of float32 values in a vector register.
    accumulators : int
        Number of vector registers that hold sums; the rest hold operands.
    features : tuple of str
        CPU features that the host must report for this set to be usable.
    near : int
        How many rows of W ahead of its multiplications a register tile prefetches. 0: it does not prefetch.
    vectors : str
        Name of the set whose float32 kernels this one uses. By default its own.
    dots : str
        How the set multiplies bfloat16: in ``pairs`` (``vdpbf16ps``), ``tiles`` (AMX) or ``quads`` (``bfmmla``).
        Empty: it does not.
    twin : bool
        Whether products of bfloat16 are computed by other instructions, to the same bits.
    precision, tangent_precision : str
        How the factors of the primal's products, and of the tangents', are represented, see
        :mod:`fgnumba.kernels.emit.precision`.
    """

    name: str
    lanes: int
    accumulators: int
    features: tuple[str, ...]
    near: int = 0
    vectors: str = ""
    dots: str = ""
    twin: bool = False
    precision: str = FLOAT32
    tangent_precision: str = FLOAT32

    def __post_init__(self) -> None:
        if not self.vectors:
            object.__setattr__(self, "vectors", self.name)

    def multiplying(
        self,
        precision: str,
        tangent_precision: str | None = None,
        sources: tuple[str, str] = ("precision", "tangent_precision"),
    ) -> "InstructionSet":
        """Return this set with other precisions of products.

        Parameters
        ----------
        precision, tangent_precision : str
            Names in ``precision.PRECISIONS``. A `tangent_precision` of None is the same as `precision`.
        sources : tuple of 2 str
            What named them, for the message of an error.

        Raises
        ------
        DeviceError
            The set does not multiply bfloat16, and a precision needs that.
        """
        tangent = precision if tangent_precision is None else tangent_precision
        for source, value in zip(sources, (precision, tangent), strict=True):
            if PRECISIONS[value].parts and not self.dots:
                able = [name for name in executable() if name in MULTIPLYING]
                used = f", of which {self.name} is used" if able else ""
                way = able[0] if able else f"{MULTIPLYING[0]}-twin (slow)"
                raise DeviceError(
                    f"{source}: {value} needs a processor that multiplies bfloat16 ({', '.join(MULTIPLYING)}); this "
                    f"one has {', '.join(executable())}{used}; use float32, or {OVERRIDE}={way}"
                )
        return replace(self, precision=precision, tangent_precision=tangent)

    @property
    def splits(self) -> bool:
        """Whether one of the precisions has parts."""
        return any(PRECISIONS[name].parts for name in (self.precision, self.tangent_precision))

    @property
    def plain(self) -> "InstructionSet":
        """What kernels depend on that multiply no bfloat16: the same for all sets with these vectors and this tile."""
        bare = replace(self, name=self.vectors, features=(), dots="", twin=False)
        return bare.multiplying(FLOAT32)

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


_Given = ParamSpec("_Given")
_Made = TypeVar("_Made")


def of_vectors(
    make: Callable[Concatenate[InstructionSet, _Given], _Made],
) -> Callable[Concatenate[InstructionSet, _Given], _Made]:
    """Return a function whose results are cached, and that gets the ``plain`` form of its instruction set.

    A kernel that closes over a whole set would be compiled anew for each precision.
    """
    made: Callable[..., _Made] = cache(make)

    @wraps(make)
    def of(isa: InstructionSet, *given: _Given.args, **named: _Given.kwargs) -> _Made:
        return made(isa.plain, *given, **named)

    return of


_AVX512 = InstructionSet(
    "avx512", lanes=16, accumulators=26, features=("avx512f", "avx512vl", "avx512dq"), near=48
)
_NEON = InstructionSet("neon", lanes=4, accumulators=24, features=("neon",))
_MULTIPLYING = (
    replace(
        _AVX512,
        name="amx",
        dots="tiles",
        features=(*_AVX512.features, "avx512bw", "avx512bf16", "amx-tile", "amx-bf16"),
    ),
    replace(_AVX512, name="avx512bf16", dots="pairs", features=(*_AVX512.features, "avx512bw", "avx512bf16")),
    replace(_NEON, name="bfmmla", dots="quads", features=("neon", "bf16")),
)

MULTIPLYING = tuple(isa.name for isa in _MULTIPLYING)
"""Names of the sets that multiply bfloat16."""

INSTRUCTION_SETS = {
    isa.name: isa
    for isa in (
        *_MULTIPLYING[:2],
        _AVX512,
        InstructionSet("avx2", lanes=8, accumulators=12, features=("avx2", "fma"), near=48),
        _MULTIPLYING[2],
        _NEON,
        InstructionSet("generic", lanes=4, accumulators=8, features=()),
    )
}

TWINS = {f"{isa.name}-twin": replace(isa, name=f"{isa.name}-twin", twin=True) for isa in _MULTIPLYING}
"""The twins of the sets that multiply bfloat16. Every machine can execute them."""


@cache
def host_features() -> frozenset[str]:
    """Return the names of the features that LLVM reports for this processor."""
    features = {name for name, present in llvm.get_host_cpu_features().items() if present}
    if platform.machine().lower() in ("aarch64", "arm64"):
        features.add("neon")  # every 64-bit Arm has it, but LLVM does not always list it
        # Nor does it list bf16, which the code generator uses if it knows the processor by its name.
        if llvm.get_host_cpu_name() != "generic" and "bf16" in _processor_field("Features").split():
            features.add("bf16")
    return frozenset(features)


@cache
def processor_name() -> str:
    """Return the processor's name, as the maker writes it if the system reports that."""
    return _processor_field("model name") or platform.processor() or platform.machine()


def _processor_field(name: str) -> str:
    """Return what Linux says about the first processor under `name`; empty if it says nothing."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except (OSError, ValueError):
        return ""
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith(name) and ":" in line), ""
    )


@cache
def executable() -> tuple[str, ...]:
    """Return the names of the sets that this machine can execute, widest first. ``generic`` is always among them."""
    return tuple(
        name
        for name, isa in INSTRUCTION_SETS.items()
        if host_features().issuperset(isa.features) and not (isa.dots == "tiles" and refusal())
    )


def instruction_set(name: str | None = None) -> InstructionSet:
    """Return the instruction set called `name`.

    Parameters
    ----------
    name : str or None
        None: the set that the environment variable ``FGNUMBA_VECTOR`` names, else the widest that the host can execute.

    Raises
    ------
    DeviceError
        The name is unknown, or this machine cannot execute the set. A twin can always be executed.
    """
    source = "vector"
    if name is None:
        name, source = os.environ.get(OVERRIDE) or executable()[0], OVERRIDE
    if name in TWINS:
        return TWINS[name]
    if name not in INSTRUCTION_SETS:
        known = (*INSTRUCTION_SETS, *TWINS)
        raise DeviceError(f"{source}: unknown instruction set {name!r}{did_you_mean(name, known)}")
    if name not in executable():
        raise DeviceError(
            f"{source}: this processor cannot execute {name!r}; it has {', '.join(executable())}"
        )
    return INSTRUCTION_SETS[name]
