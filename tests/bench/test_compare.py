"""Comparison of two revisions: each runs its own code, and nothing is left behind."""

import shutil
import subprocess
import sys

import pytest
from click.testing import CliRunner

from fgnumba.bench.revisions import compare

# A library whose calls take as long as they say by the clock that the worker reads: no other process is in it.
SOURCE = """
import time

now = [0.0]
time.perf_counter = lambda: now[0]

def pass_by(seconds):
    now[0] += seconds

class Flatten: ...
class Dense:
    def __init__(self, units, activation="identity"): ...
class SGD:
    def __init__(self, rate): ...
class WeightPerturbation:
    def __init__(self, direction, directions): ...
class Sequential:
    def __init__(self, layers, shape): ...
    def __call__(self, x): pass_by(SECONDS)
class Trainer:
    def __init__(self, model, estimator, optimizer): ...
    def step(self, x, y): pass_by(SECONDS)
"""


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Return a repository of two revisions of a library, `slow` and after it one that takes half the time."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    root = tmp_path / "repository"
    (root / "fgnumba").mkdir(parents=True)
    (root / "bench").mkdir()

    def git(*arguments):
        who = ("-c", "user.name=somebody", "-c", "user.email=somebody@example.org")
        subprocess.run(["git", "-C", root, *who, *arguments], check=True, capture_output=True)

    git("init", "--initial-branch=main")
    for name, seconds in (("slow", 0.02), ("fast", 0.01)):
        (root / "fgnumba" / "__init__.py").write_text(SOURCE.replace("SECONDS", str(seconds)))
        git("add", ".")
        git("commit", "--message", name)
        git("tag", name)
    worker = root / "bench" / "worker.py"
    shutil.copy(compare.__file__.replace("compare.py", "worker.py"), worker)
    monkeypatch.setattr(compare, "__file__", str(root / "bench" / "compare.py"))
    return root


def run(*arguments):
    return CliRunner().invoke(compare.command, list(arguments))


def test_the_faster_revision_is_told(repository):
    done = run("slow", "fast", "--network", "logreg", "--rounds", "5")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()[1:]
    assert [line.split("  ")[0].split()[0] for line in lines] == ["logreg"] * len(compare.CASES)
    for line in lines:
        assert line.endswith("faster")
        assert float(line.split(" ms ")[2].split()[0]) == 0.5
    listed = subprocess.run(
        ["git", "-C", repository, "worktree", "list"], capture_output=True, text=True, encoding="utf-8"
    )
    assert len(listed.stdout.splitlines()) == 1


def test_the_working_tree_is_the_other(repository):
    (repository / "fgnumba" / "__init__.py").write_text(SOURCE.replace("SECONDS", "0.04"))
    done = run("slow", "--network", "mlp", "--rounds", "5")
    assert done.exit_code == 0, done.output
    assert all(line.endswith("slower") for line in done.output.splitlines()[1:])


def test_what_a_revision_cannot_run_is_said(repository):
    done = run("slow", "fast", "--network", "cnn", "--rounds", "5")
    assert done.exit_code == 0
    assert "AttributeError: module 'fgnumba' has no attribute 'Conv2d'" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nonsense",), "git worktree add: fatal: invalid reference: nonsense"),
        (("slow", "--network", "mpl"), "unknown network 'mpl'"),
        (("slow", "--rounds", "1"), "rounds is 1"),
    ],
)
def test_bad_arguments(repository, arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_the_worker_runs_this_library():
    worker = compare.__file__.replace("compare.py", "worker.py")
    lines = '["logreg", "f"]\n["logreg", "rank1 x 4"]\n["logreg", "sideways x 1"]\n'
    done = subprocess.run(
        [sys.executable, "-P", worker],
        input=lines,
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    )
    first, second, third = done.stdout.splitlines()
    assert 0 < float(first) < 1
    assert 0 < float(second) < 1
    assert "ConfigError" in third
