"""Precisions of a CPU's products: what ``auto`` stands for, and what is compiled for one."""

from dataclasses import replace

import pytest

import fgnumba as fg
from fgnumba.kernels.devices import precision, tuning
from fgnumba.kernels.devices.device import CPU, Cpu
from fgnumba.kernels.emit import vector
from fgnumba.kernels.ops.conv2d import filtering, panel_sums
from fgnumba.kernels.ops.example_panels.cpu import transpose
from fgnumba.kernels.rules.directions import cpu as directions
from fgnumba.kernels.shared.product import dot_tiles, product, register_tiles

TWIN = "avx512bf16-twin"
MIXED = [("float32", "float32"), ("bf16", "bf16"), ("bf16x3", "float32"), ("float32", "bf16x2")]


def test_the_environment_says_what_auto_stands_for(monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, TWIN)
    monkeypatch.setenv(precision.OVERRIDE, "bf16x2")
    assert (CPU.isa.precision, CPU.isa.tangent_precision) == ("bf16x2", "bf16x2")
    named = Cpu("bf16", "auto").isa
    assert (named.precision, named.tangent_precision) == ("bf16", "bf16x2")
    assert Cpu("float32").isa.tangent_precision == "float32"
    for nothing in ("", "auto"):
        monkeypatch.setenv(precision.OVERRIDE, nothing)
        assert CPU.isa.precision == precision.automatic(vector.instruction_set())


def test_the_environment_names_an_unknown_precision(monkeypatch):
    monkeypatch.setenv(precision.OVERRIDE, "bf16x")
    with pytest.raises(
        fg.ConfigError, match=r"FGNUMBA_PRECISION is 'bf16x' \(did you mean 'bf16(x[23])?'\?\)"
    ):
        _ = CPU.isa


@pytest.fixture
def no_result(tmp_path, monkeypatch):
    monkeypatch.setenv("FGNUMBA_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv(precision.OVERRIDE, raising=False)
    precision._result.cache_clear()
    yield
    precision._result.cache_clear()


def results(seconds, exact, error):
    return dict(zip(precision.RESULTS, (seconds, exact, error), strict=True))


@pytest.mark.parametrize(
    ("result", "name", "why"),
    [
        (results(1.0, 0.7, 3e-7), "bf16x3", "the fastest that is as exact"),
        (results(1.0, 0.99, 3e-7), "float32", "none that is as exact is faster"),
        (results(1.0, 0.1, 2e-6), "float32", "are wrong on this machine"),
        (results(1.0, 0.1, float("nan")), "float32", "are wrong on this machine"),
    ],
)
def test_tiles_are_used_where_a_trial_finds_them_exact_and_faster(result, name, why, no_result, monkeypatch):
    """On a processor with AMX; another one does not execute anything here."""
    trials = []

    def trial(isa):
        trials.append(isa.name)
        return result

    monkeypatch.setattr(precision, "trial", trial)
    isa = vector.INSTRUCTION_SETS["amx"]
    assert precision.automatic(isa) == name
    assert why in precision.explained(isa)
    assert trials == ["amx"]


@pytest.mark.parametrize("name", ["avx512bf16", "bfmmla", "avx2", "amx-twin"])
def test_other_sets_make_no_trial(name, no_result, monkeypatch):
    monkeypatch.setattr(precision, "trial", None)
    isa = vector.TWINS.get(name) or vector.INSTRUCTION_SETS[name]
    assert precision.automatic(isa) == "float32"


def test_a_result_is_kept_for_other_processes(no_result, monkeypatch):
    monkeypatch.setattr(precision, "trial", lambda isa: results(1.0, 0.7, 3e-7))
    isa = vector.INSTRUCTION_SETS["amx"]
    assert precision.automatic(isa) == "bf16x3"
    precision._result.cache_clear()
    monkeypatch.setattr(precision, "trial", None)
    assert precision.automatic(isa) == "bf16x3"


def test_a_trial_times_both_and_measures_the_error(monkeypatch):
    """By a twin, which computes what AMX would, and slowly."""
    monkeypatch.setattr(tuning, "_INPUTS", 96)
    monkeypatch.setattr(tuning, "_OUTPUTS", 128)
    found = precision.trial(vector.TWINS["amx-twin"])
    assert tuple(found) == precision.RESULTS
    assert 0 < found["float32"] < found["bf16x3"]
    assert 0 < found["error"] <= precision.LARGEST_ERROR
    assert precision.chosen(found) == "float32"


def test_the_error_of_a_coarser_precision_is_seen():
    isa = vector.TWINS["amx-twin"]
    assert precision.largest_error(isa.multiplying("bf16x2")) > precision.LARGEST_ERROR


def test_kernels_of_vectors_are_the_same_in_every_precision():
    plain = vector.instruction_set("generic")
    others = [replace(plain, name="other", dots="pairs", twin=True).multiplying(*each) for each in MIXED]
    for make in (
        lambda isa: register_tiles.tile(isa, 2, 1, True, "signs"),
        product.combine,
        directions.sign_words,
        directions.gaussians,
        lambda isa: filtering.transform(isa, "input", filtering.INPUT),
        panel_sums.panel_sums,
        transpose,
    ):
        assert {make(isa) for isa in others} == {make(plain)}
    tables = [dot_tiles.dot_table(isa, [1], 1, "bf16") for isa in others]
    assert all((table == tables[0]).all() for table in tables)
