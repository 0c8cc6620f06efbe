"""`--json`: standard output holds one JSON object, with what the folder and the table say."""

import json
import tomllib
from dataclasses import replace

import pytest

import fgnumba as fg
from fgnumba.bench.report import suite
from fgnumba.cli.outcome import summary
from fgnumba.training.records import Record

WEIGHTS = ("--estimator", "weight-perturbation", "--widths", 8)


def test_train(fgtrain, folder):
    done = fgtrain("train", "--widths", 8, "--steps", 40, "--json", "--out", "run")
    found = done.json()
    config = tomllib.loads((folder / "run" / "config.toml").read_text(encoding="utf-8"))
    last = json.loads((folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert (found["run_folder"], found["steps"], found["ended_by"]) == ("run", 40, "steps")
    assert (found["model"], found["data"], found["estimator"]) == ("mlp", "digits", config["estimator"])
    for name in ("loss", "test_loss", "test_accuracy", "seconds"):
        assert found[name] == last[name]
    assert found["validation_accuracy"] is None
    assert (
        found["parameters"]
        == fg.Sequential([fg.Flatten(), fg.Dense(8), fg.Dense(10)], (8, 8, 1)).parameter_count
    )
    assert "step 40/40" in done.err
    assert fgtrain("train", "--widths", 8, "--steps", 2, "--json", "--quiet").err == ""


def test_a_run_that_diverges_or_learns_nothing(fgtrain, folder):
    done = fgtrain("train", *WEIGHTS, "--learning-rate", 1e3, "--steps", 500, "--json", "--quiet")
    assert done.code == 2
    (said,) = json.loads(done.out)["warnings"]
    assert json.loads(done.out)["ended_by"] == "divergence"
    assert said in done.err
    found = fgtrain("train", "--learning-rate", 50, "--steps", 30, "--json")
    assert found.code == 0
    warnings = found.json()["warnings"]
    assert "try a lower --learning-rate, such as 5" in warnings[0]
    assert [line for line in found.err.splitlines() if line.startswith("warning: ")] == [
        f"warning: {warning}" for warning in warnings
    ]


def test_replay(fgtrain, folder):
    fgtrain("train", *WEIGHTS, "--steps", 6, "--out", "run", "--quiet")
    last = fgtrain("replay", "run", "--json", "--quiet").json()
    assert (last["step"], last["identical"]) == (6, True)
    early = fgtrain("replay", "run", "--step", 2, "--json", "--quiet").json()
    assert (early["step"], early["identical"]) == (2, None)
    assert early["sha256"] != last["sha256"]


def test_search(fgtrain):
    options = ("--widths", 4, "--count", 3, "--steps", 9, "--lowest", 1e-4, "--highest", 1e-2)
    found = fgtrain("search", *options, "--json").json()
    assert found["best"]["learning_rate"] == found["trials"][0]["learning_rate"]
    assert found["best"]["decay"] == found["trials"][0]["fall"] / found["trials"][0]["steps"]


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (
            ("compare", "--estimators", "feedback", "--widths", 4, "--steps", 4, "--evaluations", 2),
            "compared/digits-mlp",
        ),
        (("reproduce", "beale", "--quick"), "reproduced/beale"),
    ],
)
def test_results_are_what_their_file_holds(fgtrain, folder, command, out):
    found = fgtrain(*command, "--json").json()
    assert found.pop("folder") == out
    assert found == json.loads((folder / out / "data.json").read_text(encoding="utf-8"))


def test_a_summary_says_what_was_measured():
    record = Record(30, 1.0, 0.5, seconds=2.0)
    assert summary(record) == "loss 0.5000 after 30 steps in 2.0 s"
    tested = replace(record, test_loss=0.25, test_accuracy=0.75)
    assert summary(tested) == "test accuracy 0.7500, test loss 0.2500 after 30 steps in 2.0 s"
    regression = replace(record, test_loss=0.25, metrics={"test_r2": 0.5})
    assert summary(regression) == "test r2 0.5000, test loss 0.2500 after 30 steps in 2.0 s"


@pytest.mark.parametrize("goals", [(), ("--goals",)])
def test_measurements_on_standard_output(fgtrain, folder, monkeypatch, goals):
    report = {"machine": {"processor": "x"}, "ratios": [], "peers": []}
    monkeypatch.setattr(suite, "run", lambda *_: report)
    monkeypatch.setattr(suite, "goals", lambda _: [])
    monkeypatch.setattr(suite, "as_text", lambda _: "a table")
    done = fgtrain("bench", "--quick", "--no-peers", "--json", "-", *goals)
    assert (done.code, json.loads(done.out)) == (0, report)
    done = fgtrain("bench", "--quick", "--no-peers", "--json", "report.json", *goals)
    assert done.out == "a table\n"
    assert json.loads((folder / "report.json").read_text(encoding="utf-8")) == report
    assert not (folder / "-").exists()
