"""The rules of a table: applied to other files, decoded, written as JSON, and what is refused."""

import json

import numpy as np
import pytest

from fgnumba.datasets import TableRules, load
from fgnumba.errors import FgWarning, ShapeError
from tests import tolerances_tables as tolerances
from tests.datasets.test_tables import csv, refused, write


def fitted(tmp_path):
    return load(write(tmp_path / "t.csv", csv()), target="kind").rules


def test_rules_apply_to_other_files_by_name(tmp_path):
    rules = fitted(tmp_path)
    new = write(tmp_path / "new.csv", "more,colour,size\nq,blue,10\nw,red,20\n")
    x = rules.apply(new)
    number = rules.features[0]
    assert x.dtype == np.float32
    tolerances.FEATURES.check(x[:, 0], (np.array([10, 20]) - number.mean) / number.deviation)
    assert x[:, 1:].tolist() == [[1, 0, 0], [0, 0, 1]]


def test_what_the_training_rows_do_not_have_is_said(tmp_path):
    rules = fitted(tmp_path)
    new = write(tmp_path / "new.csv", "colour,size\nmauve,\n,3\nred,4\n")
    with pytest.warns(FgWarning) as caught:
        x = rules.apply(new)
    said = " ".join(str(warning.message) for warning in caught)
    assert "1 rows have a text in column 'colour' that the training rows do not have, 'mauve'" in said
    assert "1 numbers are missing in column 'size', of which none was missing in training" in said
    assert "1 texts are missing in column 'colour'" in said
    assert x[:, 1:].tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]


def test_files_that_do_not_fit_the_rules(tmp_path):
    rules = fitted(tmp_path)
    for text, match in (
        ("size\n1\n", "no column 'colour'; the columns are 'size'"),
        ("size,colour\n1,red\nbig,red\n", "line 3: 'big' in column 'size'; a number is required"),
        ("size,colour\n1e300,red\n", "row 1: a number is too far from those of the training rows"),
    ):
        with refused(match):
            rules.apply(write(tmp_path / "new.csv", text))
    with refused("row 1: 'cow' in column 'kind' is none of the classes, 'ant', 'owl'"):
        rules.labelled(write(tmp_path / "new.csv", "size,colour,kind\n1,red,cow\n"))


def test_decode(tmp_path):
    rules = fitted(tmp_path)
    assert rules.decode(np.array([1, 0])).tolist() == ["owl", "ant"]
    assert rules.decode(np.array([[0.5, 2.0]], np.float32)).tolist() == ["owl"]
    for wrong in (np.zeros((2, 3)), np.zeros(2), np.array([2]), np.array([-1])):
        with pytest.raises(ShapeError):
            rules.decode(wrong)


@pytest.mark.parametrize("target", ["kind", "size"])
def test_rules_are_read_back_from_json(tmp_path, target):
    rules = load(write(tmp_path / "t.csv", csv()), target=target).rules
    write(tmp_path / "table.json", rules.to_json())
    assert TableRules.from_json(tmp_path / "table.json") == rules


def spoiled(change):
    def spoil(tmp_path):
        table = json.loads(fitted(tmp_path).to_json())
        change(table)
        return json.dumps(table)

    return spoil


BAD_RULES = {
    "no JSON": (lambda path: "{x", "Expecting"),
    "a list": (lambda path: "[]", "the file is"),
    "nested": (lambda path: "[" * 100_000, "nested too deeply"),
    "twice": (lambda path: '{"version": 1, "version": 1}', "a key occurs twice"),
    "another version": (spoiled(lambda t: t.update(version=2)), "version is 2; 1 is required"),
    "a key more": (spoiled(lambda t: t.update(more=2)), "the file is"),
    "no rules": (spoiled(lambda t: t.update(features=[])), "a list of rules is required"),
    "rules of one column": (
        spoiled(lambda t: t["features"].append(t["features"][0])),
        "a column has two rules",
    ),
    "no deviation": (spoiled(lambda t: t["features"][0].update(deviation=0)), "deviation is 0"),
    "infinity": (
        spoiled(lambda t: t["features"][0].update(mean=float("inf"))),
        "mean is inf; a finite number",
    ),
    "a vast number": (spoiled(lambda t: t["features"][0].update(mean=10**400)), "mean is a number of"),
    "another kind": (spoiled(lambda t: t["features"][0].update(kind="date")), "kind is 'date'"),
    "equal categories": (spoiled(lambda t: t["features"][1].update(categories=["a", "a"])), "occurs twice"),
    "no flag": (spoiled(lambda t: t["features"][1].update(missing=1)), "missing is 1; true or false"),
    "one class": (spoiled(lambda t: t["target"].update(names=["a"])), "at least two classes"),
    "classes of two kinds": (
        spoiled(lambda t: t["target"].update(names=["a", 1])),
        "text or numbers are required",
    ),
    "lists as classes": (spoiled(lambda t: t["target"].update(names=[["a"], ["b"]])), "damaged"),
    "another target": (spoiled(lambda t: t["target"].update(kind="ranks")), "target is"),
}


@pytest.mark.parametrize(("spoil", "match"), BAD_RULES.values(), ids=BAD_RULES)
def test_damaged_rules(tmp_path, spoil, match):
    path = write(tmp_path / "table.json", spoil(tmp_path))
    with refused(f"table.json: damaged: .*{match}|table.json: {match}"):
        TableRules.from_json(path)


def test_rules_of_a_vast_file(tmp_path):
    path = tmp_path / "table.json"
    with path.open("wb") as file:
        file.truncate((1 << 24) + 1)
    with refused("at most 16,777,216 are possible"):
        TableRules.from_json(path)
