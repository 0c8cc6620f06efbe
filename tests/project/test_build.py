"""The wheel: its contents, and that an old build folder leaves nothing in it."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from tests.places import ROOT

SOURCES = ("fgnumba", "kernels", "cli", "bench", "pyproject.toml", "setup.py", "README.md", "LICENSE")

pytest.importorskip("setuptools", minversion="77")


@pytest.fixture
def tree(tmp_path):
    """Return a copy of the sources, with links inside fgnumba as they are."""
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, tmp_path / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(source, tmp_path / name)
    return tmp_path


def wheel_names(tree):
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel"],
        cwd=tree,
        # What is deprecated in setuptools is not ours.
        env={name: value for name, value in os.environ.items() if name != "PYTHONWARNINGS"},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = (tree / "dist").glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_a_wheel_holds_the_sources_and_no_stale_file(tree):
    stale = tree / "build" / "lib" / "fgnumba" / "removed_long_ago.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("")
    names = wheel_names(tree)
    modules = {
        f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, prefix in (
            *(("fgnumba", "fgnumba"), ("kernels", "fgnumba/kernels")),
            *(("cli", "fgnumba/cli"), ("bench", "fgnumba/bench")),
        )
        for path in (ROOT / folder).rglob("*.py")
        if not any(parent.is_symlink() for parent in path.parents)
    }
    inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert {name for name in inside if name.endswith(".py")} == modules
    assert "fgnumba/datasets/digits.npz" in inside
    assert "fgnumba/py.typed" in inside
    assert {name.split("/")[0] for name in inside} == {"fgnumba"}
