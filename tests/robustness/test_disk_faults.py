"""Disks that become full or read-only, and data that vanish, while a run trains."""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest

from fgnumba.runs import run_folder
from fgnumba.training.checkpoints import MODEL
from tests.fault_runs import (
    COMMAND,
    ENVIRONMENT,
    KINDS,
    assert_undisturbed,
    ended,
    had_ended,
    happens,
    has_ended,
    in_process,
    killed,
    newest,
    start,
)

# So many that a disk can fill and be freed several times.
SETTINGS = ("--steps", "1500", "--widths", "16", "--checkpoint-every", "5", "--quiet")


class Disk:
    """A file system in memory that one shell alone has mounted: it goes with it, whatever becomes of the test.

    Others reach it through the shell's root; locks are found by their resolved paths, and lie beside it.
    """

    def __init__(self, place, options):
        own = [] if os.geteuid() == 0 else ["-r"]
        self._shell = subprocess.Popen(
            ["unshare", "-m", *own, "sh"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
        place.mkdir()
        self.works = self.command(f"mount -t tmpfs -o {options} none '{place}'")
        self.path, self._place = Path(f"/proc/{self._shell.pid}/root{place}"), place
        self.filler = self.path / "filler"

    def command(self, line):
        """Run a command where the file system is mounted; return whether it succeeded."""
        print(
            f"if {line} >/dev/null 2>&1; then echo yes; else echo no; fi", file=self._shell.stdin, flush=True
        )
        assert self._shell.stdout is not None
        return self._shell.stdout.readline() == "yes\n"

    def fill(self):
        """Take all the room there is."""
        with self.filler.open("ab", buffering=0) as file:
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def free(self):
        self.filler.unlink()

    def protect(self):
        """Let nothing be written by its path any more; files that are open stay so, or this would be refused."""
        assert self.command(f"mount --bind '{self._place}' '{self._place}'")
        assert self.command(f"mount -o remount,bind,ro '{self._place}'")

    def unprotect(self):
        assert self.command(f"umount -l '{self._place}'")

    def close(self):
        self._shell.communicate()


@pytest.fixture
def disk(tmp_path):
    """Return a function that mounts a file system of a megabyte, with options."""
    disks = []

    def mounted(options="size=1m"):
        if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
            pytest.skip("needs Linux, and unshare")
        found = Disk(tmp_path / "disk", options)
        disks.append(found)
        if not found.works:
            pytest.skip("file systems cannot be mounted here")
        return found

    yield mounted
    for one in disks:
        one.close()


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    """Return a function of runs that nothing disturbed, by kind."""
    found = {}

    def reference(kind):
        if kind not in found:
            found[kind] = tmp_path_factory.mktemp(kind) / "run"
            assert in_process("train", *SETTINGS, *KINDS[kind], "--out", found[kind])[0] == 0
        return found[kind]

    return reference


def is_past(run, step):
    return newest(run) > step


def has_said(process, lines):
    return len(complaints(process)) >= lines


def complaints(process):
    return process.messages.read_text(encoding="utf-8").splitlines()


def assert_a_line_each(lines, run):
    """Assert that a full disk was said in a line a checkpoint, and few more for the two logs between these."""
    failed = [line for line in lines if "is not written, training goes on: No space left on device" in line]
    waits = [
        line for line in lines if "is not written yet, training goes on: No space left on device" in line
    ]
    # The figure is the last to be written, and no run waits for it.
    left = [line for line in lines if f"{run}/loss.png is left out: " in line]
    assert len(failed) + len(waits) + len(left) == len(lines)
    assert len(left) <= 1
    assert len(set(failed)) == len(failed)
    assert all(line.startswith(f"{run}: ") for line in failed + waits)
    assert len(waits) <= len(failed) + 2


@pytest.mark.parametrize(("kind", "kills"), [("feedback", 0), ("weights", 2)])
def test_a_disk_that_fills_and_is_freed(folder, disk, references, kind, kills):
    check_filling(folder, disk(), references, kind, fillings=4, kills=kills, seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_a_disk_that_fills_often(folder, disk, references, kind, seed):
    check_filling(folder, disk(), references, kind, fillings=30, kills=8, seed=seed)


def check_filling(folder, full, references, kind, fillings, kills, seed):
    rng = random.Random(seed)
    deadly = set(rng.sample(range(fillings), kills))
    run, elsewhere = full.path / "run", folder / "run-1"
    process = start("train", *SETTINGS, *KINDS[kind], "--out", run, cwd=folder)
    filled, status, over = 0, None, False
    while status != 0:
        if filled < fillings and happens(partial(is_past, run, newest(run)), process):
            said = len(complaints(process)) + rng.randint(1, 3)
            full.fill()
            happens(partial(has_said, process, said), process)
            if filled in deadly:
                process.kill()
                process.wait()
            full.free()
            filled += 1
            if process.poll() is None:
                continue
        status, _, errors = ended(process)
        lines = errors.splitlines()
        if over:
            assert (status, lines) == (0, [had_ended(run)])
            break
        # Where the machine was busy with the run alone, it has ended on the full disk, if it was not killed as it did.
        if status == 2 or (status == -signal.SIGKILL and lines and str(elsewhere) in lines[-1]):
            assert str(elsewhere) in lines.pop()
            assert_undisturbed(elsewhere, references(kind))
        if status != 0:
            assert status in (2, -signal.SIGKILL)
            shutil.rmtree(elsewhere, ignore_errors=True)
            over = has_ended(run)
            process = start("train", "--resume", run, "--quiet", cwd=folder)
        assert_a_line_each(lines, run)
    assert not elsewhere.exists()
    assert filled > 0
    assert_undisturbed(run, references(kind))


@pytest.mark.parametrize("kind", ["feedback", "weights"])
def test_a_run_that_ends_on_a_full_disk_is_written_elsewhere(folder, disk, references, kind):
    full = disk()
    run = full.path / "run"
    process = start("train", *SETTINGS, *KINDS[kind], "--out", run, cwd=folder, hold=5)
    full.fill()
    process.release()
    status, out, errors = ended(process)
    assert (status, out) == (2, "")
    *lines, last = errors.splitlines()
    assert_a_line_each(lines, run)
    assert last == (
        f"fgtrain: error: out: {run} cannot be written: No space left on device; "
        f"the run that has ended is in {folder / 'run-1'}"
    )
    assert_undisturbed(folder / "run-1", references(kind))
    # What lies on the full disk can be continued, too.
    full.free()
    assert in_process("train", "--resume", run, "--quiet")[0] == 0
    assert_undisturbed(run, references(kind))


def test_a_run_that_ends_with_no_room_anywhere_is_continued(fgtrain, folder, disk, references, monkeypatch):
    full = disk()
    run = full.path / "run"
    assert killed(start("train", *SETTINGS, "--out", run, cwd=folder, hold=750))[0] != 0
    full.fill()
    monkeypatch.chdir(full.path)
    monkeypatch.setattr(tempfile, "tempdir", str(full.path))
    write = run_folder.replace

    def without_room_for_a_model(path, content):
        # An older checkpoint has given way to it.
        if path.name == MODEL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(run_folder, "replace", without_room_for_a_model)
    done = fgtrain("train", "--resume", run, "--quiet")
    *lines, last = done.err.splitlines()
    assert done.code == 2
    assert_a_line_each(lines, run)
    assert last == (
        f"fgtrain: error: out: {run} cannot be written: No space left on device; "
        f"make room and continue: fgtrain train --resume {run}"
    )
    monkeypatch.setattr(run_folder, "replace", write)
    full.free()
    assert in_process("train", "--resume", run, "--quiet")[0] == 0
    assert_undisturbed(run, references("feedback"))


def test_a_disk_that_is_full_when_a_run_begins(fgtrain, disk):
    full = disk()
    full.fill()
    run = full.path / "runs" / "run"
    error = fgtrain("train", *SETTINGS, "--out", run).error
    assert error == f"out: {run} cannot be written: No space left on device"
    assert [path.name for path in full.path.iterdir()] == ["filler"]


@pytest.mark.parametrize("left", range(4))
def test_a_disk_without_room_for_all_files_of_a_beginning(fgtrain, disk, left):
    # Its root is one.
    full = disk(f"size=1m,nr_inodes={1 + left}")
    run = full.path / "run"
    error = fgtrain("train", *SETTINGS, "--out", run).error
    assert str(run) in error
    assert error.endswith("No space left on device") or "a folder to write is required" in error
    assert list(full.path.iterdir()) == []


def test_a_folder_that_becomes_read_only(fgtrain, folder, disk, references):
    found = disk()
    run = found.path / "run"
    process = start("train", *SETTINGS, "--out", run, cwd=folder, hold=5)
    found.protect()
    process.release()
    status, out, errors = ended(process)
    assert (status, out) == (2, "")
    *lines, last = errors.splitlines()
    assert lines
    assert all("is not written, training goes on: Read-only file system" in line for line in lines)
    assert last == (
        f"fgtrain: error: out: {run} cannot be written: Read-only file system; "
        f"the run that has ended is in {folder / 'run-1'}"
    )
    assert_undisturbed(folder / "run-1", references("feedback"))
    error = fgtrain("train", "--resume", run, "--quiet").error
    assert str(run) in error
    assert "Read-only file system" in error
    assert (
        fgtrain("train", *SETTINGS, "--out", found.path / "new").error == f"out: {found.path} is not writable"
    )
    found.unprotect()
    assert fgtrain("train", "--resume", run, "--quiet").code == 0
    assert_undisturbed(run, references("feedback"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is writable for root")
def test_a_folder_of_others(fgtrain, folder, references):
    (folder / "others").mkdir(mode=0o555)
    assert fgtrain("train", *SETTINGS, "--out", "others/run").error == "out: others is not writable"
    run = shutil.copytree(references("feedback"), folder / "run")
    (run / "model.safetensors").unlink()
    run.chmod(0o555)
    assert "a folder to write is required" in fgtrain("train", "--resume", run, "--quiet").error
    run.chmod(0o755)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a file that is always full")
def test_errors_that_cannot_be_said_keep_their_status(folder):
    with Path("/dev/full").open("wb") as full:
        command = [*COMMAND, "train", "--data", "nothing.npz"]
        assert subprocess.run(command, stderr=full, cwd=folder, env=ENVIRONMENT, check=False).returncode == 2
