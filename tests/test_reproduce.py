"""Experiments of the paper, run again: where they end, that they repeat, what they leave."""

import json

import numpy as np
import pytest

from fgnumba.bench.experiments import EXPERIMENTS
from fgnumba.bench.experiments.descent import SEEDS, SETTINGS, descent
from fgnumba.bench.experiments.monte_carlo import PAPER_GRADIENT, monte_carlo
from fgnumba.bench.experiments.result import Request

# Where the paper's runs end, by its text and replications of its plots.
ENDS = {"beale": 5.6e-5, "rosenbrock": 5.3e-6}


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_descents_end_where_the_papers_do(name):
    found = descent(Request(name))
    assert found.data["exact"]["values"][-1] == pytest.approx(ENDS[name], rel=0.02)
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
    np.testing.assert_allclose(found["gradient"], PAPER_GRADIENT, atol=5e-4)
    # Five standard errors.
    errors = (np.array(found["mean"]) - found["gradient"]) / found["standard_error"]
    assert np.abs(errors).max() < 5
    for v, g in zip(found["directions"], found["forward_gradients"], strict=True):
        np.testing.assert_allclose(g, np.dot(found["gradient"], v) * np.array(v), rtol=1e-12)


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_the_command_prints_and_leaves_data_and_figure(fgtrain, folder, name):
    done = fgtrain("reproduce", name, "--quick", "--seed", 5)
    assert done.code == 0
    assert "here" in done.out
    assert "paper" in done.out
    data = json.loads((folder / "reproduced" / name / "data.json").read_text())
    assert (data["name"], data["quick"], data["seed"]) == (name, True, 5)
    assert (folder / "reproduced" / name / "figure.svg").read_text().lstrip().startswith("<?xml")
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
