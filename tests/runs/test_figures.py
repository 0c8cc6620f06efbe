"""Figures: they are drawn whatever backend is named, and no run depends on them."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

import fgnumba as fg
from fgnumba import colours
from fgnumba.runs import figures, run_folder
from fgnumba.runs.run_folder import FIGURE
from fgnumba.training.checkpoints import MODEL
from fgnumba.training.metrics import read_records
from tests import apart
from tests.fault_runs import COMMAND, ENVIRONMENT

TRAIN = ("train", "--steps", "3", "--widths", "8", "--quiet", "--out", "run")
WHOLE = ["config.toml", "loss.png", "losses.f64", "metrics.jsonl", "model.safetensors", "state.safetensors"]
WITHOUT = [name for name in WHOLE if name != FIGURE]
PNG = b"\x89PNG\r\n\x1a\n"
RECORDS = [fg.Record(step, 1.0 / step, 0.1) for step in (1, 2, 3)]


def names(path):
    return sorted(one.name for one in path.iterdir())


def process(*command, cwd, **environment):
    return subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


@pytest.mark.parametrize("backend", ["nonsense", "Qt4Agg", "module://matplotlib_inline.backend_inline"])
def test_a_run_ends_whatever_backend_the_environment_names(folder, backend):
    done = process(*COMMAND, *TRAIN, cwd=folder, MPLBACKEND=backend)
    assert (done.returncode, done.stderr) == (0, "")
    assert names(folder / "run") == WHOLE
    assert (folder / "run" / FIGURE).read_bytes().startswith(PNG)


@pytest.mark.parametrize("command", [("reproduce", "figure1", "--quick"), ("reproduce", "beale", "--quick")])
def test_experiments_are_drawn_whatever_backend_the_environment_names(folder, command):
    done = process(*COMMAND, *command, "--out", "found", cwd=folder, MPLBACKEND="nonsense")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, "data and figure in found")
    assert names(folder / "found") == ["data.json", "figure.svg"]


SCRIPT = """
import os, sys
from fgnumba.runs import figures, run_folder
assert "matplotlib" not in sys.modules
figures.blank(1, 1)
import matplotlib
print(os.environ["MPLBACKEND"], matplotlib.rcParams["backend"], "matplotlib.pyplot" in sys.modules)
"""


@pytest.mark.parametrize(("named", "kept"), [("svg", "svg"), ("Nonsense", "agg")])
def test_the_backend_that_a_program_chose_stays_its_own(named, kept):
    # A backend that there is not gives way to the one that is chosen when the program asks.
    script = SCRIPT if named == "svg" else SCRIPT.replace('matplotlib.rcParams["backend"]', '"agg"')
    done = apart.python("-c", script, MPLBACKEND=named)
    assert done.stdout.split() == [named, kept, "False"], done.stderr


def test_settings_that_cannot_be_read_cost_the_figure_alone(folder, fgtrain):
    settings = folder / "settings"
    settings.mkdir()
    (settings / "matplotlibrc").write_bytes(b"font.family: \xff\n")
    done = process(*COMMAND, *TRAIN, cwd=folder, MPLCONFIGDIR=settings)
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if FIGURE in line]
    assert line.startswith("run/loss.png is left out: UnicodeDecodeError: ")
    assert names(folder / "run") == WITHOUT
    # Asked once more, it is drawn.
    again = fgtrain("train", "--resume", "run")
    assert (again.code, again.err) == (0, "run has ended; there is nothing to continue\n")
    assert names(folder / "run") == WHOLE


def test_a_folder_for_settings_that_cannot_be_written_is_done_without(folder):
    done = process(*COMMAND, *TRAIN, cwd=folder, MPLCONFIGDIR="/proc/nothing")
    assert (done.returncode, done.stderr) == (0, "")
    assert names(folder / "run") == WHOLE


@pytest.mark.parametrize("missing", ["matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"])
def test_without_matplotlib_a_run_ends_all_the_same(folder, missing):
    script = f"import sys; sys.modules[{missing!r}] = None; from fgnumba.cli.main import main; main()"
    done = process(sys.executable, "-c", script, *TRAIN, cwd=folder)
    assert done.returncode == 0
    (line,) = done.stderr.splitlines()
    assert line.startswith("run/loss.png is left out: ModuleNotFoundError: ")
    assert names(folder / "run") == WITHOUT


FAULTS = [
    MemoryError(),
    RuntimeError("of two\nlines"),
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
    RecursionError("too deep"),
    UnicodeEncodeError("ascii", "é", 0, 1, "not there"),
    # Of a module that is none to import.
    SystemExit(3),
    GeneratorExit(),
]


def failing(fault):
    def fail(*_, **__):
        raise fault

    return fail


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
def test_whatever_a_figure_raises_costs_no_run(fgtrain, folder, monkeypatch, fault):
    with monkeypatch.context() as patched:
        for module in ("fgnumba.runs.figures", "fgnumba.bench.learning.telemetry"):
            patched.setattr(f"{module}.blank", failing(fault))
        done = fgtrain(*TRAIN, "--telemetry", 2)
    assert done.code == 0
    lines = done.err.splitlines()
    assert [line.split(" is left out: ")[0] for line in lines] == ["run/gradient.png", "run/loss.png"]
    assert names(folder / "run") == sorted([*WITHOUT, "gradient.jsonl"])
    assert fgtrain("evaluate", "run").code == 0
    assert fgtrain("train", "--resume", "run").code == 0
    assert (folder / "run" / FIGURE).exists()


def test_a_figure_that_fails_costs_no_comparison(fgtrain, folder, monkeypatch):
    monkeypatch.setattr("fgnumba.bench.learning.curves.blank", failing(RuntimeError("no fonts")))
    done = fgtrain("compare", "--estimators", "feedback", "--widths", 8, "--steps", 2, "--out", "out")
    assert (done.code, names(folder / "out")) == (0, ["data.json"])
    assert "out/figure.svg is left out: RuntimeError: no fonts" in done.err.splitlines()
    assert "feedback" in done.out


@pytest.mark.parametrize("what", ["leave", "of_run", "of_records", "replace"])
def test_a_process_that_dies_before_the_figure_has_ended_its_run(fgtrain, folder, monkeypatch, what):
    with monkeypatch.context() as patched:
        patched.setattr(figures, what, failing(KeyboardInterrupt()))
        assert fgtrain(*TRAIN).code == 130
    assert names(folder / "run") == WITHOUT
    assert fgtrain("evaluate", "run").code == 0
    assert fgtrain("train", "--resume", "run").code == 0
    assert names(folder / "run") == WHOLE


def test_a_process_that_dies_before_its_checkpoints_go_has_ended_its_run(fgtrain, folder, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(run_folder, "complete", failing(SystemExit(9)))
        assert fgtrain(*TRAIN).code == 9
    assert (folder / "run" / MODEL).exists()
    assert (folder / "run" / "checkpoints").exists()
    assert fgtrain("evaluate", "run").code == 0
    assert fgtrain("train", "--resume", "run").code == 0
    assert names(folder / "run") == WHOLE


def test_warnings_that_are_errors_cost_no_figure(folder):
    path, said = folder / "loss.png", list[str]()
    # Nothing above zero on a logarithmic axis is worth a warning to matplotlib.
    figures.leave(path, lambda: figures.of_records([fg.Record(1, 0.0, 0.1)]), said.append)
    assert (said, path.read_bytes().startswith(PNG)) == ([], True)


def test_a_figure_has_no_date(folder):
    path = folder / "figure.svg"
    figures.leave(path, lambda: figures.of_records(RECORDS), pytest.fail)
    assert b"<svg" in path.read_bytes()
    assert b"<dc:date>" not in path.read_bytes()


def drawn_line(axes, label):
    (found,) = [line for line in axes.get_lines() if str(line.get_label()).startswith(label)]
    return found


def test_the_figure_of_a_run_has_its_curves_and_its_title(fgtrain, folder):
    settings = ("--steps", "200", "--validation", "0.1", "--widths", "8", "--estimator", "activity")
    assert fgtrain("train", *settings, "--quiet", "--out", "run").code == 0
    figure = figures.of_run(folder / "run")
    loss, error = figure.axes
    assert figure.get_suptitle() == "digits-mlp: activity, adam at rate 0.0032"
    # Most of the training curve's points are between the records.
    assert len(drawn_line(loss, "training").get_xdata()) == 100
    assert len(drawn_line(error, "validation").get_xdata()) == 10
    assert drawn_line(loss, "training").get_color() == colours.style("activity").colour
    assert drawn_line(error, "best record: ") is not None
    assert drawn_line(error, "test: ") is not None
    assert error.get_ylabel() == "error, %"


def test_a_run_without_its_losses_is_drawn_from_its_records(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "losses.f64").unlink()
    (axes, *_) = figures.of_run(tmp_path / "run").axes
    records = read_records(finished / "metrics.jsonl")
    assert len(drawn_line(axes, "training").get_xdata()) == len(records)


def test_a_title_is_no_mathematics(tmp_path):
    path = tmp_path / "loss.png"
    figures.leave(path, lambda: figures.of_records(RECORDS, title="a$b$_{"), pytest.fail)
    assert path.read_bytes().startswith(PNG)
