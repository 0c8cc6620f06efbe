"""Machine code of GPU kernels, compiled without a GPU: its registers, memory and instructions.

Source of limits: CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability".
"""

import multiprocessing
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fgnumba.errors import ConfigError
from fgnumba.kernels.cuda.kernel import KERNELS, Kernel
from fgnumba.kernels.machine.threads import thread_count

KIB = 1024
SHARED_A_PROCESSOR = {"sm_80": 164 * KIB, "sm_90": 228 * KIB}
"""Architectures, with the bytes of shared memory that all blocks on a multiprocessor share."""
REGISTERS_A_PROCESSOR, WARPS_A_PROCESSOR, BLOCKS_A_PROCESSOR = 65536, 64, 32
WARP = 32

DOUBLES = ("DADD", "DFMA", "DMUL", "DSETP")
LOCAL = ("LDL", "STL")
COUNTED = (
    *("BAR", "CALL", *DOUBLES, "FADD.FTZ", "FFMA.FTZ", "FMUL.FTZ", "HMMA"),
    *("LDG", "LDG.E.128", "LDGSTS", *LOCAL, "LDS", "LDS.128", "MUFU", "SHFL"),
    *("STG", "STG.E.128", "STS", "STS.128"),
)
"""Instructions that a row counts, besides those that its kernel declares."""

TASKS_A_WORKER = 8
"""Number of compilations for which another process is started, which takes seconds."""

_OPCODE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
# PTX is searched: the SASS instructions of a correctly rounded division or root have no modifier.
_FLOAT32 = re.compile(r"(?<![.\w])(?:add|div|ex2|fma|lg2|max|min|mul|rcp|r?sqrt|setp|sub)\.\S*f32(?:x2)?\b")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
FRAME_FIELDS = ("stack", "spill_stores", "spill_loads")
"""Fields of a row that must be 0, so that the table has no place for them."""


@dataclass(frozen=True)
class Row:
    """The resources and instructions of a kernel's machine code for one architecture.

    Parameters
    ----------
    kernel : str
        Name of the kernel; in the table, of the kernel or of its family.
    arch : str
        The architecture, such as ``sm_90``.
    registers : int
        Registers of a thread.
    shared : int
        Bytes of shared memory of a block.
    barriers : int
        Number of barriers in use.
    instructions : int
        Number of instructions.
    opcodes : dict
        How often each instruction that is counted occurs.
    ptxas : str
        Version of the assembler.
    plain : int
        Number of float32 instructions that do not flush subnormal numbers to zero.
    stack : int
        Bytes of the stack frame.
    spill_stores : int
        Bytes of spilled registers that are stored.
    spill_loads : int
        Bytes of spilled registers that are loaded.
    """

    kernel: str
    arch: str
    registers: int
    shared: int
    barriers: int
    instructions: int
    opcodes: dict[str, int]
    ptxas: str
    plain: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """The kernel and the architecture, which identify a row."""
        return self.kernel, self.arch


@cache
def tool(name: str) -> str:
    """Return the path of one of CUDA's programs; those of the environment's packages come first.

    Parameters
    ----------
    name : str
        Name of the program.

    Returns
    -------
    str
        Its path.

    Raises
    ------
    ConfigError
        It is not installed.
    """
    try:
        from cuda import pathfinder
    except ImportError:
        raise ConfigError("numba-cuda is not installed: pip install -e '.[gate]'") from None
    path = pathfinder.find_nvidia_binary_utility(name) or shutil.which(name)
    if path is None:
        raise ConfigError(f"{name} is not installed: pip install -e '.[gate]'")
    return str(path)


@cache
def version() -> str:
    """Return the version of ptxas."""
    text = _run(tool("ptxas"), "--version")
    match = re.search(r"V(\d[\d.]*)", text)
    return match[1] if match else text.strip()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{Path(command[0]).name}: {(done.stderr or done.stdout).strip()}")
    return done.stdout + done.stderr


def resources(text: str) -> dict[str, int]:
    """Return the resources that ``ptxas -v`` reports for a kernel, with the functions that it calls.

    Parameters
    ----------
    text : str
        The output of ``ptxas -v``.

    Returns
    -------
    dict
        Registers, barriers, shared memory, and the fields of the frame.

    Raises
    ------
    ConfigError
        The text names no registers.
    """
    used = re.search(r"Used (\d+) registers", text)
    if used is None:
        raise ConfigError(f"ptxas names no registers: {text.strip()}")
    barriers, shared = re.search(r"used (\d+) barriers", text), re.search(r"(\d+) bytes smem", text)
    frames = [tuple(map(int, frame)) for frame in _FRAME.findall(text)]
    return {
        "registers": int(used[1]),
        "barriers": int(barriers[1]) if barriers else 0,
        "shared": int(shared[1]) if shared else 0,
        **{name: sum(frame[i] for frame in frames) for i, name in enumerate(FRAME_FIELDS)},
    }


def opcodes(sass: str) -> Counter[str]:
    """Return how often each opcode with its modifiers occurs in the output of nvdisasm; padding is left out."""
    counts = Counter(_OPCODE.findall(sass))
    del counts["NOP"]
    return counts


def occurrences(found: Counter[str], wanted: str) -> int:
    """Return how often an opcode occurs with at least the given modifiers.

    Parameters
    ----------
    found : Counter
        How often each opcode with its modifiers occurs.
    wanted : str
        The opcode and its modifiers: ``LDG.E.128`` counts ``LDG.E.128.CONSTANT`` too.

    Returns
    -------
    int
        Number of instructions.
    """
    name, *modifiers = wanted.split(".")
    total = 0
    for opcode, count in found.items():
        base, *present = opcode.split(".")
        total += count * (base == name and set(modifiers) <= set(present))
    return total


def compiled(kernel: Kernel, arch: str) -> Row:
    """Compile a kernel, and return the resources and instructions of its machine code.

    Parameters
    ----------
    kernel : Kernel
        The kernel.
    arch : str
        The architecture.

    Returns
    -------
    Row
        The kernel's row.

    Raises
    ------
    ConfigError
        ptxas refuses the kernel.
    """
    from fgnumba.kernels.cuda import target

    capability = int(arch[3:-1]), int(arch[-1])
    text = target.ptx(kernel.function, kernel.kinds, kernel.threads, kernel.resident, capability)
    with tempfile.TemporaryDirectory() as temporary:
        source, code = Path(temporary) / "kernel.ptx", Path(temporary) / "kernel.cubin"
        source.write_text(text, encoding="utf-8")
        said = _run(tool("ptxas"), "-v", f"-arch={arch}", str(source), "-o", str(code))
        found = opcodes(_run(tool("nvdisasm"), "-c", str(code)))
    counts = {name: occurrences(found, name) for name in {*COUNTED, *kernel.opcodes}}
    plain = sum(".ftz" not in instruction for instruction in _FLOAT32.findall(text))
    return Row(
        kernel=kernel.name,
        plain=plain,
        arch=arch,
        instructions=found.total(),
        opcodes={name: counts[name] for name in sorted(counts) if counts[name]},
        ptxas=version(),
        **resources(said),
    )


def _compile(task: tuple[str, str]) -> Row | str:
    name, arch = task
    try:
        return compiled(KERNELS[name], arch)
    # An error of a compiler concerns this kernel only: the others are still compiled.
    except Exception as error:
        return f"{name} {arch}: {type(error).__name__}: {str(error).strip()}"


def compile_all(tasks: Sequence[tuple[str, str]], load: Callable[[], object]) -> tuple[list[Row], list[str]]:
    """Compile kernels on all processors.

    Parameters
    ----------
    tasks : sequence of (str, str)
        Names of kernels, each with an architecture.
    load : callable
        Imports the kernels' modules in a new process.

    Returns
    -------
    tuple of list
        A row for each kernel and architecture, and a line for each that could not be compiled.
    """
    workers = min(thread_count(), -(-len(tasks) // TASKS_A_WORKER))
    if workers <= 1:
        results = [_compile(task) for task in tasks]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=load) as pool:
            results = list(pool.map(_compile, tasks, chunksize=TASKS_A_WORKER // 2))
    rows = [result for result in results if isinstance(result, Row)]
    return rows, [result for result in results if isinstance(result, str)]


def resident_blocks(arch: str, threads: int, registers: int, shared: int) -> int:
    """Return the number of blocks of a kernel that a multiprocessor can hold at once.

    A warp gets registers in multiples of 256, and each of a multiprocessor's four quarters holds as many warps. A block
    gets shared memory in multiples of 128 bytes, after 1 KiB for the system.

    Parameters
    ----------
    arch : str
        The architecture.
    threads : int
        Threads of a block.
    registers : int
        Registers of a thread.
    shared : int
        Bytes of shared memory of a block.

    Returns
    -------
    int
        Number of blocks.
    """
    warps = -(-threads // WARP)
    warps_by_registers = REGISTERS_A_PROCESSOR // (-(-max(registers, 1) // 8) * 8 * WARP) // 4 * 4
    by_shared = SHARED_A_PROCESSOR[arch] // (-(-shared // 128) * 128 + KIB)
    return min(BLOCKS_A_PROCESSOR, WARPS_A_PROCESSOR // warps, warps_by_registers // warps, by_shared)
