"""The check of an estimator: each fault that an estimator can have fails it. ``test_statements.py`` checks ours."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.testing import check_estimator, gradient_by_coordinates
from tests import tolerances
from tests.testing.own_estimator import FAULTS, Own


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


def test_a_model_needs_examples():
    with pytest.raises(AssertionError, match="a model needs examples x and targets y"):
        check_estimator(Own(), problem()[0])
