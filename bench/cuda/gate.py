"""Machine code of all GPU kernels against what it was, without a GPU: ``python -m fgnumba.bench.cuda_gate``.

Every kernel is compiled for the architectures in ``SHARED_A_PROCESSOR``, and its machine code read: registers, memory,
instructions. A kernel is refused that uses local memory (spilled registers, a stack frame), or too much for the blocks
that a processor is to hold, that lacks an instruction it declares, or that grew over its row in
``results/cuda_gate.json``. Exit status: 0, 1 where one is refused, 2 where the gate itself could not run.

Source of limits: CUDA C++ Programming Guide, table "Technical Specifications per Compute Capability".
"""

import importlib
import json
import multiprocessing
import pkgutil
import re
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import click

from fgnumba import kernels
from fgnumba.errors import ConfigError, FgError, did_you_mean
from fgnumba.kernels import OPERATIONS, RULES, module_name
from fgnumba.kernels.cuda.kernel import KERNELS, Kernel
from fgnumba.kernels.machine.threads import thread_count

TABLE = Path(__file__).parents[1] / "results" / "cuda_gate.json"

KIB = 1024
SHARED_A_PROCESSOR = {"sm_80": 164 * KIB, "sm_90": 228 * KIB}
"""Architectures, with the bytes of shared memory that the blocks on a processor have together."""
SHARED_A_BLOCK = 48 * KIB
"""Bytes that a kernel can ask for as a literal number."""
REGISTERS_A_PROCESSOR, WARPS_A_PROCESSOR, BLOCKS_A_PROCESSOR = 65536, 64, 32
WARP = 32

GROWTH, SLACK = 1.1, 4
"""Registers may become so many times as many, and so many more: ptxas differs that much from version to version."""

DOUBLES = ("DADD", "DFMA", "DMUL", "DSETP")
LOCAL = ("LDL", "STL")
COUNTED = (
    *(
        "BAR",
        "CALL",
        *DOUBLES,
        "FADD.FTZ",
        "FFMA.FTZ",
        "FMUL.FTZ",
        "HMMA",
        "LDG",
        "LDG.E.128",
        "LDGSTS",
        *LOCAL,
    ),
    *("LDS", "LDS.128", "MUFU", "SHFL", "STG", "STG.E.128", "STS", "STS.128"),
)
"""Instructions that a row counts, besides those that its kernel declares."""

TASKS_A_WORKER = 8
"""Compilations that are worth a process, which takes seconds to start."""

_OPCODE = re.compile(r"^\s*/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]*)", re.MULTILINE)
# The assembler's own steps of a correctly rounded division or root have no modifier: so PTX is what is looked at.
_FLOAT32 = re.compile(r"(?<![.\w])(?:add|div|ex2|fma|lg2|max|min|mul|rcp|r?sqrt|setp|sub)\.\S*f32(?:x2)?\b")
_FRAME = re.compile(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads")
_NOT_KEPT = ("stack", "spill_stores", "spill_loads")


@dataclass(frozen=True)
class Row:
    """A kernel's machine code: bytes, except registers (of a thread), barriers, instructions and counts of opcodes.

    `plain` counts arithmetic that does not flush subnormal numbers.
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
        """What tells rows apart."""
        return self.kernel, self.arch


def load() -> list[str]:
    """Import whatever defines GPU kernels; return the operations that have no module for a GPU."""
    for module in pkgutil.walk_packages(kernels.__path__, "fgnumba.kernels."):
        # The compiler's side has no kernels, and wants numba-cuda.
        if not module.name.endswith((".target", ".lowering")):
            importlib.import_module(module.name)
    missing = []
    for operation in (*OPERATIONS, *RULES):
        name = module_name(operation, "cuda")
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name != name:
                raise
            missing.append(operation)
    return missing


@cache
def tool(name: str) -> str:
    """Return where one of CUDA's programs is, in the environment's packages first; ConfigError where it is not."""
    try:
        from cuda import pathfinder
    except ImportError:
        raise ConfigError("numba-cuda is not installed: pip install -e '.[gate]'") from None
    found = pathfinder.find_nvidia_binary_utility(name) or shutil.which(name)
    if found is None:
        raise ConfigError(f"{name} is not installed: pip install -e '.[gate]'")
    return str(found)


@cache
def version() -> str:
    """Return the version of ptxas."""
    text = _run(tool("ptxas"), "--version")
    found = re.search(r"V(\d[\d.]*)", text)
    return found[1] if found else text.strip()


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigError(f"{Path(command[0]).name}: {(done.stderr or done.stdout).strip()}")
    return done.stdout + done.stderr


def resources(text: str) -> dict[str, int]:
    """Return what ``ptxas -v`` says that a kernel uses, functions that it calls included."""
    used = re.search(r"Used (\d+) registers", text)
    if used is None:
        raise ConfigError(f"ptxas names no registers: {text.strip()}")
    barriers, shared = re.search(r"used (\d+) barriers", text), re.search(r"(\d+) bytes smem", text)
    frames = [tuple(map(int, frame)) for frame in _FRAME.findall(text)]
    return {
        "registers": int(used[1]),
        "barriers": int(barriers[1]) if barriers else 0,
        "shared": int(shared[1]) if shared else 0,
        **{name: sum(frame[i] for frame in frames) for i, name in enumerate(_NOT_KEPT)},
    }


def opcodes(sass: str) -> Counter[str]:
    """Return how often each opcode with its modifiers stands in what nvdisasm prints, but for padding."""
    found = Counter(_OPCODE.findall(sass))
    del found["NOP"]
    return found


def occurrences(found: Counter[str], wanted: str) -> int:
    """Return how often an opcode occurs with at least the modifiers named: LDG.E.128 counts LDG.E.128.CONSTANT too."""
    name, *modifiers = wanted.split(".")
    total = 0
    for opcode, count in found.items():
        base, *present = opcode.split(".")
        total += count * (base == name and set(modifiers) <= set(present))
    return total


def compiled(kernel: Kernel, arch: str) -> Row:
    """Return what a kernel's machine code for an architecture is made of; ConfigError where ptxas refuses it."""
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
    # Whatever a compiler raises concerns this kernel: the others are looked at all the same.
    except Exception as error:
        return f"{name} {arch}: {type(error).__name__}: {str(error).strip()}"


def compile_all(tasks: Sequence[tuple[str, str]]) -> tuple[list[Row], list[str]]:
    """Return a row for each kernel and architecture, and what could not be compiled; on all processors."""
    workers = min(thread_count(), -(-len(tasks) // TASKS_A_WORKER))
    if workers <= 1:
        found = [_compile(task) for task in tasks]
    else:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context, initializer=load) as pool:
            found = list(pool.map(_compile, tasks, chunksize=TASKS_A_WORKER // 2))
    rows = [one for one in found if isinstance(one, Row)]
    return rows, [one for one in found if isinstance(one, str)]


def resident_blocks(arch: str, threads: int, registers: int, shared: int) -> int:
    """Return the blocks of a kernel that a processor can hold at once.

    Registers are given to warps by 256, and to warps of a processor's four quarters alike; shared memory to blocks
    by 128 bytes, after 1 KiB for the system.
    """
    warps = -(-threads // WARP)
    warps_by_registers = REGISTERS_A_PROCESSOR // (-(-max(registers, 1) // 8) * 8 * WARP) // 4 * 4
    by_shared = SHARED_A_PROCESSOR[arch] // (-(-shared // 128) * 128 + KIB)
    return min(BLOCKS_A_PROCESSOR, WARPS_A_PROCESSOR // warps, warps_by_registers // warps, by_shared)


def faults(row: Row, kernel: Kernel) -> list[str]:
    """Return what is wrong with a kernel, whatever it was before."""
    found = []
    if row.spill_stores or row.spill_loads:
        found.append(f"spills registers: {row.spill_stores} bytes stored, {row.spill_loads} bytes loaded")
    if row.stack:
        found.append(f"a stack frame of {row.stack} bytes")
    accesses = sum(row.opcodes.get(opcode, 0) for opcode in LOCAL)
    if accesses:
        found.append(f"{accesses} accesses to local memory (LDL, STL)")
    if row.plain:
        found.append(f"{row.plain} float32 instructions without .ftz: subnormal numbers would not be zero")
    if row.shared > SHARED_A_BLOCK:
        found.append(f"{row.shared} bytes of shared memory, {SHARED_A_BLOCK} is the most")
    blocks = resident_blocks(row.arch, kernel.threads, row.registers, row.shared)
    if blocks < kernel.resident:
        found.append(
            f"a processor holds {blocks} of its blocks, {kernel.resident} are wanted: {kernel.threads} threads, "
            f"{row.registers} registers each, {row.shared} bytes of shared memory"
        )
    found += [f"no {opcode}, which it declares" for opcode in kernel.opcodes if not row.opcodes.get(opcode)]
    return found


def growth(row: Row, before: Row | None) -> list[str]:
    """Return where a kernel is worse than it was; that it has no row yet is one."""
    if before is None:
        return [f"not in {TABLE.name}"]
    found = []
    if row.registers > before.registers * GROWTH + SLACK:
        found.append(f"{row.registers} registers, {before.registers} in {TABLE.name}")
    if row.shared > before.shared:
        found.append(f"{row.shared} bytes of shared memory, {before.shared} in {TABLE.name}")
    # A literal without a type makes float32 arithmetic float64: rarely seen in results, a disaster for time.
    if not _doubles(before) and _doubles(row):
        found.append(f"{_doubles(row)} float64 instructions, none in {TABLE.name}")
    if found and row.ptxas != before.ptxas:
        found.append(f"ptxas {row.ptxas}, the table is of {before.ptxas}")
    return found


def _doubles(row: Row) -> int:
    return sum(row.opcodes.get(opcode, 0) for opcode in DOUBLES)


def read() -> dict[tuple[str, str], Row]:
    """Return the table."""
    if not TABLE.exists():
        return {}
    try:
        rows = [Row(**row) for row in json.loads(TABLE.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{TABLE}: not a table of this gate's: {error}") from None
    return {row.key: row for row in rows}


def write(rows: Iterable[Row]) -> None:
    """Write the table, a line a row."""
    kept = [
        {name: value for name, value in asdict(row).items() if name not in (*_NOT_KEPT, "plain")}
        for row in sorted(rows, key=lambda row: row.key)
    ]
    TABLE.write_text("[\n" + ",\n".join(map(json.dumps, kept)) + "\n]\n", encoding="utf-8")


def markdown(rows: Iterable[Row]) -> str:
    """Return rows as a table for people."""
    lines = [
        "| kernel | | registers | shared | blocks a processor | instructions | of them |",
        "| --- | --- | ---: | ---: | ---: | ---: | --- |",
    ]
    for row in rows:
        blocks = resident_blocks(row.arch, KERNELS[row.kernel].threads, row.registers, row.shared)
        counts = ", ".join(f"{count} {name}" for name, count in row.opcodes.items())
        numbers = f"{row.registers} | {row.shared} | {blocks} | {row.instructions}"
        lines.append(f"| {row.kernel} | {row.arch} | {numbers} | {counts} |")
    return "\n".join(lines)


def summary(rows: Sequence[Row]) -> str:
    """Return in a line what was compiled, and what used the most registers."""
    kernels, archs = {row.kernel for row in rows}, sorted({row.arch for row in rows})
    most = max(rows, key=lambda row: row.registers, default=None)
    registers = f", at most {most.registers} registers ({most.kernel} {most.arch})" if most else ""
    return f"ptxas {version()}: {len(kernels)} kernels for {' and '.join(archs) or 'nothing'}{registers}"


def _selected(names: Sequence[str]) -> list[str]:
    """Return the kernels that match one of the names or patterns, all of them where there are none."""
    for name in names:
        if not any(fnmatch(one, name) for one in KERNELS):
            raise ConfigError(f"kernel: unknown kernel {name!r}{did_you_mean(name, KERNELS)}")
    return sorted(one for one in KERNELS if not names or any(fnmatch(one, name) for name in names))


def check(names: Sequence[str], archs: Sequence[str], update: bool) -> tuple[list[Row], list[str]]:
    """Return the rows of kernels and what is refused; rewrite their rows in the table, except those refused.

    Parameters
    ----------
    names : kernels, or patterns of them; all where empty. archs : all where empty.
    update : let kernels differ from the table, and write it.
    """
    for name in ("ptxas", "nvdisasm"):
        tool(name)
    table = read()
    missing = load()
    tasks = [(name, arch) for name in _selected(names) for arch in archs or SHARED_A_PROCESSOR]
    rows, refused = compile_all(tasks)
    accepted = {}
    for row in rows:
        found = faults(row, KERNELS[row.kernel]) + ([] if update else growth(row, table.get(row.key)))
        refused += [f"{row.kernel} {row.arch}: {fault}" for fault in found]
        if not found:
            accepted[row.key] = row
    gone = [key for key in table if key[0] not in KERNELS or key[1] not in SHARED_A_PROCESSOR]
    if update:
        write(({key: row for key, row in table.items() if key not in gone} | accepted).values())
    elif not names and not archs:
        refused += [f"{' '.join(key)}: in {TABLE.name}, but there is no such kernel" for key in gone]
    if not names:
        refused += [f"{name}: kernels/{name}/cuda.py does not exist" for name in missing]
    return rows, refused


class _NotRunError(click.ClickException):
    exit_code = 2


@click.command()
@click.option("--update", is_flag=True, help="Rewrite the rows of these kernels in the table.")
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Write what was found.")
@click.option("--arch", "archs", multiple=True, type=click.Choice(sorted(SHARED_A_PROCESSOR)))
@click.option("--kernel", "names", multiple=True, metavar="NAME", help="A kernel, or a pattern of names.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print a table of what was found.")
def command(
    update: bool, file: Path | None, archs: tuple[str, ...], names: tuple[str, ...], as_markdown: bool
) -> None:
    """Compile GPU kernels and refuse what became worse; no GPU is needed."""
    start = time.perf_counter()
    try:
        rows, refused = check(names, archs, update)
        if file is not None:
            found = {"refused": refused, "rows": [asdict(row) for row in rows]}
            file.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    except (FgError, OSError) as error:
        raise _NotRunError(str(error)) from None
    if as_markdown:
        click.echo(markdown(rows) + "\n")
    for line in refused:
        click.echo(f"refused: {line}", err=True)
    click.echo(f"{summary(rows)}, {len(refused)} refused; {time.perf_counter() - start:.0f} s")
    if refused:
        click.echo("CONTRIBUTING.md says what to do about kernels that are refused", err=True)
        raise SystemExit(1)


if __name__ == "__main__":
    command()
