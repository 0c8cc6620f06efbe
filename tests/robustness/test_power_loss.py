"""A power loss at any moment of a run: the run resumes from what was flushed to the disk.

A power loss leaves each folder with the names at its last fsync or the present ones, and each file with its content at
its last fsync, the present one, or a part of what was written in between.
"""

import contextlib
import itertools
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.storage import checkpoint_file, durable
from fgnumba.training import checkpoints

STEPS, EVERY = 9, 3


def fresh():
    model = fg.Sequential([fg.Dense(4, "tanh"), fg.Dense(3)], 5, seed=1)
    return fg.Trainer(model, estimator=fg.WeightPerturbation(), optimizer=fg.SGD(0.05, momentum=0.9), seed=3)


def dataset():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 5), np.float32), rng.integers(0, 3, 40)
    return fg.datasets.Dataset("random", x[:32], y[:32], x[32:], y[32:], 3)


def train(folder, resume=False):
    trainer = fresh()
    kept = fg.Checkpoints(folder, every=EVERY, minutes=None)
    trainer.fit(dataset(), steps=STEPS, batch_size=4, evaluate_every=4, checkpoints=kept, resume=resume)
    return trainer.model.parameters(), kept.records


class Disk:
    """What a disk has of the files under `root`: now, and at the last fsync of each.

    A file is known by a number of its own, which stays when it is renamed; inodes are used again.
    """

    def __init__(self, root):
        self.root = root
        self.synced_files, self.synced_folders = {}, {}
        self.files, self.folders = {}, {}
        self._numbers, self._count = {}, itertools.count()
        self.look()

    def look(self):
        """Take note of what is there now."""
        self.files, self.folders, before, self._numbers = {}, {self.root: {}}, self._numbers, {}
        for path in sorted(self.root.rglob("*")):
            inode = path.stat().st_ino
            number = self._numbers[inode] = before[inode] if inode in before else next(self._count)
            self.folders[path.parent][path.name] = number
            if path.is_dir():
                self.folders[path] = {}
            else:
                self.files[number] = path.read_bytes()

    def synced(self, descriptor):
        inode = os.fstat(descriptor).st_ino
        for folder, names in self.folders.items():
            if folder.stat().st_ino == inode:
                self.synced_folders[folder] = dict(names)
        number = self._numbers.get(inode)
        if number in self.files:
            self.synced_files[number] = self.files[number]

    def contents(self, number):
        """Return what a crash may leave of a file."""
        old, new = self.synced_files.get(number, b""), self.files.get(number, b"")
        alike = next(
            (i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new))
        )
        half = new[: (alike + len(new)) // 2]
        return [old, new, half] if number in self.files else [old] * 3

    def states(self):
        """Yield what a crash may leave: contents by path."""
        for stale, kind in itertools.product((False, True), range(3)):
            yield from self._state(stale, kind)

    def _state(self, stale, kind):
        names = {
            folder: self.synced_folders.get(folder, {}) if stale else now
            for folder, now in self.folders.items()
        }
        found = {}
        for folder, numbers in names.items():
            # A folder whose own name is not on the disk is not there, with all that is in it.
            parents = [folder, *folder.parents]
            parents = parents[: parents.index(self.root)]
            if any(parent.name not in names.get(parent.parent, {}) for parent in parents):
                continue
            for name, number in numbers.items():
                if folder / name not in self.folders:
                    found[folder / name] = self.contents(number)[kind]
        yield found


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """Return a function that trains, and returns each state that a crash may leave with the step that is safe in it."""

    def record():
        root = tmp_path / "disk"
        root.mkdir()
        disk, safe, states = Disk(root), [0], {}

        def note():
            disk.look()
            for state in disk.states():
                states[tuple(sorted(state.items()))] = safe[0]

        def hooked(function, after=None):
            def call(*arguments, **named):
                result = function(*arguments, **named)
                note()
                if after is not None:
                    after(*arguments)
                    note()
                return result

            return call

        monkeypatch.setattr(os, "fsync", hooked(os.fsync, disk.synced))
        monkeypatch.setattr(os, "replace", hooked(os.replace))
        monkeypatch.setattr(Path, "unlink", hooked(Path.unlink))
        monkeypatch.setattr(Path, "mkdir", hooked(Path.mkdir))
        for module in (durable, checkpoint_file):
            monkeypatch.setattr(module, "write_all", hooked(durable.write_all))
        save = checkpoints.Checkpoints.save

        def saved(self, step, *arguments):
            done = save(self, step, *arguments)
            assert done
            safe[0] = step
            note()
            return done

        monkeypatch.setattr(checkpoints.Checkpoints, "save", saved)
        result = train(root / "runs" / "run")
        monkeypatch.undo()
        return root, states, result

    return record


def check(root, states, result):
    """Resume from every state; return how many there are."""
    parameters, records = result
    for state, safe in states.items():
        shutil.rmtree(root)
        for path, content in state:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        run = root / "runs" / "run"
        newest = max((int(path.name[5:17]) for path in run.glob("checkpoints/step-*.safetensors")), default=0)
        assert newest >= safe, f"step {safe} was written, and {newest} is there"
        found, again = train(run, resume=True)
        for name, array in parameters.items():
            np.testing.assert_array_equal(found[name], array)
        assert [record.step for record in again] == [record.step for record in records]
        assert [record.test_loss for record in again] == [record.test_loss for record in records]
        log = (run / "metrics.jsonl").read_bytes()
        assert log.count(b"\n") == len(records)
    return len(states)


def test_a_crash_at_any_moment_loses_nothing_that_was_written(recorded):
    assert check(*recorded()) > 50


@contextlib.contextmanager
def replacing_unflushed(path):
    temporary = durable.temporary_name(path)
    with temporary.open("wb+", buffering=0) as file:
        yield file
    os.replace(temporary, path)
    durable.sync_folder(path.parent)


@contextlib.contextmanager
def replacing_flushed_late(path):
    temporary = durable.temporary_name(path)
    with temporary.open("wb+", buffering=0) as file:
        yield file
        os.replace(temporary, path)
        os.fsync(file.fileno())
    durable.sync_folder(path.parent)


class NoSync(durable.AppendLog):
    """A log that is written, and not flushed to the disk."""

    def sync(self):
        self.flush()


BROKEN = {
    "files are not flushed": (checkpoint_file, "replacing", replacing_unflushed),
    "files are renamed before they are flushed": (checkpoint_file, "replacing", replacing_flushed_late),
    "folders are not flushed": (durable, "sync_folder", lambda path: None),
    "folders of checkpoints are not flushed": (checkpoints, "sync_folder", lambda path: None),
    "new folders are not flushed": (
        checkpoints,
        "make_folder",
        lambda path: path.mkdir(parents=True, exist_ok=True),
    ),
    "logs are not flushed": (checkpoints, "AppendLog", NoSync),
}


@pytest.mark.parametrize("what", BROKEN)
def test_every_flush_is_needed(recorded, monkeypatch, what):
    with monkeypatch.context() as broken:
        broken.setattr(*BROKEN[what])
        found = recorded()
    with pytest.raises((AssertionError, fg.RunError, RuntimeWarning)):
        check(*found)
