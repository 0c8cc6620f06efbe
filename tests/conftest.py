"""Fixtures that several test modules share."""

import json
import os

# The tests are of the CPU, and of products in float32, unless they ask for others, whatever this machine has.
os.environ.setdefault("FGNUMBA_DEVICE", "cpu")
os.environ.setdefault("FGNUMBA_PRECISION", "float32")

import hypothesis
import numpy as np
import pytest

from fgnumba.cli.main import main
from fgnumba.cli.message import prepare
from tests.extras import needs_extras

# pytest asks for standard error's descriptor, which may be closed.
prepare()

# How long an example takes is the machine's affair, and its neighbours'.
hypothesis.settings.register_profile(
    "fgnumba", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("fgnumba")


def pytest_xdist_auto_num_workers(config):
    """Return up to 3 worker processes for a run of all tests, none where files or names are asked for.

    Kernels share the cores by themselves, but most of a test is Python, which keeps one core busy, or waits for other
    processes: on two cores, two workers leave a third of the time unused.
    """
    everything = config.args_source != config.ArgsSource.ARGS and not config.option.keyword
    return min(3, 1 + (os.cpu_count() or 1)) if everything else 0


def pytest_collection_modifyitems(config, items):
    """Mark the tests of optional parts, if the marks are asked for."""
    if "extras" in config.option.markexpr:
        for item in items:
            if needs_extras(item):
                item.add_marker("extras")


SMALL_RUN = ("--steps", "30", "--directions", "2", "--quiet")


class Outcome:
    """Exit status and what was printed."""

    def __init__(self, code, out, err):
        self.code, self.out, self.err = code, out, err

    @property
    def error(self):
        """The one line of an error that a user caused."""
        assert self.code == 2, (self.code, self.out, self.err)
        assert self.out == ""
        (line,) = self.err.splitlines()
        assert line.startswith("fgtrain: error: ")
        return line.removeprefix("fgtrain: error: ")

    def json(self):
        (line,) = self.out.splitlines()
        return json.loads(line)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return an empty folder that is the working folder."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def fgtrain(folder, capfd):
    """Return a function that runs the command line in `folder` and returns its outcome."""

    def call(*arguments):
        capfd.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        return Outcome(caught.value.code, out, err)

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """Return a small finished run; tests do not change it."""
    path = tmp_path_factory.mktemp("finished") / "run"
    with pytest.raises(SystemExit) as caught:
        main(["train", *SMALL_RUN, "--out", str(path)])
    assert caught.value.code == 0
    return path


@pytest.fixture
def blobs(folder):
    """Return the name of an .npz data set of 60 + 20 samples of 5 features in 3 classes."""
    rng = np.random.default_rng(0)
    y = np.arange(80) % 3
    x = (rng.standard_normal((80, 5)) + 3 * np.eye(3, 5)[y]).astype(np.float32)
    np.savez(folder / "blobs.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    return "blobs.npz"


@pytest.fixture
def three_parts(monkeypatch):
    """Let tiles multiply three parts even where float32, which is as exact, would be faster."""
    from fgnumba.kernels.shared.product import dot_tiles

    monkeypatch.setattr(dot_tiles, "takes_float", lambda isa: False)
