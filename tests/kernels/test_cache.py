"""The disk cache of kernels: loaded, shared, damaged, absent or read-only, it never changes a result."""

import os
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numba
import pytest

from fgnumba.kernels.devices.tuning import tiles
from fgnumba.kernels.emit.vector import instruction_set
from fgnumba.kernels.machine import cache
from fgnumba.kernels.machine.cache import KernelCache
from tests.places import ROOT

TILE = next(iter(tiles(instruction_set())))

STEP = """
import sys
from pathlib import Path
import numpy as np
import fgnumba as fg
from fgnumba.kernels.machine.compile import on_compile
compiled = []
on_compile(compiled.append)
model = fg.Sequential([fg.Dense(5, activation="relu"), fg.Dense(3)], 7)
trainer = fg.Trainer(model, optimizer=fg.SGD(1e-3))
result = trainer.step(np.ones((4, 7), np.float32), np.array([0, 1, 2, 0]))
print(result.loss.hex(), len(compiled))
"""


def start(folder):
    return subprocess.Popen(
        [sys.executable, "-c", STEP],
        cwd=ROOT,
        # On a busy machine another trial may choose another tile, with kernels of its own.
        env={**os.environ, "FGNUMBA_CACHE_DIR": str(folder), "FGNUMBA_TILE": TILE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finish(process):
    """Return the loss and the number of kernels that were compiled, not loaded."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert err == ""
    loss, compiled = out.split()
    return loss, int(compiled)


def step(folder):
    return finish(start(folder))


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """Return a folder that two processes filled at once, the loss, and the number of kernels in it."""
    folder = tmp_path_factory.mktemp("cache")
    first, second = (finish(process) for process in [start(folder), start(folder)])
    assert first[0] == second[0]
    kernels = len(list(folder.glob("*.bin")))
    # Either may have found some that the other had just written.
    assert first[1] + second[1] >= kernels
    return folder, first[0], kernels


def test_two_processes_at_once_leave_whole_files_alone(filled):
    folder, _, kernels = filled
    assert kernels > 5
    assert all(path.suffix == ".bin" for path in folder.iterdir())


def test_a_second_process_compiles_nothing(filled):
    folder, loss, _ = filled
    assert step(folder) == (loss, 0)


def test_damaged_files_count_as_absent_and_are_replaced(filled):
    folder, loss, _ = filled
    files = sorted(folder.glob("*.bin"))
    whole = files[2].read_bytes()
    files[0].write_bytes(b"")
    files[1].write_bytes(files[1].read_bytes()[:-100])
    files[2].write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    files[3].unlink()
    assert step(folder) == (loss, 4)
    assert step(folder) == (loss, 0)
    assert sorted(folder.glob("*.bin")) == files


class Codegen:
    @staticmethod
    def magic_tuple():
        return ("a processor",)


@pytest.mark.parametrize(
    "setting", ["BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "DEBUGINFO_DEFAULT"]
)
def test_a_setting_that_changes_machine_code_has_files_of_its_own(setting, monkeypatch):
    kept = KernelCache("kernel", __file__)
    before = kept._path("signature", Codegen)
    monkeypatch.setattr(numba.config, setting, 7)
    assert kept._path("signature", Codegen) != before


def test_a_folder_that_cannot_be_made_is_done_without(filled, tmp_path):
    _, loss, kernels = filled
    (tmp_path / "file").write_text("")
    assert step(tmp_path / "file" / "cache") == (loss, kernels)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a superuser writes anywhere")
def test_a_folder_that_cannot_be_written_is_read(filled, tmp_path):
    folder, loss, kernels = filled
    folder.chmod(0o500)
    try:
        assert step(folder) == (loss, 0)
    finally:
        folder.chmod(0o700)
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    assert step(locked) == (loss, kernels)


@pytest.mark.parametrize("package", ["kernels", "functions"])
def test_a_change_of_any_module_that_writes_machine_code_is_noticed(package, tmp_path, monkeypatch):
    """Machine code is found by what all modules of kernels and functions hold, in whichever folder they lie."""
    copy = tmp_path / package
    module = import_module(f"fgnumba.{package}")
    shutil.copytree(module.__path__[0], copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "__path__", [str(copy)])
    digest = cache.sources_digest.__wrapped__
    digests = {digest()}
    for number, path in enumerate(sorted(path.relative_to(copy) for path in copy.rglob("*.py")), 1):
        if path != Path("__init__.py"):
            with (copy / path).open("a", encoding="utf-8") as file:
                file.write("\n")
            digests.add(digest())
            assert len(digests) == number, path
