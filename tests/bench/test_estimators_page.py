"""The page of estimators: made from what defines and measures them, and up to date."""

import pytest

from fgnumba.bench.report import estimators_page
from fgnumba.estimators import RECIPES

if not estimators_page.PAGE.exists():
    pytest.skip("installed without the repository", allow_module_level=True)


def test_the_page_is_the_one_that_the_command_makes():
    stored = estimators_page.PAGE.read_text(encoding="utf-8")
    assert stored == estimators_page.page(), "python -m fgnumba.bench.results makes the page again"


def test_every_estimator_has_its_section_with_its_statement():
    page = estimators_page.page()
    sections = dict(part.split("`", 1) for part in page.split("\n## `")[1:])
    assert sections.keys() == RECIPES.keys()
    for name, chosen in RECIPES.items():
        assert chosen.build(name, None, None).statement in sections[name]
        assert chosen.evidence in sections[name]
        assert f"[`{name}`](#{name})" in page


def test_searched_rates_are_the_best_of_their_searches():
    searched = 0
    for name, chosen in RECIPES.items():
        for model in ("mlp", "cnn"):
            trials = estimators_page.searched(name, model)
            if not trials:
                continue
            rates = [trial["learning_rate"] for trial in trials]
            assert rates == sorted(set(rates))
            rate = chosen.rates.get(model, chosen.learning_rate)
            assert rate is not None
            # Recipes have two digits of the rates of a grid.
            own = [trial for trial in trials if f"{trial['learning_rate']:.2g}" == f"{rate:.2g}"]
            assert own, (name, model)
            last = max(own, key=lambda trial: trial["steps"])
            # Of several that are as good, a search goes on with one, and the recipe may have another.
            alike = [trial["accuracy"] for trial in trials if trial["steps"] == last["steps"]]
            assert last["accuracy"] == max(alike), (name, model)
            searched += 1
    assert searched >= 10


def test_variances_are_those_of_the_formulas():
    p, t = estimators_page.PARAMETERS, 64
    assert p == 1_863_690
    rows = {
        line.split("`")[1]: line.split(" | ") for line in estimators_page.page().splitlines() if "](#" in line
    }
    assert rows["weight-perturbation"][4] == f"{(p - 1) / t:.3g}"
    assert rows["orthogonal"][4] == f"{p / t - 1:.3g}"
    assert rows["feedback"][3:5] == ["no", ""]


def test_the_figure_is_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(estimators_page, "FIGURE", tmp_path / "estimators.svg")
    estimators_page.write_figure(pytest.fail)
    assert (tmp_path / "estimators.svg").read_text(encoding="utf-8").startswith("<?xml")
