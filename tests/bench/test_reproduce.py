"""Experiments of papers: their results, that they are repeatable, and which files they write."""

import json
from pathlib import Path

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.experiments import contest, depth, local, memory, mnist
from fgnumba.bench.experiments.contest import Curve, Entry
from fgnumba.bench.experiments.descent import SEEDS, SETTINGS, descent
from fgnumba.bench.experiments.monte_carlo import PAPER_GRADIENT, monte_carlo
from fgnumba.bench.measure.result import Request
from tests import tolerances

# Where the paper's runs end, by its text and replications of its plots.
ENDS = {"beale": 5.6e-5, "rosenbrock": 5.3e-6}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_descents_end_where_the_papers_do(name):
    found = descent(Request(name))
    tolerances.PAPER_DESCENT.check(found.data["exact"]["values"][-1], ENDS[name])
    finals = [run["values"][-1] for run in found.data["forward"]]
    assert len(finals) == SEEDS
    # Within a factor of two, every one.
    assert max(abs(np.log2(np.array(finals) / ENDS[name]))) < 1


def test_descents_repeat_by_seed():
    first, again, other = (descent(Request("beale", seed, quick=True)).data for seed in (3, 3, 4))
    assert first == again
    assert first["forward"] != other["forward"]
    assert first["exact"] == other["exact"]


def test_the_mean_of_forward_gradients_is_the_gradient():
    found = monte_carlo(Request("figure1")).data
    tolerances.PAPER_GRADIENT.check(found["gradient"], PAPER_GRADIENT)
    errors = (np.array(found["mean"]) - found["gradient"]) / found["standard_error"]
    assert np.abs(errors).max() < tolerances.DEVIATIONS
    for v, g in zip(found["directions"], found["forward_gradients"], strict=True):
        tolerances.EXACT_SUMS.check(g, np.dot(found["gradient"], v) * np.array(v))


@pytest.mark.parametrize("name", ["beale", "figure1", "rosenbrock"])
def test_the_command_prints_and_leaves_data_and_figure(fgtrain, folder, name):
    done = fgtrain("reproduce", name, "--quick", "--seed", 5)
    assert done.code == 0
    assert "here" in done.out
    assert "paper" in done.out
    data = json.loads((folder / "reproduced" / name / "data.json").read_text(encoding="utf-8"))
    assert (data["name"], data["quick"], data["seed"]) == (name, True, 5)
    assert (
        (folder / "reproduced" / name / "figure.svg").read_text(encoding="utf-8").lstrip().startswith("<?xml")
    )
    before = (folder / "reproduced" / name / "data.json").read_bytes()
    assert fgtrain("reproduce", name, "--quick", "--seed", 5).code == 0
    assert (folder / "reproduced" / name / "data.json").read_bytes() == before
    assert sorted(path.name for path in (folder / "reproduced" / name).iterdir()) == [
        "data.json",
        "figure.svg",
    ]


def test_impossible_experiments(fgtrain, folder):
    assert "unknown experiment 'bealé'" in fgtrain("reproduce", "bealé").error
    assert "seed is -1" in fgtrain("reproduce", "beale", "--seed", -1).error
    (folder / "file").write_text("")
    assert "out: file" in fgtrain("reproduce", "beale", "--quick", "--out", "file").error
    assert "--out is empty" in fgtrain("reproduce", "beale", "--out", "").error


@pytest.fixture
def images():
    """Return a small data set of images like MNIST's: blurred bars, ten classes."""
    rng = np.random.default_rng(0)

    def part(n):
        y = rng.integers(0, 10, n)
        x = 0.3 * rng.random((n, 28, 28, 1), np.float32)
        for i, label in enumerate(y):
            x[i, 2 * label + 3 : 2 * label + 6] += 0.7
        return x, y

    (x_train, y_train), (x_test, y_test) = part(300), part(80)
    return fg.datasets.Dataset("mnist", x_train, y_train, x_test, y_test, 10)


@pytest.fixture
def short(images, monkeypatch):
    """Make trainings and measurements as short as they can be."""
    monkeypatch.setattr(fg.datasets, "load", lambda name, data_dir=None: images)
    monkeypatch.setattr(mnist, "QUICK", 1000)
    monkeypatch.setattr(mnist, "OWN_RATES", (0.01, 0.1))
    measured = mnist.measure
    monkeypatch.setattr(mnist, "measure", lambda case, bandwidth, seconds: measured(case, bandwidth, 0.05, 5))
    monkeypatch.setattr(mnist.machine, "bandwidth", lambda: 50e9)
    monkeypatch.setattr(local, "QUICK", 1000)
    monkeypatch.setattr(depth, "QUICK_DEPTHS", (1, 2))
    monkeypatch.setattr(depth, "WIDTH", 64)
    monkeypatch.setattr(memory, "QUICK_DEPTHS", (3, 12))


@pytest.mark.parametrize("name", ["logreg", "depth", "memory", "local-losses"])
def test_what_is_measured_stands_beside_the_papers(fgtrain, folder, short, name):
    if name == "memory" and not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux")
    done = fgtrain("reproduce", name, "--quick", "--out", "here", "--data-dir", "unused")
    assert done.code == 0
    data = json.loads((folder / "here" / "data.json").read_text(encoding="utf-8"))
    assert (data["name"], data["quick"]) == (name, True)
    assert data["machine"]["threads"] >= 1
    assert "here" in done.out
    assert sorted(path.name for path in (folder / "here").iterdir()) == ["data.json", "figure.svg"]
    if name == "logreg":
        papers = {what: paper for what, _, paper in data["comparisons"]}
        assert papers["Rf, rank1"] == "2.435"
        assert len(data["curves"]) == 4
        for curve in data["curves"].values():
            assert curve["losses"][-1] < curve["losses"][0]
    if name == "local-losses":
        assert {curve["name"] for curve in data["curves"]} == {row.label for row in local.rows()}
        for curve in data["curves"]:
            assert curve["steps"][-1] == 30
            assert curve["losses"][-1] < curve["losses"][0]
    if name == "memory":
        first, last = data["rows"]
        assert last["reverse"] - first["reverse"] > 2 * (last["forward"] - first["forward"])


def run_contest(images, folder, stop_after=None):
    heard = []

    def advance(what):
        heard.append(what)
        if stop_after is not None and len(heard) > stop_after:
            raise KeyboardInterrupt

    entries = [Entry("forward", "rank1", 1e-3), Entry("reverse", contest.REVERSE, 0.05)]
    request = Request("logreg", seed=4, folder=folder, advance=advance)
    return contest.run("logreg", entries, images, 21, 5, request), heard


def test_an_interrupted_contest_goes_on(images, tmp_path):
    undisturbed, blocks = run_contest(images, None)
    with pytest.raises(KeyboardInterrupt):
        run_contest(images, tmp_path, stop_after=3)
    (tmp_path / contest.STATE / "main" / "half-written.tmp").write_text("")
    resumed, rest = run_contest(images, tmp_path)
    assert len(blocks) == 6
    assert len(rest) == 3
    for label, curve in undisturbed.items():
        assert resumed[label].losses == curve.losses
        assert resumed[label].steps == curve.steps == [0, 4, 8, 12, 16, 20, 21]
        assert resumed[label].seconds == sorted(resumed[label].seconds)
    contest.forget(tmp_path)
    assert not (tmp_path / contest.STATE).exists()


def test_another_contest_does_not_go_on_from_it(images, tmp_path):
    run_contest(images, tmp_path)
    entries = [Entry("forward", "rank1", 2e-3)]
    heard: list[str] = []
    request = Request("logreg", seed=4, folder=tmp_path, advance=heard.append)
    contest.run("logreg", entries, images, 10, 5, request)
    assert len(heard) == 5


def test_divergence_ends_one_run_alone(images):
    entries = [Entry("wild", contest.REVERSE, 1e30), Entry("tame", contest.REVERSE, 0.01)]
    curves = contest.run("mlp", entries, images, 12, 3, Request("mlp"))
    assert curves["wild"].ended is not None
    assert curves["tame"].ended is None
    assert curves["tame"].steps == [0, 4, 8, 12]
    assert mnist.compared(curves["wild"], curves["tame"])["tf_over_tb"] is None


def test_time_to_the_higher_of_two_losses():
    forward = Curve([0, 1, 2], [0.0, 1.0, 2.0], [2.0, 1.5, 1.0], [0, 0, 0])
    backward = Curve([0, 1, 2], [0.0, 2.0, 4.0], [2.0, 1.0, 0.5], [0, 0, 0])
    found = mnist.compared(forward, backward)
    assert found == {"loss": 1.0, "tf_seconds": 2.0, "tb_seconds": 2.0, "tf_over_tb": 1.0}
    found = mnist.compared(backward, Curve([0, 1], [0.0, 1.0], [2.0, 0.75], [0, 0]))
    tolerances.COUNTED.check((found["tf_seconds"], found["tf_over_tb"]), 3.0)
    assert forward.seconds_to(0.9) is None
