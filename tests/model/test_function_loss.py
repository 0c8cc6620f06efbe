"""Losses that are functions of one example's outputs and target, against float64."""

import copy
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from numba import njit
from scipy import special

import fgnumba as fg
from fgnumba.layers import own_function
from fgnumba.testing import check_loss
from tests import functions_of_examples, tolerances
from tests.places import ROOT
from tests.tolerances_function_layers import TRAINED


def cross_entropy(z, y):
    return special.logsumexp(z, axis=1) - z[np.arange(len(y)), y]


def margin(z, y):
    others = 1 + z - z[np.arange(len(y)), y][:, None]
    others[np.arange(len(y)), y] = 0
    return np.maximum(others, 0).max(axis=1)


def squared(z, y):
    return ((z - y) ** 2).mean(axis=1)


def normal_likelihood(z, y):
    return (z[:, 1] + (z[:, 0] - y.reshape(len(z))) ** 2 * np.exp(-z[:, 1])) / 2


CASES = {
    "cross_entropy": ("label", cross_entropy, (1, 2, 7, 33)),
    "margin": ("label", margin, (2, 7)),
    "squared": ("array", squared, (1, 2, 7)),
    "normal_likelihood": ("number", normal_likelihood, (2, 5)),
}
CELL = """import math
def loss(z, y):
    total = 0.0
    for n in range(len(z)):
        total += math.exp(z[n])
    return math.log(total) - z[y]
"""
DIGITS = fg.datasets.load("digits")


@pytest.mark.parametrize("name", CASES)
def test_a_function_is_a_loss(name):
    kind, losses, outputs = CASES[name]
    loss: Any = fg.Loss.from_function(getattr(functions_of_examples, name))
    assert loss.targets == kind
    assert loss.metric == ("accuracy" if kind == "label" else "r2")
    check_loss(
        loss,
        reference=lambda z, y: float(np.mean(losses(z, y))),
        outputs=outputs,
        tolerance=tolerances.CHECKED_LOSS,
    )


@pytest.mark.parametrize("weights", [None, [1.0, 2.0, 0.5]])
def test_classes_and_examples_have_weights(weights):
    loss = fg.Loss.from_function(functions_of_examples.cross_entropy, class_weight=weights)
    rng = np.random.default_rng(0)
    z, y, w = rng.standard_normal((13, 3)), rng.integers(0, 3, 13), np.float32(rng.random(13))
    of_classes = np.array(weights or [1.0, 1.0, 1.0])[y]
    expected = cross_entropy(z, y) * of_classes
    logits: Any = z
    tolerances.LOSS.check(loss.value(logits, y), expected.mean())
    weighted: Any = loss.with_example_weights()
    packed = weighted.pack(y, w)
    tolerances.LOSS.check(weighted.value(z, packed), (expected * w).mean())
    check_loss(
        weighted,
        lambda rng, batch, width: weighted.pack(rng.integers(0, width, batch), rng.random(batch) + 0.1),
        outputs=(3,),
        tolerance=tolerances.CHECKED_LOSS,
    )


def trained(loss, estimator, y=None, steps=40, outputs=10, **options):
    model = fg.Sequential([fg.Flatten(), fg.Dense(16, "relu"), fg.Dense(outputs)], (8, 8, 1), device="cpu")
    trainer = fg.Trainer(model, loss=loss, estimator=estimator, optimizer=fg.Adam(3e-3))
    x, targets = DIGITS.x_train[:500], DIGITS.y_train[:500] if y is None else y
    history = trainer.fit(x, targets, steps=steps, batch_size=50, **options)
    return history, model, trainer


@pytest.mark.parametrize("directions", [3, 12])
@pytest.mark.parametrize("name", ["weight-perturbation", "feedback", "activity"])
def test_it_trains_as_the_built_in_loss_does(name, directions):
    estimator = name
    if name == "weight-perturbation":
        estimator = fg.WeightPerturbation(directions=directions)
    elif directions != 3:
        pytest.skip("it has no directions")
    weights = np.linspace(0.5, 1.5, 500)
    own, *_ = trained(functions_of_examples.cross_entropy, estimator, sample_weight=weights)
    built_in, *_ = trained("cross-entropy", estimator, sample_weight=weights)
    TRAINED.check(own.final.loss, built_in.final.loss)


def test_a_function_trains_the_digits_from_a_notebook(monkeypatch):
    space = {"__name__": "__main__"}
    exec(CELL, space)
    history, model, trainer = trained(space["loss"], "feedback", steps=300, validation=0.2)
    assert history.final.validation_accuracy > 0.85
    found = fg.evaluate(model, DIGITS.x_test, DIGITS.y_test, loss=space["loss"])
    assert found.accuracy > 0.85
    assert "<string>, line 2" in repr(trainer.loss)


def test_real_targets_are_judged_by_r2():
    x = DIGITS.x_train[:500].reshape(500, -1)
    y = np.stack([x[:, :32].mean(axis=1), x[:, 32:].mean(axis=1)], axis=1)
    history, *_ = trained(functions_of_examples.squared, "feedback", y, 300, 2, validation=0.2)
    assert history.final.metrics["validation_r2"] > 0.5


def test_one_number_is_predicted_by_the_first_of_two_outputs():
    y = DIGITS.x_train[:500].reshape(500, -1)[:, :32].mean(axis=1)
    history, model, trainer = trained(
        functions_of_examples.normal_likelihood, "feedback", y, 400, 2, validation=0.2
    )
    assert history.final.metrics["validation_r2"] > 0.3
    outputs = model(DIGITS.x_test)
    assert trainer.loss.predictions(outputs).tolist() == outputs[:, :1].tolist()


def test_copies_and_other_processes_have_the_same_key():
    loss = fg.Loss.from_function(functions_of_examples.margin)
    assert copy.deepcopy(loss).key == copy.copy(loss).key == loss.key
    assert pickle.loads(pickle.dumps(fg.Loss.from_function(functions_of_examples.squared))).targets == "array"
    assert loss.key != fg.Loss.from_function(functions_of_examples.cross_entropy).key
    assert loss.key != fg.Loss.from_function(functions_of_examples.margin, class_weight=[1.0, 2.0]).key
    code = (
        "import fgnumba as fg; from tests.functions_of_examples import margin; "
        "print(fg.Loss.from_function(margin).key[1])"
    )
    key: Any = loss.key
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, encoding="utf-8"
    )
    assert done.stdout.strip() == key[1]


def test_the_key_has_the_numbers_of_modules_that_the_function_names(monkeypatch):
    def loss(z, y):
        return tolerances.SCALE_OF_A_LOSS * z[y]  # type: ignore[attr-defined]

    keys = []
    for number in (1.0, 2.0):
        monkeypatch.setattr(tolerances, "SCALE_OF_A_LOSS", number, raising=False)
        own_function.digest.cache_clear()
        keys.append(fg.Loss.from_function(loss, targets="label").key)
    assert keys[0] != keys[1]


def test_a_run_is_continued_with_the_same_function_alone(tmp_path):
    def of(function):
        model = fg.Sequential([fg.Flatten(), fg.Dense(10)], (8, 8, 1), device="cpu")
        return fg.Trainer(model, loss=function, estimator="feedback", optimizer=fg.Adam(1e-3))

    data = DIGITS.x_train[:200], DIGITS.y_train[:200]
    whole = of(functions_of_examples.cross_entropy)
    whole.fit(*data, steps=8)
    of(functions_of_examples.cross_entropy).fit(*data, steps=4, checkpoints=fg.Checkpoints(tmp_path, every=2))
    further = of(functions_of_examples.cross_entropy)
    further.fit(*data, steps=8, checkpoints=fg.Checkpoints(tmp_path, every=2), resume=True)
    for name, values in further.model.parameters().items():
        assert values.tobytes() == whole.model.parameters()[name].tobytes()
    with pytest.raises(fg.RunError, match="loss is"):
        of(functions_of_examples.margin).fit(
            *data, steps=12, checkpoints=fg.Checkpoints(tmp_path, every=2), resume=True
        )


@pytest.mark.parametrize("weighted", [False, True])
def test_an_exception_is_named(weighted):
    more = {"sample_weight": np.ones(500)} if weighted else {}
    with pytest.raises(
        fg.ConfigError, match=r"raises .*raised ValueError: no loss above a thousandth"
    ) as raised:
        trained(functions_of_examples.raises, "feedback", **more)
    assert "\n" not in str(raised.value)
    with pytest.raises(fg.ConfigError, match="no loss above a thousandth"):
        fg.Loss.from_function(functions_of_examples.raises).value(
            np.ones((2, 3), np.float32), np.array([0, 1])
        )


def test_an_output_that_is_not_finite_is_never_clipped_away():
    z = np.array([[-np.inf, 2.0, 3.0]], np.float32)
    assert np.isnan(fg.Loss.from_function(functions_of_examples.margin).value(z, np.array([2])))


@pytest.mark.parametrize("loss", [lambda z, y: z[y] < 0.5, lambda z, y: int(y)])
def test_truth_values_and_whole_numbers_have_the_derivative_zero(loss):
    loss = fg.Loss.from_function(loss, targets="label")
    model = fg.Sequential([fg.Dense(3)], 4, device="cpu")
    x, y = np.zeros((2, 4), np.float32), np.array([1, 1])
    value, derivative = fg.jvp(model, loss, x, y, fg.directions.Rademacher(seed=1, step=0))
    assert (value, derivative) == (1, 0)
    residual = fg.Trainer(model, loss=loss, estimator="feedback", optimizer=fg.SGD(0.1)).step(x, y)
    assert residual.loss == 1


REFUSED = {
    "no function": (3, "loss is 3; "),
    "a class": (fg.Dense, "a Python function"),
    "arguments": (lambda z: z[0], "takes 1 arguments; 2 are required"),
    "defaults": (lambda z, y, w=1: z[0], "takes 3 arguments; 2 are required"),
    "stars": (lambda *z: z[0], "takes \\*"),
    "parallel": (njit(parallel=True)(lambda z, y: z.sum()), "parallel=False is required"),
    "array": (functions_of_examples.no_number, "no_number .*returns array.* where a real number is required"),
    "complex": (lambda z, y: 1j * z[0], "returns complex128 where a real number is required"),
    "unknown": (functions_of_examples.unknown, "unknown .*cannot be compiled: .*nonsense"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_loss_is_refused_in_one_line(name):
    function, message = REFUSED[name]
    with pytest.raises(fg.ConfigError, match=message) as raised:
        fg.Loss.from_function(function)
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 600


def test_other_arguments_are_refused():
    with pytest.raises(fg.ConfigError, match="targets is 'class'; one of label, number, array"):
        fg.Loss.from_function(functions_of_examples.margin, targets="class")
    with pytest.raises(fg.ConfigError, match="classes are those of 'label'"):
        fg.Loss.from_function(functions_of_examples.squared, class_weight=[1.0])
    loss = fg.Loss.from_function(functions_of_examples.margin, class_weight=[1.0, 2.0])
    with pytest.raises(fg.ConfigError, match="class_weight has 2 numbers; the model has 3 outputs"):
        loss.value(np.zeros((1, 3), np.float32), np.array([0]))
    with pytest.raises(fg.ConfigError, match="cannot be compiled"):
        fg.Loss.from_function(functions_of_examples.cross_entropy, targets="array")


def test_targets_of_another_kind_are_refused_with_a_hint():
    with pytest.raises(fg.ShapeError, match=r"kind 'array'; Loss.from_function\(f, targets='label'\)"):
        fg.Loss.from_function(functions_of_examples.squared).check_targets(np.zeros(5, np.int64), 5, 3)
    with pytest.raises(fg.DtypeError, match="kind 'label'"):
        fg.Loss.from_function(functions_of_examples.margin).check_targets(np.zeros(5, np.float32), 5, 3)
    model = fg.Sequential([fg.Flatten(), fg.Dense(10)], (8, 8, 1), device="cpu")
    trainer = fg.Trainer(model, loss=functions_of_examples.squared, optimizer="adam", estimator="feedback")
    with pytest.raises(fg.ConfigError, match=r"class labels; .*kind 'array'.*targets='label'"):
        trainer.fit("digits", steps=1)
    with pytest.raises(fg.DatasetError, match="classes are 0 to 2"):
        fg.Loss.from_function(functions_of_examples.margin).value(np.zeros((1, 3), np.float32), np.array([3]))
