"""Determinism: the same seed gives the same bits, however work is shared and in whichever process."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.estimators import RECIPES
from fgnumba.kernels.emit import vector
from tests import determinism_run as runs
from tests import processors, tolerances
from tests.places import ROOT
from tests.recipes import GENERAL

THREADS = ["1", "2", "5"]


def started(hash_seed, *arguments, vector=None):
    """Start a process that may use five threads, however many processors there are.

    `vector` names the instruction set, if it is not the host's widest.
    """
    environment = {
        **os.environ,
        "NUMBA_NUM_THREADS": "5",
        "PYTHONHASHSEED": hash_seed,
    }
    if vector is not None:
        environment["FGNUMBA_VECTOR"] = vector
    environment.pop("FGNUMBA_THREADS", None)
    return run(environment, *arguments)


def run(environment, *arguments):
    """Start a process in an environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.determinism_run", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def printed(process):
    """Return what a process has printed once it ends."""
    text, _ = process.communicate(timeout=3600)
    assert process.returncode == 0
    return json.loads(text)


@pytest.fixture(scope="module")
def digests():
    """Return the digests of every small run by name, in two processes."""
    return [printed(one) for one in (started("1", "small", *THREADS), started("2", "small", "2"))]


@pytest.mark.parametrize("name", runs.cases())
def test_steps_do_not_depend_on_threads_parts_or_processes(name, digests):
    first, second = (of_process[name] for of_process in digests)
    assert sorted(first) == sorted([*THREADS, "whole"])
    assert set(first.values()) | set(second.values()) == {first["whole"]}


@pytest.mark.slow
def test_steps_of_large_networks_do_not_depend_on_threads():
    # As they are cut by themselves: into parts that fit a cache, and chunks of them.
    found = printed(started("1", "large", *THREADS))
    assert sorted(found) == sorted(runs.large_cases())
    assert [name for name, of_threads in found.items() if len(set(of_threads.values())) > 1] == []


def test_every_recipe_and_every_family_of_optimisers_is_run():
    cases = runs.cases().values()
    general = {(r, n) for r in GENERAL for n in runs.SMALL}
    assert {(recipe, network) for recipe, _, network, *_ in cases if network in runs.SMALL} >= general
    assert {recipe for recipe, *_ in cases} == {name for name in RECIPES if name != "rtrl"}
    assert {type(runs.OPTIMIZERS[optimizer]) for _, optimizer, *_ in cases} == set(
        fg.optimizers.OPTIMIZERS.values()
    )


def test_digests_differ_where_runs_do():
    digests = set()
    for seed in (7, 8):
        trainer, losses = runs.trained("weight-perturbation", "sgd", "perceptron", seed=seed)
        digests.add(runs.digest(trainer, losses))
    trainer.model.packed_parameters["1.bias"].packed[3] += np.float32(1e-7)
    digests.add(runs.digest(trainer, losses))
    assert len(digests) == 3


@pytest.mark.parametrize("network", runs.SMALL)
@pytest.mark.parametrize(
    ("recipe", "direction"), [*((recipe, None) for recipe in GENERAL), ("weight-perturbation", "gaussian")]
)
def test_instruction_sets_take_the_same_steps(recipe, direction, network, monkeypatch):
    """Hold the sets that this machine executes, and the twins, to the same bits in float32.

    They differ in the shape of the register tile alone. Each sum goes over K in one order whatever the shape, and all
    are compiled for this processor: so either all of them fuse multiply-adds or none does. A set that multiplies
    bfloat16 computes float32 with the tiles of the set that it is built on.
    """
    found = set()
    for name in (*vector.executable(), *vector.TWINS):
        monkeypatch.setenv(vector.OVERRIDE, name)
        trainer, losses = runs.trained(
            *(recipe, GENERAL[recipe].optimizer, network, direction), steps=20, precisions=("float32",)
        )
        found.add(runs.digest(trainer, losses))
    assert len(found) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", processors.PROCESSORS)
def test_other_processors_take_nearly_the_same_steps(name, tmp_path):
    if not processors.executable(name) or processors.is_this(name):
        pytest.skip("this processor does not execute that one's code, or is that one")
    other = processors.environment(name, str(tmp_path))
    found = [printed(one) for one in (run(other, "losses"), run(dict(os.environ), "losses"))]
    assert sorted(found[0]) == sorted(runs.compared())
    for case in found[0]:
        theirs, ours = np.array(found[0][case]), np.array(found[1][case])
        for steps, bound in tolerances.OTHER_PROCESSORS.items():
            differ = np.abs(theirs[:steps] - ours[:steps]) / ours[:steps]
            assert differ.max() <= bound, (case, steps)
    # That code of another kind ran: some sum was rounded another way.
    assert found[0] != found[1]
