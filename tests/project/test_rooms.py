"""Rooms: which folder may import which, public names that keep importing, and no rings."""

import ast
import importlib
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import fgnumba as fg
from tests.places import ROOT

ROOMS = (
    # What every room may use.
    *("fgnumba.errors", "fgnumba.objects", "fgnumba.validation", "fgnumba.uninterrupted", "fgnumba.colours"),
    # Kernels know arrays and numbers, no layers.
    *("fgnumba.kernels.emit", "fgnumba.kernels.machine", "fgnumba.kernels.layout", "fgnumba.kernels.cuda"),
    *("fgnumba.kernels.rules", "fgnumba.kernels.shared", "fgnumba.kernels.ops", "fgnumba.kernels.devices"),
    # The library.
    *("fgnumba.device", "fgnumba.functions", "fgnumba.operations", "fgnumba.storage"),
    *("fgnumba.datasets", "fgnumba.layers"),
    *(
        "fgnumba.model",
        "fgnumba.optimizers",
        "fgnumba.estimators",
        "fgnumba.training",
        "fgnumba.minimization",
        "fgnumba.testing",
        "fgnumba.sklearn",
        "fgnumba.runs",
        "fgnumba.interchange",
    ),
    # What uses it.
    *("fgnumba.bench", "fgnumba.cli"),
)
"""Each may import those before it and none after it, types included."""

NARROW = {
    "fgnumba.objects": {"fgnumba.errors"},
    "fgnumba.validation": {"fgnumba.errors"},
    "fgnumba.uninterrupted": set(),
    "fgnumba.colours": set(),
    "fgnumba.functions": {"fgnumba.errors", "fgnumba.validation", "fgnumba.kernels.machine"},
    "fgnumba.storage": {"fgnumba.errors", "fgnumba.validation", "fgnumba.uninterrupted"},
    # How much memory there is decides what may be read.
    "fgnumba.datasets": {
        "fgnumba.errors",
        "fgnumba.objects",
        "fgnumba.validation",
        "fgnumba.storage",
        "fgnumba.kernels.machine",
    },
}
"""Rooms that know little of what stands before them."""

DOORS = ("fgnumba", "fgnumba.__main__", "fgnumba.kernels")
"""Modules of no room: each is a list of what lies below it, or starts the command."""

PUBLIC = {
    "callbacks": (
        "BestCheckpoint",
        "CSVLogger",
        "Callback",
        "EarlyStopping",
        "History",
        "Record",
        "StepResult",
    ),
    "datasets": ("Dataset", "load", "read_idx", "validation_split"),
    "device": ("cuda", "resolve"),
    "directions": ("Gaussian", "Orthogonal", "Rademacher", "RankOne"),
    "errors": (
        "ConfigError",
        "DatasetError",
        "DeviceError",
        "DivergenceError",
        "FgError",
        "RunError",
        "ShapeError",
    ),
    "functions": ("beale", "rosenbrock"),
    "losses": ("BinaryCrossEntropy", "Huber", "Loss", "MeanSquaredError", "SoftmaxCrossEntropy"),
    "replay": ("replay", "visits"),
    "schedules": ("Constant", "Cosine", "Exponential", "MeasuredRate", "Warmup"),
}
"""Modules that people import, and names that they take from them."""
COMMANDS = (
    *("fgnumba", "fgnumba.bench.compare", "fgnumba.bench.cuda", "fgnumba.bench.cuda_gate"),
    *("fgnumba.bench.neighbours", "fgnumba.bench.precision"),
    *("fgnumba.bench.results", "fgnumba.bench.revisions"),
    *(
        "tests.determinism_run",
        "tests.functions.differential",
        "tests.fuzz",
        "tests.guarded",
        "tests.processors",
        "tests.state_machine",
    ),
)
LARGEST_RING = 3


@cache
def modules() -> dict[str, Path]:
    """Return every module of the library by name."""
    result = {}
    for folder, package in (
        ("fgnumba", "fgnumba"),
        *((n, f"fgnumba.{n}") for n in ("kernels", "cli", "bench")),
    ):
        top = ROOT / folder
        for path in top.rglob("*.py"):
            parts = path.relative_to(top).with_suffix("").parts
            if folder == "fgnumba" and parts[0] in ("kernels", "cli", "bench"):
                continue
            result[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return result


@cache
def imports(name: str) -> frozenset[str]:
    """Return the library's modules that a module names in imports, wherever in it, for types alone too."""
    known, found = modules(), set()
    for node in ast.walk(ast.parse(modules()[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (members & known.keys()) | ({node.module} if members - known.keys() else set())
    return frozenset((found & known.keys()) - {name})


def room_of(name: str) -> str | None:
    return next((room for room in ROOMS if name == room or name.startswith(f"{room}.")), None)


def is_alias(name: str) -> bool:
    return name.removeprefix("fgnumba.") in PUBLIC and room_of(name) is None


def test_every_module_has_a_room():
    homeless = {name for name in modules() if room_of(name) is None and not is_alias(name)}
    assert homeless == set(DOORS)
    assert {room_of(name) for name in modules()} - {None} == set(ROOMS)


@pytest.mark.parametrize("name", modules())
def test_imports_lead_to_rooms_before(name):
    room = room_of(name)
    if room is None:
        return
    for other in imports(name):
        theirs = room_of(other)
        if theirs is None:
            # The package's own names are for those who use the library.
            inside = other == "fgnumba.kernels" and room.startswith(("fgnumba.kernels", "fgnumba.bench"))
            assert inside or room in ("fgnumba.bench", "fgnumba.cli"), f"{name} imports {other}"
        else:
            assert ROOMS.index(theirs) <= ROOMS.index(room), f"{name} imports {other}"
            assert theirs == room or theirs in NARROW.get(room, ROOMS), f"{name} imports {other}"


def rings() -> list[set[str]]:
    """Return sets of modules that import each other round about (Tarjan's strongly connected components)."""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    result = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        stack.append(name)
        for other in imports(name):
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            at = stack.index(name)
            result.append(set(stack[at:]))
            del stack[at:]

    for name in modules():
        if name not in number:
            visit(name)
    return [ring for ring in result if len(ring) > 1]


def test_rings_are_small_and_inside_of_a_room():
    for ring in rings():
        assert len(ring) <= LARGEST_RING, ring
        assert len({room_of(name) for name in ring}) == 1, ring


@pytest.mark.parametrize(("name", "members"), PUBLIC.items(), ids=PUBLIC)
def test_public_modules_keep_their_names(name, members):
    module = importlib.import_module(f"fgnumba.{name}")
    assert getattr(fg, name) is module
    for member in members:
        assert hasattr(module, member), f"{name}.{member}"


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_keep_their_names(name):
    found = importlib.util.find_spec(name)
    assert found is not None
    if found.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{name}.__main__") is not None
    else:
        assert found.origin is not None
        assert '__name__ == "__main__"' in Path(found.origin).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["fgnumba", "fgnumba.bench.revisions", "fgnumba.bench.cuda_gate"])
def test_a_command_starts(name):
    done = subprocess.run(
        [sys.executable, "-m", name, "--help"], capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: {'fgtrain' if name == 'fgnumba' else f'python -m {name}'}")
