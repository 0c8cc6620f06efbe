"""``--precision`` and ``--tangent-precision``: checked, stored in the run folder, and kept when a run is continued."""

import tomllib

import pytest

import fgnumba as fg
from fgnumba.cli import info
from fgnumba.kernels.devices import precision
from fgnumba.kernels.emit import vector
from fgnumba.runs import saved_run

TWIN = "avx512bf16-twin"
SMALL = ("--widths", 8, "--steps", 6, "--device", "cpu", "--quiet")


@pytest.fixture(autouse=True)
def twin(monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, TWIN)


def settings(run):
    return tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))


def begun(fgtrain, *options):
    done = fgtrain("train", *SMALL, "--out", "run", "--json", *options)
    assert done.code == 0, done.err
    return done.json()


def test_what_was_chosen_is_stored_and_reported(fgtrain, folder):
    found = begun(fgtrain, "--precision", "bf16x3", "--tangent-precision", "bf16")
    assert (found["precision"], found["tangent_precision"]) == ("bf16x3", "bf16")
    stored = settings(folder / "run")
    assert (stored["precision"], stored["tangent_precision"]) == ("bf16x3", "bf16")
    assert TWIN in stored["run"]["processor"]
    assert "tangent precision" in fgtrain("show", "run").out
    # The file of a run repeats it; a precision beside it is that of all products.
    assert fgtrain("train", "--config", "run/config.toml", "--out", "same", "--quiet").code == 0
    assert settings(folder / "same")["tangent_precision"] == "bf16"
    again = ("train", "--config", "run/config.toml", "--precision", "bf16x2", "--out", "other", "--quiet")
    assert fgtrain(*again).code == 0
    stored = settings(folder / "other")
    assert (stored["precision"], "tangent_precision" in stored) == ("bf16x2", False)


def test_auto_is_stored_as_what_it_stands_for(fgtrain, folder, monkeypatch):
    monkeypatch.setenv(precision.OVERRIDE, "bf16x2")
    begun(fgtrain)
    stored = settings(folder / "run")
    assert (stored["precision"], "tangent_precision" in stored) == ("bf16x2", False)
    # What it stands for later does not matter.
    monkeypatch.setenv(precision.OVERRIDE, "float32")
    assert fgtrain("train", "--resume", "run", "--steps", 9, "--quiet").code == 0
    assert settings(folder / "run")["precision"] == "bf16x2"
    assert saved_run.read(folder / "run").model.processor.precisions == ("bf16x2", "bf16x2")


def test_a_run_that_stored_none_goes_on_in_float32(fgtrain, folder, monkeypatch):
    begun(fgtrain, "--precision", "float32")
    path = folder / "run" / "config.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('precision = "float32"\n', ""), encoding="utf-8")
    assert "precision" not in settings(folder / "run")
    monkeypatch.setenv(precision.OVERRIDE, "bf16")
    assert saved_run.read(folder / "run").model.processor.precisions == ("float32", "float32")
    done = fgtrain("train", "--resume", "run", "--steps", 9, "--quiet")
    assert (done.code, done.err) == (0, "")
    assert settings(folder / "run")["precision"] == "float32"


def test_a_processor_without_the_precision_of_a_run_is_told_the_ways_out(fgtrain, folder, monkeypatch):
    begun(fgtrain, "--precision", "bf16")
    monkeypatch.setenv(vector.OVERRIDE, "generic")
    assert fgtrain("train", "--resume", "run", "--steps", 9).error == (
        "run: the products of this run are in bf16, by avx512bf16, which the processor does not have: --precision "
        f"float32 continues it with other bits, FGNUMBA_VECTOR={TWIN} slowly with the same"
    )
    # The first way.
    done = fgtrain("train", "--resume", "run", "--steps", 9, "--precision", "float32")
    assert done.code == 0
    assert "the products of its steps are in bf16; the run goes on in float32, with other bits" in done.err
    assert settings(folder / "run")["precision"] == "float32"
    # The other commands need no products in bfloat16.
    for command in ("evaluate", "show"):
        assert fgtrain(command, "run").code == 0


def test_evaluation_without_the_precision_is_in_float32(fgtrain, folder, monkeypatch):
    begun(fgtrain, "--precision", "bf16")
    monkeypatch.setenv(vector.OVERRIDE, "generic")
    assert fgtrain("evaluate", "run", "--json").json()["n"] > 0
    assert fg.load(folder / "run").processor.precisions == ("float32", "float32")


def test_a_run_in_bfloat16_is_replayed_by_any_processor(fgtrain, folder, monkeypatch):
    begun(fgtrain, "--precision", "bf16", "--estimator", "weight-perturbation", "--directions", 2)
    monkeypatch.setenv(vector.OVERRIDE, "generic")
    assert fgtrain("replay", "run", "--quiet", "--json").json()["identical"] is True


@pytest.mark.parametrize("command", ["train", "search"])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--precision", "bf17"), "precision: unknown precision 'bf17' (did you mean 'bf16'?)"),
        (
            ("--tangent-precision", "float64"),
            "tangent_precision: unknown tangent_precision 'float64' (did you mean 'float32'?)",
        ),
        (
            ("--precision", "tf32"),
            "device cpu: precision is 'tf32' (choose from auto, bf16, bf16x2, bf16x3, float32)",
        ),
    ],
)
def test_precisions_that_are_unknown_or_of_another_device(fgtrain, command, options, message):
    # The device is the one that auto finds.
    assert fgtrain(command, *options).error == message


@pytest.mark.parametrize("command", ["train", "search"])
def test_a_processor_without_the_precision_is_refused_on_one_line(fgtrain, folder, command, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, "generic")
    error = fgtrain(command, "--device", "cpu", "--precision", "bf16", "--out", "place").error
    assert error.startswith("precision: bf16 needs a processor that multiplies bfloat16")
    assert list(folder.iterdir()) == []


def test_trials_of_another_precision_are_another_search(fgtrain, folder):
    search = ("search", "--widths", 4, "--count", 1, "--steps", 2, "--device", "cpu", "--out", "trials")
    assert fgtrain(*search).code == 0
    # A file of an earlier version, whose trials were in float32, names no precision.
    assert "precision" not in (folder / "trials").read_text(encoding="utf-8")
    assert fgtrain(*search, "--precision", "float32").code == 0
    assert "is a search with other settings" in fgtrain(*search, "--precision", "bf16").error


def test_info_says_what_auto_stands_for(fgtrain, monkeypatch):
    found = fgtrain("info", "--json").json()
    assert found["precision"] == "float32 (FGNUMBA_PRECISION)"
    assert set(found["multiplies_bfloat16"]) == set(vector.executable()) & set(vector.MULTIPLYING)
    monkeypatch.delenv(precision.OVERRIDE)
    monkeypatch.setenv(vector.OVERRIDE, "generic")
    assert fgtrain("info", "--json").json()["precision"] == "float32 (generic does not multiply bfloat16)"
    for name in vector.MULTIPLYING:
        isa = vector.instruction_set(f"{name}-twin")
        assert precision.explained(isa).startswith(f"{precision.automatic(isa)} (with {name}-twin, ")


def test_why_amx_is_not_used(monkeypatch):
    monkeypatch.setattr(vector, "host_features", lambda: frozenset())
    assert info.amx() == "not in this processor"
    monkeypatch.setattr(vector, "host_features", lambda: frozenset(vector.INSTRUCTION_SETS["amx"].features))
    monkeypatch.setattr("fgnumba.kernels.emit.tile_permission.refusal", lambda: "no permission")
    assert info.amx() == "no permission"
    monkeypatch.setattr("fgnumba.kernels.emit.tile_permission.refusal", lambda: None)
    assert info.amx() == "usable"
