"""``fgtrain runs`` and ``fgtrain show``: lists, terminals, pages; what is damaged costs a line."""

import json
import os
import re
import shutil

import pytest

import fgnumba as fg
from fgnumba.cli import runs as runs_command
from fgnumba.cli import screen, show
from fgnumba.runs import charts, listing, report
from fgnumba.runs.text_charts import HEIGHT

JUDGED = ("--steps", 60, "--validation", 0.1, "--widths", 8, "--estimator", "feedback", "--quiet")


@pytest.fixture
def several(finished, folder, fgtrain):
    """Return a folder with the runs a-2 and a-10, which are alike, the judged run b, and other things."""
    runs = folder / "runs"
    for name in ("a-2", "a-10"):
        shutil.copytree(finished, runs / name)
    assert fgtrain("train", *JUDGED, "--out", "runs/b").code == 0
    (runs / "notes").mkdir()
    (runs / "notes.txt").write_text("nothing", encoding="utf-8")
    for age, name in enumerate(("b", "a-10", "a-2")):
        for path in (runs / name).iterdir():
            os.utime(path, (1e9 - 1e5 * age, 1e9 - 1e5 * age))
    return runs


def test_runs_are_listed_with_the_latest_last(several, fgtrain):
    done = fgtrain("runs")
    assert (done.code, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head.split() == [
        *("name", "model", "data", "estimator", "steps"),
        *("loss", "accuracy", "seconds", "ended", "date"),
    ]
    assert [line.split()[0] for line in lines] == ["a-2", "a-10", "b"]
    assert re.search(
        r"^b +mlp +digits +feedback +60 +[\d.]+ +0\.\d{4} +[\d.]+ +all steps +2001-09-09", lines[-1]
    )
    assert done.out == fgtrain("runs", "runs").out


@pytest.mark.parametrize(
    ("sort", "first"),
    [
        ("name", "a-2"),
        ("date", "a-2"),
        ("steps", "a-2"),
        ("accuracy", None),
        ("seconds", None),
        ("loss", None),
    ],
)
def test_runs_are_sorted(several, fgtrain, sort, first):
    found = json.loads(fgtrain("runs", "--sort", sort, "--json").out)["runs"]
    values = [one[sort] for one in found]
    # Numbers in names are compared as numbers.
    assert sort == "name" or values == sorted(values, reverse=sort == "accuracy")
    assert first in (None, found[0]["name"])


def test_a_list_of_runs_is_json(several, fgtrain):
    found = fgtrain("runs", "--json").json()
    assert found["damaged"] == []
    last = found["runs"][-1]
    assert (last["name"], last["estimator"], last["steps"], last["planned"]) == ("b", "feedback", 60, 60)
    assert (last["ended"], last["metrics"]) == ("all steps", {})
    assert 0 <= last["accuracy"] <= 1


def damage_config(path):
    (path / "config.toml").write_text("[run", encoding="utf-8")


def damage_metrics(path):
    (path / "metrics.jsonl").write_text("{}\n", encoding="utf-8")


def lose_metrics(path):
    (path / "metrics.jsonl").unlink()


def pipe_metrics(path):
    (path / "metrics.jsonl").unlink()
    os.mkfifo(path / "metrics.jsonl")


@pytest.mark.parametrize("damage", [damage_config, damage_metrics, lose_metrics, pipe_metrics])
def test_a_damaged_run_costs_a_line(several, fgtrain, damage):
    damage(several / "a-10")
    done = fgtrain("runs")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines()] == ["name", "a-2", "b"]
    (line,) = done.err.splitlines()
    assert re.match(r"a-10: (config\.toml|metrics\.jsonl) is damaged: ", line)
    (one,) = json.loads(fgtrain("runs", "--json").out)["damaged"]
    assert f"{one['name']}: {one['problem']}" == line
    assert fgtrain("show", "runs/a-10").error.startswith("runs/a-10/")


def test_a_run_that_has_not_ended_is_listed_up_to_its_last_record(several, fgtrain):
    (several / "b/model.safetensors").unlink()
    with (several / "b/metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 61, "ep')
    (one,) = [one for one in json.loads(fgtrain("runs", "--json").out)["runs"] if one["name"] == "b"]
    assert (one["ended"], one["steps"]) == ("not ended", 60)
    (several / "b/metrics.jsonl").unlink()
    (one,) = [one for one in json.loads(fgtrain("runs", "--json").out)["runs"] if one["name"] == "b"]
    assert (one["steps"], one["loss"], one["seconds"]) == (0, None, None)
    assert fgtrain("show", "runs/b").out.startswith("b has no record yet.\n")
    assert fgtrain("show", "runs/b", "--html", "b.html").code == 0


def test_a_run_folder_itself_is_listed(finished, fgtrain):
    (one,) = json.loads(fgtrain("runs", finished, "--json").out)["runs"]
    assert one["name"] == finished.name


def test_a_folder_without_runs_says_how_to_make_one(folder, fgtrain):
    (folder / "empty").mkdir()
    done = fgtrain("runs", "empty")
    assert (done.code, done.out) == (0, "")
    assert done.err == "empty: no run is in this folder; `fgtrain train` makes runs/DATA-MODEL-1\n"
    assert (
        fgtrain("runs", "nowhere").error == "nowhere: No such file or directory; a folder of runs is required"
    )
    assert (
        fgtrain("runs", "empty", "--sort", "dates").error
        == "sort: unknown quantity 'dates' (did you mean 'date'?)"
    )


@pytest.mark.parametrize("width", [80, 120])
def test_a_list_fits_the_terminal(several, width, monkeypatch, fgtrain):
    monkeypatch.setattr(runs_command, "columns", lambda: width)
    lines = fgtrain("runs").out.splitlines()
    assert max(map(len, lines)) <= width
    assert {"name", "estimator", "steps", "accuracy", "ended"} <= set(lines[0].split())
    assert ("date" in lines[0]) == (width == 120)


@pytest.mark.parametrize("width", [80, 120])
def test_a_run_is_shown(several, fgtrain, monkeypatch, width):
    monkeypatch.setattr(show, "columns", lambda: width)
    done = fgtrain("show", "runs/b")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    sentence = (
        r"feedback reached an error of [\d.]+ % \(accuracy 0\.\d+\) on digits after 60 steps in [\d.]+ s\."
    )
    assert re.match(sentence, done.out.replace("\n", " "))
    assert "learning rate  0.0032" in done.out
    assert 40 < max(map(len, lines)) < width
    heads = [line for line in lines if ":   " in line]
    assert [head.split(":")[0] for head in heads] == ["loss", "error, %"]
    assert "best, step " in heads[0]
    assert len([line for line in lines if "┤" in line or "│" in line]) == 2 * HEIGHT


def test_a_terminal_of_ascii_gets_ascii(several, fgtrain, monkeypatch):
    monkeypatch.setattr(show, "can_print", lambda text: text.isascii())
    done = fgtrain("show", "runs/b")
    assert done.out.isascii()
    assert "loss:   . training   o validation   @ best" in done.out


def test_what_a_terminal_can_show():
    assert screen.can_print("a")
    assert screen.columns() is None


def test_a_run_is_json(several, fgtrain):
    found = fgtrain("show", "runs/b", "--json").json()
    assert (found["name"], found["settings"]["estimator"]) == ("b", "feedback")
    assert [record["step"] for record in found["records"]] == list(range(6, 61, 6))


def test_a_run_is_a_page(several, fgtrain, folder):
    done = fgtrain("show", "runs/b", "--html", "b.html")
    assert (done.code, done.out, done.err) == (0, "", "page written to b.html\n")
    html = (folder / "b.html").read_text(encoding="utf-8")
    assert not re.search(r"<(script|link|img|iframe|object)|https?://", html)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in html
    assert "prefers-color-scheme: dark" in html
    assert html.count('<svg class="chart" viewBox="0 0 400') == 2
    for text in (
        "feedback reached an error of",
        "Settings",
        "Model",
        "Records",
        "Versions and processor",
        "650 parameters",
    ):
        assert (text in html) == (text != "650 parameters")
    assert re.search(r"input 8×8×1, [\d,]+ parameters", html)
    assert len(html) < 40_000


def test_a_page_of_an_earlier_version_says_what_was_not_recorded(finished, tmp_path, fgtrain):
    shutil.copytree(finished, tmp_path / "run")
    config = (tmp_path / "run/config.toml").read_text(encoding="utf-8")
    (tmp_path / "run/config.toml").write_text(
        re.sub(r'(?m)^(numba|python|processor|numpy) = ".*"\n', "", config), encoding="utf-8"
    )
    assert fgtrain("show", tmp_path / "run", "--html", tmp_path / "page.html").code == 0
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("not recorded") == 4


def test_a_page_is_written_whole_or_not_at_all(finished, fgtrain, folder):
    error = fgtrain("show", finished, "--html", "nowhere/page.html").error
    assert re.fullmatch(r"output: .*nowhere/page\.html: there is no folder .*nowhere", error)
    (folder / "taken").mkdir()
    assert "is no file" in fgtrain("show", finished, "--html", "taken").error
    assert fgtrain("show", "nothing").error == "nothing: no such folder; a run folder is required"


def test_a_metric_has_a_linear_axis_as_in_the_figure():
    records = [
        fg.Record(s, 1.0 / s, 0.1, metrics={"validation_r2": r}) for s, r in ((1, 0.8), (2, 0.9), (3, 0.97))
    ]
    loss, metric = report.charts_of(records, None)
    assert (loss.label, loss.logarithmic) == ("loss", True)
    assert (metric.label, metric.logarithmic) == ("R²", False)
    assert charts.svg(metric.lines, metric.label, metric.logarithmic).count('class="grid"') > 2


def test_headlines_say_how_a_run_ended():
    one = listing.Summary(
        "r", "mlp", "d", "feedback", 40, 100, 0.5, float("nan"), {"test_r2": 0.5}, 1.0, "early", ""
    )
    assert listing.headline(one) == (
        "feedback reached r2 0.5 on d after 40 steps of 100 in 1.0 s; it ended early, as it no longer improved."
    )
    assert one.score == "r2 0.5"
    diverged = listing.Summary(
        "r", "mlp", "d", "", 40, None, 0.5, float("nan"), {}, float("nan"), "diverged at 41", ""
    )
    assert (
        listing.headline(diverged) == "The run reached a loss of 0.5 on d after 40 steps; then it diverged."
    )
