"""The precision of a run's products: kept in checkpoints, and what a run says that continues in another."""

import re
import warnings

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import RunError
from fgnumba.kernels.devices import precision
from fgnumba.kernels.emit import vector
from fgnumba.storage import checkpoint_file
from fgnumba.storage.checkpoint_file import CheckpointFile
from fgnumba.training import arithmetic, replay, replay_log

TWIN = "avx512bf16-twin"


@pytest.fixture(autouse=True)
def twin(monkeypatch):
    monkeypatch.setenv(vector.OVERRIDE, TWIN)


def trained(folder, steps, *precisions, resume=True):
    """Train a model further in a folder, and return the trainer and the warnings."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 6), np.float32), np.arange(40) % 3
    model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(3)], 6, seed=1, device=fg.device.cpu(*precisions))
    trainer = fg.Trainer(model, estimator=fg.WeightPerturbation(directions=2), optimizer=fg.SGD(1e-2))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(x, y, steps=steps, batch_size=8, checkpoints=fg.Checkpoints(folder), resume=resume)
    return trainer, [str(one.message) for one in caught]


def rewritten(folder, change):
    """Change the facts of the newest checkpoint."""
    path = fg.Checkpoints(folder).found()[0]
    found = CheckpointFile(path)
    facts = dict(found.facts)
    change(facts)
    checkpoint_file.write(path, facts, {name: found.array(name) for name in found.entries})
    return path


@pytest.mark.parametrize("precisions", [(), ("float32",), ("bf16",), ("bf16x3", "bf16x2")])
def test_a_run_in_its_own_precision_goes_on_as_if_it_had_not_stopped(tmp_path, precisions):
    whole, _ = trained(tmp_path / "whole", 6, *precisions, resume=False)
    trained(tmp_path / "parts", 3, *precisions, resume=False)
    found, said = trained(tmp_path / "parts", 6, *precisions)
    assert said == []
    for name, values in whole.model.parameters().items():
        np.testing.assert_array_equal(found.model.parameters()[name], values)


def test_another_precision_that_is_named_is_taken_and_said(tmp_path):
    trained(tmp_path, 3, "bf16", "bf16x2", resume=False)
    found, (said,) = trained(tmp_path, 6, "float32")
    assert found.steps_done == 6
    assert said.endswith(
        "the products of its steps are in bf16, tangents in bf16x2; the run goes on in float32, with other bits"
    )
    assert trained(tmp_path, 8, "float32")[1] == []


def test_another_precision_that_nobody_named_is_refused(tmp_path, monkeypatch):
    trained(tmp_path, 3, resume=False)
    monkeypatch.setenv(precision.OVERRIDE, "bf16x2")
    way = re.escape("device=cpu(precision='float32') of fgnumba.device continues with the same bits")
    with pytest.raises(RunError, match=rf"are in float32; here, auto stands for bf16x2: a model with {way}"):
        trained(tmp_path, 6)
    assert trained(tmp_path, 6, "float32")[1] == []


def test_a_checkpoint_of_an_earlier_version_is_of_float32(tmp_path, monkeypatch):
    trained(tmp_path, 3, "float32", resume=False)
    rewritten(tmp_path, lambda facts: facts.pop(arithmetic.KEY))
    monkeypatch.setenv(precision.OVERRIDE, "bf16")
    with pytest.raises(RunError, match="are in float32; here, auto stands for bf16"):
        trained(tmp_path, 6)
    assert trained(tmp_path, 6, "float32")[1] == []


def test_a_checkpoint_in_a_precision_that_the_processor_never_has(tmp_path):
    trained(tmp_path, 3, "float32", resume=False)
    of_a_gpu = {"precision": "tf32", "tangent_precision": "bf16"}
    rewritten(tmp_path, lambda facts: facts.update({arithmetic.KEY: of_a_gpu}))
    way = re.escape("device=cpu(precision='float32') of fgnumba.device continues with other bits")
    with pytest.raises(
        RunError, match=rf"are in tf32, tangents in bf16; here, auto stands for float32: .* {way}"
    ):
        trained(tmp_path, 6)
    _, (said,) = trained(tmp_path, 6, "float32")
    assert "are in tf32, tangents in bf16; the run goes on in float32, with other bits" in said


def test_another_instruction_set_is_said_unless_bits_do_not_depend_on_it(tmp_path, monkeypatch):
    trained(tmp_path / "short", 3, "bf16", resume=False)
    trained(tmp_path / "exact", 3, "float32", resume=False)
    monkeypatch.setenv(vector.OVERRIDE, "bfmmla-twin")
    _, (said,) = trained(tmp_path / "short", 6, "bf16")
    assert (
        "computed with 'avx512bf16'; the run goes on with 'bfmmla', whose bits differ; FGNUMBA_VECTOR=" + TWIN
        in said
    )
    assert trained(tmp_path / "exact", 6, "float32")[1] == []


@pytest.mark.parametrize("written", [3, [], {"precision": "bf16"}, {"precision": 1, "tangent_precision": 2}])
def test_an_arithmetic_that_cannot_be(tmp_path, written):
    trained(tmp_path, 3, "bf16", resume=False)
    path = rewritten(tmp_path, lambda facts: facts.update({arithmetic.KEY: written}))
    with pytest.raises(RunError, match=rf"{re.escape(str(path))}: arithmetic is .*, which is impossible"):
        trained(tmp_path, 6, "bf16")


def test_a_log_is_replayed_in_any_precision(tmp_path, monkeypatch):
    """Updates have no products: a log of a run in bfloat16 leads any machine to the same bits."""
    ran, _ = trained(tmp_path, 6, "bf16", resume=False)
    log = replay_log.read(tmp_path / "replay.log")
    monkeypatch.setenv(vector.OVERRIDE, "generic")
    model = fg.Sequential([fg.Dense(8, "tanh"), fg.Dense(3)], 6, seed=1, device=fg.device.cpu("float32"))
    again = fg.Trainer(model, estimator=fg.WeightPerturbation(directions=2), optimizer=fg.SGD(1e-2))
    replay.replay(again, log)
    for name, values in ran.model.parameters().items():
        np.testing.assert_array_equal(model.parameters()[name], values)
