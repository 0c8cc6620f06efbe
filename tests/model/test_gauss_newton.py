"""The Gauss-Newton form of each loss: against second differences in float64, with weights, and what is refused."""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from tests import tolerances_measured_rates as tolerances

B, N, H = 7, 5, 1e-4
RNG = np.random.default_rng(3)
Z, R = RNG.standard_normal((2, B, N))
LABELS, REAL, SHARES = (
    RNG.integers(0, N, B),
    RNG.standard_normal((B, N)),
    RNG.random((B, N)).astype(np.float32),
)
WEIGHTS = RNG.random(B).astype(np.float32)

CASES: dict[str, tuple[Any, Any]] = {
    "cross-entropy": (fg.SoftmaxCrossEntropy(), LABELS),
    "smoothed": (fg.SoftmaxCrossEntropy(label_smoothing=0.2), LABELS),
    "weighted classes": (fg.SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.5, 3.0, 0.25)), LABELS),
    "mse": (fg.MeanSquaredError(), REAL),
    "huber": (fg.Huber(0.7), REAL),
    "bce": (fg.BinaryCrossEntropy(), SHARES),
}


def second_difference(loss, targets):
    """Return the loss's second derivative along R: it is rᵀHr, since the outputs are linear in the step."""
    return (
        loss.value(Z + H * R, targets) - 2 * loss.value(Z, targets) + loss.value(Z - H * R, targets)
    ) / H**2


@pytest.mark.parametrize("name", CASES)
def test_the_form_is_the_second_derivative_along_the_tangents(name):
    loss, targets = CASES[name]
    tolerances.GAUSS_NEWTON.check(loss.gauss_newton(Z, R, targets), second_difference(loss, targets), name)


@pytest.mark.parametrize("name", CASES)
def test_weights_of_examples(name):
    loss, targets = CASES[name]
    weighted = loss.with_example_weights()
    packed = weighted.pack(targets, WEIGHTS)
    assert weighted.has_gauss_newton
    tolerances.GAUSS_NEWTON.check(weighted.gauss_newton(Z, R, packed), second_difference(weighted, packed))


def test_the_form_is_quadratic_and_zero_along_what_the_loss_ignores():
    loss = fg.SoftmaxCrossEntropy()
    form = loss.gauss_newton(Z, R, LABELS)
    assert loss.gauss_newton(Z, 2 * R, LABELS) == 4 * form > 0
    # Adding the same number to all logits changes no probability.
    tolerances.NOT_CURVED.check(loss.gauss_newton(Z, np.ones((B, N)), LABELS), 0.0)
    # The inliers of Huber's loss alone are curved.
    assert fg.Huber(1.0).gauss_newton(np.full((2, 1), 3.0), np.ones((2, 1)), np.zeros((2, 1))) == 0


def test_a_loss_of_extreme_logits_has_a_finite_form():
    z = np.array([[1e30, -1e30, 0.0], [-800.0, 0.0, 800.0]], np.float32)
    r = np.ones((2, 3), np.float32)
    assert fg.BinaryCrossEntropy().gauss_newton(z, r, np.zeros((2, 3))) == 0.5 / 6
    assert fg.SoftmaxCrossEntropy().gauss_newton(z, r, np.array([0, 1])) == 0


def test_losses_without_second_derivatives():
    class Mine(fg.MeanSquaredError):
        pass

    for loss in (fg.Loss.from_function(lambda z, y: (z[0] - y) ** 2, targets="number"), Mine()):
        assert not loss.has_gauss_newton
        with pytest.raises(fg.ConfigError, match="has no second derivatives in closed form; Softmax"):
            loss.gauss_newton(Z, R, REAL)
