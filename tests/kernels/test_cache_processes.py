"""The disk cache and several processes: ten that start without it, one killed while it writes, a full disk."""

import os
import signal
import subprocess
import sys

import pytest

from tests.places import ROOT

# A few kernels, so that ten processes are done soon; each prints what they computed.
FEW = """
import ctypes
import sys
from numba import carray
import numpy as np
from fgnumba.kernels.machine import compile as compilation
from fgnumba.kernels.emit import call, pointer

compiled = []
compilation.on_compile(compiled.append)


def square(at, n):
    values = carray(pointer(at, np.int64), n)
    for i in range(n):
        values[i] *= values[i]


def total(at, n):
    values = carray(pointer(at, np.int64), n)
    for i in range(1, n):
        values[0] += values[i]


def both(first, second, at, n):
    call(first, (at, n))
    call(second, (at, n))


print("ready", flush=True)
sys.stdin.readline()
addresses = [compilation.kernel(f"few-{f.__name__}", f, n) for f, n in ((square, 2), (total, 2), (both, 4))]
values = np.arange(5)
ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 4)(addresses[2])(*addresses[:2], values.ctypes.data, len(values))
print(values[0], len(compiled))
"""

STEP = """
import sys
import numpy as np
import fgnumba as fg
from fgnumba.kernels.machine.compile import on_compile

compiled = []
on_compile(compiled.append)
model = fg.Sequential([fg.Conv2d(3, 3, activation="relu"), fg.Flatten(), fg.Dense(3)], (5, 5, 1))
trainer = fg.Trainer(model, optimizer=fg.SGD(1e-3))
print("ready", flush=True)
sys.stdin.readline()
result = trainer.step(np.ones((4, 5, 5, 1), np.float32), np.array([0, 1, 2, 0]))
print(result.loss.hex(), len(compiled))
"""

KILLED = """
import os
import signal

replace = os.replace
written = []


def killed_at_the_second(temporary, path):
    written.append(path)
    if len(written) == 2:
        # A part of the file is there, as if the process had been killed in the midst of writing.
        os.truncate(temporary, 1000)
        os.kill(os.getpid(), signal.SIGKILL)
    replace(temporary, path)


os.replace = killed_at_the_second
"""

FULL = """
import resource

resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
"""


@pytest.fixture
def script(tmp_path):
    """Return a function that writes a script: all processes run one file, which kernels are cached by."""

    def write(text, name="script.py"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def at_once(path, folder, number):
    """Run so many processes, which go on together when all are ready; return what each printed."""
    processes = [
        subprocess.Popen(
            [sys.executable, path],
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "FGNUMBA_DEVICE": "cpu",
                "FGNUMBA_CACHE_DIR": str(folder),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        for _ in range(number)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = []
    for process in processes:
        out, err = process.communicate()
        assert (process.returncode, err) == (0, "")
        result, compiled = out.split()
        found.append((result, int(compiled)))
    return found


def check_ten(path, folder):
    found = at_once(path, folder, 10)
    assert len({result for result, _ in found}) == 1
    assert all(file.suffix == ".bin" for file in folder.iterdir())
    # Whole files: the next process compiles nothing.
    assert at_once(path, folder, 1) == [(found[0][0], 0)]


def test_ten_processes_that_begin_cold_at_once(script, tmp_path):
    check_ten(script(FEW), tmp_path / "cache")


@pytest.mark.slow
def test_ten_processes_that_train_cold_at_once(script, tmp_path):
    check_ten(script(STEP), tmp_path / "cache")


@pytest.mark.skipif(os.name == "nt", reason="a process is killed by a signal")
def test_a_process_that_is_killed_while_it_writes_harms_nothing(script, tmp_path):
    path, folder = script(FEW), tmp_path / "cache"
    # The kernels stand in the module that is run: its own name for it, so that they are the same ones.
    killing = script(
        f"{KILLED}\nimport runpy\nrunpy.run_path({str(path)!r}, run_name='__main__')\n", "killing.py"
    )
    with pytest.raises(AssertionError, match=str(-signal.SIGKILL)):
        at_once(killing, folder, 1)
    whole, part = sorted(folder.iterdir(), key=lambda file: file.suffix != ".bin")
    assert (whole.suffix, part.stat().st_size) == (".bin", 1000)
    assert at_once(path, folder, 1) == [("30", 2)]
    assert sorted(file.suffix for file in folder.iterdir()) == [".bin"] * 3
    assert at_once(path, folder, 1) == [("30", 0)]


@pytest.mark.skipif(os.name == "nt", reason="no limits of resources there")
def test_files_that_cannot_be_written_whole_are_done_without(script, tmp_path):
    path, folder = script(FULL + FEW), tmp_path / "cache"
    for _ in range(2):
        assert at_once(path, folder, 1) == [("30", 3)]
        assert list(folder.iterdir()) == []


@pytest.fixture
def full_disk(tmp_path):
    """Return a folder on a disk of its own with no room for a kernel."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("a superuser of Linux mounts a disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_done_without(script, full_disk):
    path = script(FEW)
    for _ in range(2):
        assert at_once(path, full_disk, 1) == [("30", 3)]
        assert list(full_disk.iterdir()) == []
