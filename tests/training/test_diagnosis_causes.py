"""Diagnosis of a divergence that no layer causes; and that a diagnosis changes nothing."""

import pickle

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.estimators import recipe
from fgnumba.training import steps
from tests.recipes import GENERAL
from tests.training.test_diagnosis import BATCHES, averaging, diverged, drawn, ones


def linear(weight, batch=5):
    model = fg.Sequential([fg.Dense(1, bias=False)], 1)
    model.load_parameters({"0.weight": np.full((1, 1), weight)})
    return model, np.ones((batch, 1), np.float32), np.zeros((batch, 1), np.float32)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize(
    "estimator", [fg.WeightPerturbation(directions=2), fg.ActivityPerturbation(), fg.SPSA()]
)
def test_a_loss_that_overflows_from_finite_outputs(estimator, batch):
    model, x, y = linear(1.0, batch)
    x[-1] = 1e20
    found = diverged(model, x, y, loss=fg.MeanSquaredError(), estimator=estimator).diagnosis
    assert (found.quantity, found.layer, found.index, found.value) == ("loss", None, (batch - 1,), np.inf)
    assert "MeanSquaredError is inf of finite outputs" in str(found)


@pytest.mark.parametrize("count", [1, 3])
def test_a_derivative_that_overflows_in_the_loss_alone(count):
    # z = 1e15 and dz = 1e25: their product is too large, z² is not.
    model, x, y = linear(1e-10)
    x[...] = 1e25
    x[:3] = 0
    found = diverged(
        model, x, y, loss=fg.MeanSquaredError(), estimator=fg.WeightPerturbation(directions=count)
    ).diagnosis
    assert (found.quantity, found.layer, found.index, found.direction) == ("derivative", None, (3,), 0)
    assert ("along direction 0" in str(found)) == (count > 1)


@pytest.mark.parametrize("way", ["along", "back along"])
def test_differences_say_how_the_parameters_were_moved(way):
    # 0.1 and 1.9 times 2e38: too large on one side alone.
    model = fg.Sequential([fg.Dense(3, bias=False)], 1)
    x, y = np.full((2, 1), 2e38, np.float32), np.zeros(2, np.int64)
    sign = 1 if way == "along" else -1
    model.load_parameters({"0.weight": np.full((1, 3), sign, np.float32)})
    found = diverged(model, x, y, estimator=fg.CoordinateDifferences(epsilon=0.9)).diagnosis
    assert (found.quantity, found.layer) == ("primal", "0")
    assert f"parameters moved {way} coordinate 0;" in str(found)
    alike = (seed for seed in range(99) if set(drawn(model, "rank1", 1, seed)["0.weight"].flat) == {sign})
    model.load_parameters({"0.weight": np.ones((1, 3), np.float32)})
    found = diverged(model, x, y, estimator=fg.SPSA(epsilon=0.9), seed=next(alike)).diagnosis
    assert f"parameters moved {way} direction 0;" in str(found)


def test_targets_and_inputs_that_float32_does_not_hold():
    model, x, y = linear(1.0)
    found = diverged(model, x, y + 1e25, loss=fg.MeanSquaredError()).diagnosis
    assert found.quantity == "loss"
    assert "targets 1e+25" in str(found)
    found = diverged(model, x.astype(np.float64) * 1e200, y, loss=fg.MeanSquaredError()).diagnosis
    assert (found.quantity, found.index, found.value) == ("input", (0, 0), np.inf)


def test_an_update_that_overflows():
    model = averaging(2)
    x, y = ones(3, 4)
    found = diverged(model, x, y, optimizer=fg.SGD(1e39)).diagnosis
    assert (found.quantity, found.direction) == ("update", None)
    model, x, y = linear(1e10)
    found = diverged(
        model,
        x,
        y,
        loss=fg.MeanSquaredError(),
        optimizer=fg.SGD(1e30),
        estimator=fg.WeightPerturbation(directions=2),
    ).diagnosis
    assert (found.quantity, found.direction) == ("update", 0)
    assert "the derivative along direction 0, " in str(found)


def state(trainer):
    """Return the bytes of all that a trainer holds."""
    parameters = trainer.estimator.own_parameters(trainer.model, 0) and trainer.state.parameters
    arrays = {
        **{name: p.packed for name, p in trainer.model.packed_parameters.items()},
        **{name: p.packed for name, p in parameters.items()},
        **trainer.state.arrays,
        "rates": trainer.rates.host,
        "stream": trainer.stream.host,
        **{f"values {batch}": plan.values for batch, plan in trainer.estimates.items()},
    }
    return {name: array.tobytes() for name, array in arrays.items()}, trainer.steps_done, trainer.last_rate


@pytest.mark.parametrize("optimizer", [fg.SGD(0.01), fg.SGD(0.01, momentum=0.5), fg.Adam(0.01)])
@pytest.mark.parametrize("name", GENERAL)
def test_nothing_is_touched(name, optimizer, monkeypatch):
    diagnose = steps.diagnose
    seen: list[fg.Diagnosis | None] = []
    trainers: list[fg.Trainer] = []

    def watched(*arguments):
        before = state(trainers[-1])
        seen.append(diagnose(*arguments))
        assert state(trainers[-1]) == before
        return seen[-1]

    def run(function):
        monkeypatch.setattr("fgnumba.training.steps.diagnose", function)
        model = averaging(3)
        parameters = model.parameters()
        parameters["1.weight"][...] = 2
        model.load_parameters(parameters)
        estimator = recipe(name).build(name, None, None)
        trainer = fg.Trainer(model, estimator=estimator, optimizer=optimizer, seed=3)
        trainers.append(trainer)
        x, y = ones(5, 4)
        for _ in range(2):
            trainer.step(x, y)
        with np.errstate(all="ignore"), pytest.raises(fg.DivergenceError) as raised:
            trainer.step(x * np.float32(3e38), y)
        return state(trainer), raised.value.kept, str(raised.value)

    with_it, without = run(watched), run(lambda *arguments: None)
    assert seen[0] is not None
    assert with_it[:2] == without[:2]
    assert with_it[2].replace(f"{seen[0]}; ", "") == without[2]


def test_the_parameters_are_those_of_the_step_that_failed():
    # The update of step 0 is what is wrong; it is taken back after the diagnosis.
    model = averaging(2, activation="identity")
    x, y = ones(3, 4)
    y[...] = [0, 1, 2]
    error = diverged(model, x, y, optimizer=fg.SGD(1e38), steps=2, seed=1)
    assert error.kept
    assert error.diagnosis.quantity == "primal"
    assert "weight 3.33e+37" in str(error)
    assert max(np.abs(array).max() for array in model.parameters().values()) < 1e34


def test_estimates_are_diagnosed_too():
    model = averaging(3, scaled=1)
    for estimator in (fg.WeightPerturbation(), fg.SPSA(), fg.ActivityPerturbation()):
        trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.SGD(1e-3))
        with pytest.raises(fg.DivergenceError, match=r"layer 1 \(Dense\): its primal"):
            trainer.estimate(*ones(5, 4))


def test_what_does_not_fail_again_is_not_named(monkeypatch):
    model = averaging(3, scaled=1)
    monkeypatch.setattr(
        "fgnumba.estimators.weight.WeightEstimate.inspections", fg.estimators.Estimate.inspections
    )
    error = diverged(model, *ones(5, 4))
    assert error.diagnosis is None
    monkeypatch.undo()
    monkeypatch.setattr("fgnumba.model.inspection.Inspection.run", no_room)
    assert diverged(model, *ones(5, 4)).diagnosis is None


def no_room(*arguments):
    raise MemoryError


def test_an_error_travels_with_its_diagnosis():
    error = diverged(averaging(3, scaled=1), *ones(2, 4))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.kept, again.diagnosis) == (str(error), error.kept, error.diagnosis)
