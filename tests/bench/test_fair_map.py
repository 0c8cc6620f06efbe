"""The map of forward gradients against reverse mode with checkpoints: its networks, its fairness, and who wins."""

import json
import math
from collections import Counter

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.experiments import equal_budgets, fair_map, residual
from fgnumba.bench.experiments.equal_budgets import CHECKPOINTED, REVERSE_MODE
from fgnumba.bench.experiments.fair_map import Scale, Verdict, verdict
from fgnumba.bench.measure.result import Request
from fgnumba.bench.measure.timing import shortest
from fgnumba.bench.report import results_fair_map
from tests import tolerances

ONE = equal_budgets.weights(1)
TINY = Scale((100, 1000), (2, 16), 3, 2, 0, 1000)


def test_networks_have_the_parameters_and_the_depth_that_were_asked_for():
    found = {
        (asked, depth): residual.network(asked, depth)
        for asked in (10, 100, 1000, 10_000)
        for depth in fair_map.FULL.depths
    }
    for (asked, depth), network in found.items():
        if network is None:
            continue
        model = network.model(0, "cpu")
        assert model.parameter_count == network.parameters
        assert asked / 2 <= network.parameters <= 2 * asked
        dense = [node for node in model.nodes if isinstance(node.layer, fg.Dense)]
        assert len(dense) == depth == network.depth
    assert found[10, 1] == residual.Network(2, 0, 1, 2)
    assert found[10, 1].parameters == 10
    # Ten classes of 64 pixels have 650 parameters, and 64 layers of four units 1,550.
    assert found[10_000, 1] is found[100, 64] is None


def test_a_residual_branch_begins_small():
    network = residual.Network(8, 16, 34, 10)
    parameters = network.model(3, "cpu").parameters()
    deviations = {name: parameters[f"{name}3.weight"].std() for name in ("up", "down")}
    # 16 blocks; of 256 weights each, the deviations are known to a tenth or so.
    assert 3 < deviations["up"] / deviations["down"] < 5


def test_small_images_are_averages_of_the_digits():
    digits = fg.datasets.load("digits")
    small = residual.digits(digits, 2, 2)
    expected = digits.x_train.reshape(-1, 2, 4, 2, 4).astype(np.float64).mean((2, 4)).reshape(-1, 4)
    tolerances.COUNTED.check(small.x_train, expected)
    np.testing.assert_array_equal(small.y_train, digits.y_train % 2)
    assert (small.classes, small.x_test.shape) == (2, (len(digits.x_test), 4))


@pytest.mark.parametrize("refinements", [0, 1, 3])
def test_every_contender_has_equally_many_trials(refinements):
    tried = []

    def loss_at(rate):
        tried.append(rate)
        return abs(math.log(rate / 0.7)) if rate < 5 else math.inf

    best = equal_budgets.chosen_rate(0.1, refinements, loss_at)
    assert len(tried) == len(set(tried)) == 5 + 2 * refinements
    assert best == min(tried, key=lambda rate: abs(math.log(rate / 0.7)))
    # The best rate is at most half a step of the finest grid away.
    assert abs(math.log(best / 0.7)) <= math.log(8) / 2 ** (refinements + 1)


def row(**losses):
    """Return a cell of ten classes; of each contender its test losses, and whether it is within the limit."""
    names = {"one": ONE, "feedback": "feedback", "reverse": REVERSE_MODE, "checkpointed": CHECKPOINTED}
    runs = {
        names[name]: {"nbytes": 100 if fits else 1000, "losses": list(values), "accuracies": [0.5]}
        for name, (fits, *values) in losses.items()
    }
    return {"classes": 10, "limit": 100, "runs": runs}


def test_who_wins_a_cell():
    cell = row(
        one=(True, 1.9, 2.0, 2.1),
        feedback=(False, 0.1, 0.1, 0.3),
        reverse=(False, 0.2, 0.4, 0.5),
        checkpointed=(True, 0.9, 1.0, 1.1),
    )
    assert verdict(cell, False) == Verdict("tie", "feedback", REVERSE_MODE, 0.25)
    assert verdict(cell, True) == Verdict("reverse", ONE, CHECKPOINTED, 2.0)
    cell["runs"]["feedback"]["losses"] = [0.1, 0.1, 0.15]
    assert verdict(cell, False) == Verdict("forward", "feedback", REVERSE_MODE, 0.25)
    cell["runs"]["feedback"]["losses"] = [0.385, 0.385, 0.385]
    cell["runs"][REVERSE_MODE]["losses"] = [0.4, 0.4, 0.4]
    assert verdict(cell, False).winner == "tie"
    alone = row(one=(True, 1.9), reverse=(False, 0.2), checkpointed=(False, 0.3))
    assert verdict(alone, True) == Verdict("forward", ONE, None, None)
    guesses = row(one=(True, None), reverse=(True, 2.30))
    assert verdict(guesses, True) == Verdict("neither", ONE, REVERSE_MODE, None)
    diverged = row(one=(True, 0.5, None, None), reverse=(True, 0.6, 0.7, 0.8))
    assert verdict(diverged, True).winner == "tie"
    assert verdict(diverged, True).ratio is None


def test_other_work_only_makes_a_call_longer():
    now, calls = [0.0], []

    def call(name, least):
        def run():
            calls.append(name)
            now[0] += least * (3 if len(calls) % 5 else 1)

        return run

    found = shortest({"a": call("a", 1.0), "b": call("b", 0.25)}, clock=lambda: now[0], rounds=20)
    assert found == {"a": 1.0, "b": 0.25}
    assert calls.index("b") < len(calls) - calls[::-1].index("a")


def test_every_contender_has_the_same_time(fgtrain, folder, monkeypatch):
    monkeypatch.setattr(fair_map, "QUICK", TINY)
    monkeypatch.setattr(fair_map, "KEPT", (1, 4))
    done = fgtrain("reproduce", "fair-map", "--quick", "--out", "map")
    assert done.code == 0, done.error
    data = json.loads((folder / "map" / "data.json").read_text(encoding="utf-8"))
    assert (data["name"], data["quick"], data["budget"]) == ("fair-map", True, 3)
    assert "cells won at equal time and memory" in done.out
    cells = [(cell["asked"], cell["depth"]) for cell in data["rows"]]
    assert cells == [(100, 2), (1000, 2), (1000, 16)]
    for cell in data["rows"]:
        runs = cell["runs"]
        assert cell["limit"] == int(1.1 * runs[ONE]["nbytes"])
        # Checkpointed reverse mode is there where the other needs more than the limit, and fits.
        assert (CHECKPOINTED in runs) == (runs[REVERSE_MODE]["nbytes"] > cell["limit"])
        for name, run in runs.items():
            assert run["steps"] == max(1, round(3 / run["over_reverse"]))
            assert len(run["losses"]) == len(run["accuracies"]) == 2
            assert run["nbytes"] <= cell["limit"] or name not in (ONE, CHECKPOINTED)
    deep = data["rows"][-1]["runs"]
    assert deep[CHECKPOINTED]["nbytes"] < deep[REVERSE_MODE]["nbytes"] < deep["feedback"]["nbytes"]
    assert sorted(path.name for path in (folder / "map").iterdir()) == ["data.json", "figure.svg"]
    drawn = (folder / "map" / "figure.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<?xml")
    # The sentences say of every cell who wins it.
    said = results_fair_map.remark(data)
    for where, limited in (("At equal time", False), ("Within the memory of weight perturbation", True)):
        count = Counter(verdict(cell, limited).winner for cell in data["rows"])
        expected = f"lose in {count['reverse']} of 3 networks, win in {count['forward']}, and {count['tie']} are ties"
        assert f"{where}, forward gradients {expected}" in said
    assert "nan" not in said


def test_an_interrupted_map_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(fair_map, "QUICK", TINY._replace(parameters=(100,), depths=(1, 2), focus=100))

    def run(stop):
        heard = []

        def advance(what):
            heard.append(what)
            if stop and "depth 2" in what:
                raise KeyboardInterrupt

        request = Request("fair-map", quick=True, folder=tmp_path, advance=advance)
        return fair_map.at_equal_budgets(request), heard

    with pytest.raises(KeyboardInterrupt):
        run(stop=True)
    state = json.loads((tmp_path / "state" / "cells.json").read_text(encoding="utf-8"))
    found, heard = run(stop=False)
    assert found.data["rows"][0] == state["rows"][0]
    assert not any("depth 1" in what and "weights" in what for what in heard)
    assert any("depth 2" in what and "weights" in what for what in heard)
    assert not (tmp_path / "state").exists()
