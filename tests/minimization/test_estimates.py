"""Estimates of a function's gradient: the exact one, and forward gradients, whose mean and variance are as stated."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.minimization.directions import Directions
from fgnumba.minimization.estimates import estimate_of
from fgnumba.minimization.passes import Function
from fgnumba.minimization.variables import Variables
from tests import tolerances, tolerances_minimization
from tests.minimization.functions import bowl, bowl_gradient, wavy, wavy_gradient

DRAWS = 2000
KINDS = {
    "rank1": (fg.WeightPerturbation(directions=3), -1),
    "rademacher": (fg.WeightPerturbation("rademacher", directions=3), -1),
    "gaussian": (fg.WeightPerturbation("gaussian", directions=11), 1),
    "forward": ("forward", -1),
}


def point(n):
    x = np.random.default_rng(n).standard_normal(n)
    variables = Variables(x)
    return Function(wavy, variables), x


@pytest.mark.parametrize("n", [2, 7, 8, 9, 20])
def test_the_gradient_is_exact(n):
    f, x = point(n)
    found = estimate_of("gradient", 0, n).at(f, x, 0)
    assert found.value == wavy(x)
    tolerances_minimization.GRADIENT.check(found.gradient, wavy_gradient(x))
    tolerances_minimization.GRADIENT.check(found.derivatives, [np.linalg.norm(wavy_gradient(x))])


@pytest.mark.parametrize("kind", KINDS)
def test_forward_gradients_are_unbiased_and_as_noisy_as_stated(kind):
    n = 10
    f, x = point(n)
    given, sign = KINDS[kind]
    estimate, exact = estimate_of(given, 5, n), wavy_gradient(x)
    estimates = np.array([estimate.at(f, x, step).gradient for step in range(DRAWS)])
    error = estimates.std(axis=0, ddof=1) / np.sqrt(DRAWS)
    allowed = tolerances.quantile(n) * error
    assert (abs(estimates.mean(axis=0) - exact) < allowed).all()
    squared = np.sum((estimates - exact) ** 2, axis=1) / np.sum(exact**2)
    count = len(estimate.at(f, x, 0).derivatives)
    noise = tolerances.quantile() * squared.std(ddof=1) / np.sqrt(DRAWS)
    assert abs(squared.mean() - (n + sign) / count) < noise


def test_an_estimate_is_the_mean_of_directions_times_derivatives():
    n = 5
    f, x = point(n)
    found = estimate_of(fg.WeightPerturbation("gaussian", directions=9), 1, n).at(f, x, 3)
    columns = Directions(fg.directions.Gaussian, 1, n, 9).draw(3)
    tolerances_minimization.GRADIENT.check(found.derivatives, wavy_gradient(x) @ columns)
    tolerances_minimization.GRADIENT.check(found.gradient, columns @ found.derivatives / 9)


def test_derivatives_are_clipped():
    n = 5
    f, x = point(n)
    found = estimate_of(fg.WeightPerturbation("rademacher", directions=4, clip=0.01), 1, n).at(f, x, 0)
    columns = Directions(fg.directions.Rademacher, 1, n, 4).draw(0)
    assert abs(found.derivatives).min() > 0.01
    tolerances_minimization.GRADIENT.check(found.gradient, columns @ np.sign(found.derivatives) * 0.01 / 4)


@pytest.mark.parametrize("kind", [fg.directions.Rademacher, fg.directions.Gaussian])
def test_directions_are_those_of_a_models_first_vector(kind):
    # A layer norm's gain is a vector, and here the parameter with number 0.
    model = fg.Sequential([fg.LayerNorm()], 70, device="cpu")
    drawn = Directions(kind, 7, 70, 3).draw(4)
    first = next(iter(model.parameters()))
    for t in range(3):
        v = kind(seed=7, step=4, index=t).materialize(model)[first]
        np.testing.assert_array_equal(drawn[:, t], v)


@pytest.mark.parametrize(("n", "derivatives"), [(256, 1), (257, 16)])
def test_the_default_is_exact_for_few_variables(n, derivatives):
    x = np.ones(n)
    found = estimate_of(None, 0, n).at(Function(bowl, Variables(x)), x, 0)
    assert found.derivatives.shape == (derivatives,)
    if derivatives == 1:
        tolerances_minimization.GRADIENT.check(found.gradient, bowl_gradient(x))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "forwards",
            r"^estimator is 'forwards' \(did you mean 'forward'\?\); 'gradient', 'forward' or a fgnum",
        ),
        (3, "^estimator is 3; 'gradient', 'forward' or a fgnumba.WeightPerturbation is required$"),
        (fg.WeightPerturbation("orthogonal"), "minimize takes rank1, rademacher or gaussian directions"),
        (fg.WeightPerturbation(combine="projected"), "combined by their mean, without a control variate$"),
        (fg.WeightPerturbation(control=0.5), "combined by their mean, without a control variate$"),
        (fg.SPSA(), "^estimator is SPSA"),
    ],
)
def test_other_estimators_are_refused(given, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.minimize(bowl, [1.0, 2.0], estimator=given)
