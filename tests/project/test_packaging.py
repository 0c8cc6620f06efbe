"""The project's layout: packages listed, links right, imports in one direction, operations of one pattern."""

import ast
import importlib
import inspect
import tomllib
from pathlib import Path

import pytest

from fgnumba.kernels import DEVICES, OPERATIONS, RULES, module_name
from tests.places import ROOT
from tests.project.test_rooms import ROOMS

LINKED = ("kernels", "cli", "bench")
FLOOR = ROOMS[: ROOMS.index("fgnumba.kernels.emit")]
"""What kernels may use beside kernels."""
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]


def packages():
    """Return every package of the tree by the name it installs as."""
    found = {}
    for folder in ("fgnumba", *LINKED):
        for path in sorted((ROOT / folder).rglob("__init__.py")):
            parents = [p for p in path.parents if p != ROOT and ROOT in p.parents]
            if not any(parent.is_symlink() for parent in parents):
                relative = path.parent.relative_to(ROOT).as_posix().replace("/", ".")
                found[relative if folder == "fgnumba" else f"fgnumba.{relative}"] = path.parent
    return found


def test_every_package_is_listed_and_mapped():
    assert sorted(PROJECT["packages"]) == sorted(packages())
    assert PROJECT["package-dir"] == {
        "fgnumba": "fgnumba",
        **{f"fgnumba.{folder}": folder for folder in LINKED},
    }
    assert {name.split(".")[0] for name in PROJECT["packages"]} == {"fgnumba"}


@pytest.mark.parametrize("folder", LINKED)
def test_links_inside_the_package_lead_to_the_folders(folder):
    link = ROOT / "fgnumba" / folder
    if not link.is_symlink():
        pytest.skip("this checkout has no links")
    assert link.readlink() == Path("..") / folder


def imports(path, top_level_only=False):
    """Yield the modules that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def sources(folder):
    inside = {ROOT / "fgnumba" / name for name in LINKED}
    return [p for p in (ROOT / folder).rglob("*.py") if not inside & set(p.parents)]


@pytest.mark.parametrize("path", sources("kernels"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_kernels_know_no_layer(path):
    for module in imports(path):
        if module.split(".")[0] == "fgnumba" and module != "fgnumba":
            assert module.startswith(("fgnumba.kernels", *FLOOR)), module


@pytest.mark.parametrize("path", sources("fgnumba"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_the_library_knows_no_command_line_and_no_benchmark(path):
    for module in imports(path):
        # `python -m fgnumba` is the command.
        command = path == ROOT / "fgnumba/__main__.py" and module.startswith("fgnumba.cli")
        assert command or not module.startswith(("fgnumba.cli", "fgnumba.bench", "click", "rich")), module
    for module in imports(path, top_level_only=True):
        assert not module.startswith(("matplotlib", "pooch", "safetensors", "tomli_w")), module


@pytest.mark.parametrize("path", sources("kernels"), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_one_package_and_the_gpu_primitives_alone_emit_llvm(path):
    if path.parent.name != "emit" and path != ROOT / "kernels/cuda/lowering.py":
        assert not any(module.startswith("llvmlite.ir") for module in imports(path))


@pytest.mark.parametrize(
    "path", sources("kernels") + sources("fgnumba"), ids=lambda p: p.relative_to(ROOT).as_posix()
)
def test_one_module_alone_imports_the_cuda_target(path):
    for module in imports(path):
        inside = module.startswith("numba.cuda") and path == ROOT / "kernels/cuda/target.py"
        assert inside or not module.startswith("numba.cuda"), module


def test_every_operation_is_listed():
    for room, names in (("ops", OPERATIONS), ("rules", RULES)):
        folders = {path.parent.name for path in (ROOT / "kernels" / room).glob("*/__init__.py")}
        assert set(names) == folders


@pytest.mark.parametrize("name", [*OPERATIONS, *RULES])
def test_an_operation_is_bound_alike_on_every_device(name):
    found = {}
    for device in DEVICES:
        module = importlib.import_module(module_name(name, device))
        found[device] = {
            function: list(inspect.signature(value).parameters)
            for function, value in vars(module).items()
            if function.startswith("bind") and inspect.isfunction(value)
        }
    assert found["cpu"] == found["cuda"]


def test_modules_for_cuda_take_constants_from_the_folder_not_from_its_module_for_the_cpu():
    for path in (ROOT / "kernels").rglob("*.py"):
        if path.parts[-2] in ("cuda", "devices") or "cuda" in path.stem:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and str(node.module).endswith(".cpu"):
                    assert not [one.name for one in node.names if one.name.isupper()], path
