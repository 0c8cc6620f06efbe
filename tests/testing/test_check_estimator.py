"""The check of an estimator: each fault that an estimator can have fails it. ``test_statements.py`` checks ours."""

from dataclasses import dataclass, field

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.testing import check_estimator, estimators, gradient_by_coordinates
from tests import tolerances
from tests.testing.own_estimator import FAULTS, Own, OwnEstimate


def problem():
    model = fg.Sequential([fg.Dense(6, activation="tanh"), fg.Dense(3)], 5, seed=4, device="cpu")
    rng = np.random.default_rng(1)
    return model, fg.SoftmaxCrossEntropy(), rng.standard_normal((8, 5), np.float32), rng.integers(0, 3, 8)


def test_an_estimator_of_ones_own_passes():
    report = check_estimator(Own(), *problem())
    assert report.biased_entries == 0
    assert report.mean.shape == report.gradient.shape == report.standard_error.shape == (57,)
    # 56 by theory, and the mean's own noise of √(56 / 600).
    assert 40 < report.relative_variance < 75
    assert 0 < report.relative_bias < 0.6


MESSAGES = {
    "biased": r"Own: mean of the estimates of ∂f/∂'.*'\[.*\] is .*; .* is expected",
    "too long": r"Own: mean of g·∇f / ‖∇f‖² of 600 estimates is 1\.[3-7]\d*; 1 is expected",
    "hidden": r"(asked for again|after three more steps of a trainer's copy)",
    "moves": r"'0.bias' after an estimate\[",
    "another step": r"what a step moves '.*' by\[",
    "loss": r"the loss of a step is .*; .* is expected",
    "takes any step": r"a step whose loss is (nan|inf) was taken; a DivergenceError is expected",
    "statement": r"statement is ''; one line that says what E\[g\] is, is expected",
    "variance": r"E‖g - ∇f‖² / ‖∇f‖² of 600 estimates is .*; 38\.9 is expected",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_fails(fault):
    with pytest.raises(AssertionError, match=MESSAGES[fault]):
        check_estimator(Own(fault), *problem())


class Unbiased(fg.ActivityPerturbation):
    """Feedback alone, which is biased and says that it is not."""

    @property
    def unbiased(self):
        return True


def test_a_biased_estimator_that_says_it_is_not_fails():
    biased = fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0))
    report = check_estimator(biased)
    assert not biased.unbiased
    assert report.biased_entries > 500
    with pytest.raises(AssertionError, match=r"Unbiased: mean of the estimates"):
        check_estimator(Unbiased(feedback=fg.Feedback(control=0.0)))
    with pytest.raises(AssertionError, match=r"ActivityPerturbation: mean of the estimates"):
        check_estimator(biased, bias=0.01)
    check_estimator(biased, bias=1.0)


def test_a_gradient_that_is_given_is_the_one_compared_with():
    model, loss, x, y = problem()
    exact = reverse.value_and_grad(model, loss, x, y)[1]
    check_estimator(Own(), model, loss, x, y, gradient=exact)
    with pytest.raises(AssertionError, match="mean of the estimates"):
        check_estimator(Own(), model, loss, x, y, gradient={name: -g for name, g in exact.items()})


def test_the_gradient_by_coordinates_is_the_gradient():
    model, loss, x, y = problem()
    exact = reverse.value_and_grad(model, loss, x, y)[1]
    norm = np.sqrt(sum(np.sum(g**2) for g in exact.values()))
    for name, g in gradient_by_coordinates(model, loss, x, y).items():
        tolerances.Within(absolute=tolerances.DERIVATIVE * norm).check(g, exact[name], name)


class Uncopied:
    """A number of steps that a fingerprint does not see: only ``copy.deepcopy`` can copy it."""

    def __init__(self, steps=0):
        self.steps = steps

    def append(self, _):
        self.steps += 1

    def __len__(self):
        return self.steps

    def __deepcopy__(self, memo):
        return Uncopied(self.steps)

    def __reduce_ex__(self, protocol):
        raise TypeError


class _Remembering(OwnEstimate):
    """Scales its estimates by the number of steps that the estimator has taken."""

    def __init__(self, setting, memory):
        super().__init__(setting, "hidden")
        self._memory = memory

    def run(self, x, targets):
        self._calls = 10 * len(self._memory) - 1
        is_finite = super().run(x, targets)
        if self._setting.optimizer is not None:
            self._memory.append(1)
        return is_finite


@dataclass(frozen=True)
class Remembering(Own):
    """Says nothing of its estimates, and keeps what it remembers on itself."""

    memory: object = field(default_factory=list, repr=False, compare=False)
    unbiased = False

    def relative_variance(self, parameters):
        return None

    def bind(self, setting):
        return _Remembering(setting, self.memory)


@pytest.mark.parametrize(
    ("memory", "message"),
    [
        (list, "Remembering: steps changed the estimator itself"),
        (Uncopied, "Remembering: after three more steps of a trainer's copy"),
    ],
)
def test_an_estimator_that_remembers_on_itself_fails(memory, message):
    with pytest.raises(AssertionError, match=message):
        check_estimator(Remembering(memory=memory()), *problem(), draws=20)


def test_the_model_is_left_as_it_was():
    model, loss, x, y = problem()
    before = {name: values.tobytes() for name, values in model.parameters().items()}
    check_estimator(Own(), model, loss, 20 * x, y, draws=50, rounding=1e-4)
    assert {name: values.tobytes() for name, values in model.parameters().items()} == before


def test_estimates_are_taken_at_the_parameters_of_the_model(monkeypatch):
    # With steps that move the parameters far, the mean would be the gradient elsewhere.
    monkeypatch.setattr(estimators, "STANDING", 0.05)
    model, loss, x, y = problem()
    exact = reverse.value_and_grad(model, loss, x, y)[1]
    assert check_estimator(Own(), model, loss, x, y, gradient=exact, draws=300).biased_entries == 0


class _Constant(OwnEstimate):
    """Writes one number to every entry of the gradient."""

    def __init__(self, setting, number):
        super().__init__(setting, "")
        self._number = number

    def run(self, x, targets):
        self._pass.run(x, targets)
        if not self.read():
            return False
        for name in self._setting.model.packed_parameters:
            self._setting.gradient(name)[...] = self._number
        self._update.run()
        return True


@dataclass(frozen=True)
class Constant(Own):
    number: float = 0.0

    def bind(self, setting):
        return _Constant(setting, self.number)


class Unstated(Own):
    def relative_variance(self, parameters):
        return "large"


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (Constant(), "Constant, SGD with a momentum of 0.0: the estimate is zero for every parameter"),
        (Constant(number=np.nan), "Constant: a step at the model's parameters diverged: "),
        (Unstated(), "Unstated: relative_variance returned 'large'; a number or None is expected"),
    ],
)
def test_an_impossible_result_fails_with_a_line(estimator, message):
    with pytest.raises(AssertionError, match=message) as caught:
        check_estimator(estimator, *problem(), draws=20)
    assert "\n" not in str(caught.value)


def test_a_gradient_of_zero_cannot_be_compared_with():
    model, loss, x, y = problem()
    zeros = {name: np.zeros(values.shape) for name, values in model.parameters().items()}
    with pytest.raises(AssertionError, match="Own: the gradient is zero or not finite"):
        check_estimator(Own(), model, loss, x, y, gradient=zeros, draws=20)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"estimator": 3}, "estimator is 3; an Estimator is required"),
        ({"model": 3}, "model is 3; a Graph is required"),
        ({"loss": "mse"}, "loss is 'mse'; a Loss is required"),
        ({"gradient": 3}, "gradient is 3; a mapping from names to arrays is required"),
        ({"gradient": {"0.bias": "a"}}, "gradient: '0.bias' is 'a'; an array of numbers is required"),
        (
            {"gradient": {"0.bias": [0.0]}},
            r"gradient has shapes {'0.bias': \(1,\)}; {'0.weight': .*} are required",
        ),
    ],
)
def test_arguments_of_another_kind_are_refused(given, message):
    model, loss, x, y = problem()
    with pytest.raises(fg.ConfigError, match=message):
        check_estimator(**{"estimator": Own(), "model": model, "loss": loss, "x": x, "y": y} | given)


def test_a_model_needs_examples():
    with pytest.raises(AssertionError, match="a model needs examples x and targets y"):
        check_estimator(Own(), problem()[0])
