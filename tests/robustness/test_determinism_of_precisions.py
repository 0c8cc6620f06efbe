"""Determinism of products of bfloat16: the same bits for a precision and an instruction set, however work is shared."""

import contextlib

import pytest

from fgnumba.kernels.emit import vector
from tests import determinism_run as runs
from tests.robustness.test_determinism import printed, started

PAIRS = ("pairs", "tiles")
"""Ways of multiplying whose sums this file runs through on every machine: those of x86."""
SETS = tuple(name for name, isa in vector.TWINS.items() if isa.dots in PAIRS)
HARDWARE = tuple(
    name for name in vector.MULTIPLYING if name in vector.executable() and f"{name}-twin" in SETS
)


@pytest.fixture(scope="module", params=SETS)
def digests(request):
    """Return the digests of every run on one to three threads, with a twin's instructions."""
    return printed(started("1", "precisions", "1", "2", "3", vector=request.param))


@pytest.mark.slow
@pytest.mark.parametrize("name", runs.precision_cases())
def test_steps_do_not_depend_on_threads_or_parts(name, digests):
    assert sorted(digests[name]) == ["1", "2", "3", "whole"]
    assert len(set(digests[name].values())) == 1


@pytest.mark.slow
@pytest.mark.skipif(not HARDWARE, reason="this processor multiplies no bfloat16")
def test_steps_of_the_processor_are_those_of_its_twin():
    for name in HARDWARE:
        ours, twins = (
            printed(started("1", "precisions", *threads, vector=of))
            for of, threads in ((name, ("1", "2", "3")), (f"{name}-twin", ("2",)))
        )
        assert sorted(ours) == sorted(runs.precision_cases())
        for case, of_threads in ours.items():
            assert set(of_threads.values()) == set(twins[case].values()), (name, case)


@pytest.mark.parametrize("name", SETS)
def test_a_step_is_the_same_on_any_number_of_threads_whole_or_in_parts(name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    pairs = ("bf16x3", "bf16x3"), ("bf16x3", "bf16")
    found = {pair: set[str]() for pair in pairs}
    for threads, cut in (("1", False), ("1", True), ("2", True)):
        monkeypatch.setenv("FGNUMBA_THREADS", threads)
        with runs.finely_cut() if cut else contextlib.nullcontext():
            for pair in pairs:
                trained = runs.trained("weight-perturbation", "sgd", "wide", steps=2, precisions=pair)
                found[pair].add(runs.digest(*trained))
    assert [len(digests) for digests in found.values()] == [1, 1]
    assert found[pairs[0]] != found[pairs[1]]


@pytest.mark.parametrize("name", SETS)
def test_precisions_take_steps_of_their_own(name, monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, name)
    pairs = (("float32",), ("bf16x3",), ("bf16x2",), ("bf16",), ("float32", "bf16"))
    found = {
        runs.digest(*runs.trained("weight-perturbation", "sgd", "wide", steps=2, precisions=pair))
        for pair in pairs
    }
    assert len(found) == len(pairs)
