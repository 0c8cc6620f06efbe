"""The check of a loss: each fault that a loss can have fails it. ``test_losses.py`` checks ours."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.testing import check_loss
from tests.state_machine.own_loss import Scaled


def squared(z, y):
    return float(np.mean((z - y) ** 2))


class WrongValue(Scaled):
    def value(self, outputs, targets):
        return 1.001 * super().value(outputs, targets)


class WrongDerivative(Scaled):
    """Scales the derivatives as it should, and then once more."""

    def bind(self, device, z, outputs, targets, result, values):
        first, *rest = super().bind(device, z, outputs, targets, result, values)
        return [first, *rest, *rest[1:]] if len(values) > 1 else [first, *rest]


class WrongResidual(Scaled):
    def bind_residual(self, device, z, targets, residual):
        return Scaled(1.001 * self.factor).bind_residual(device, z, targets, residual)


class Total(Scaled):
    """A sum over the batch, where a mean is due."""

    def bind(self, device, z, outputs, targets, result, values):
        return Scaled(self.factor * z.shape[1]).bind(device, z, outputs, targets, result, values)

    def value(self, outputs, targets):
        return super().value(outputs, targets) * len(outputs)


class ReadsPadding(Scaled):
    def bind(self, device, z, outputs, targets, result, values):
        padded = np.zeros((z.shape[1], z.shape[2]), np.float32)
        return super().bind(device, z, z.shape[2], padded, result, values)


class TakesAnything(Scaled):
    def check_targets(self, targets, batch, outputs):
        pass


class AlwaysFinite(Scaled):
    """Says that a pass ended finite, into memory of which nobody is told, and once for all into the pass's own."""

    def bind(self, device, z, outputs, targets, result, values):
        result["finite"] = 1
        return super().bind(device, z, outputs, targets, np.zeros(1, result.dtype), values)


class Counting(Scaled):
    @property
    def key(self):
        return id(self)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (WrongValue, r"WrongValue, 1 examples of 1 outputs: value\(\) is .*; .* is expected"),
        (WrongDerivative, r"5 directions: value is|1 directions: value is|derivative along direction\["),
        (WrongResidual, r"WrongResidual, 1 examples of 1 outputs: residual\["),
        (Total, r"Total, 2 examples of 1 outputs: (value\(\)|residual|value)"),
        (ReadsPadding, r"the pass did not end finite"),
        (AlwaysFinite, r"a pass with an output of nan ended finite"),
        (TakesAnything, r"check_targets took targets of shape \(6, 33\) for 7 examples"),
        (Counting, r"a copy of the loss has another key"),
    ],
)
def test_a_fault_fails(kind, message):
    with pytest.raises(AssertionError, match=message):
        check_loss(kind(3.0), reference=lambda z, y: 3 * squared(z, y))


def test_a_sum_over_the_batch_fails_against_itself():
    with pytest.raises(AssertionError, match=r"Total, 2 examples of 1 outputs"):
        check_loss(Total(3.0))


def test_targets_of_ones_own_are_taken():
    seen = []

    def targets(generator, batch, outputs):
        seen.append((batch, outputs))
        return generator.integers(0, outputs, batch)

    check_loss(fg.SoftmaxCrossEntropy(), targets, outputs=(3,))
    assert set(seen) == {(1, 3), (2, 3), (7, 3), (61, 3)}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": 3}, "loss is 3; a Loss is required"),
        ({"targets": 3}, "targets is 3; a function is required"),
        ({"reference": 3}, "reference is 3; a function is required"),
    ],
)
def test_arguments_of_another_kind_are_refused(given, message):
    with pytest.raises(fg.ConfigError, match=message):
        check_loss(**{"loss": Scaled(3.0)} | given)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ("a", "reference returned 'a'; an array of numbers is expected"),
        ([[1, 2], [3]], "reference returned .*; an array of numbers is expected"),
        (np.zeros(3), r"reference has shape \(3,\); one number is expected"),
    ],
)
def test_a_reference_that_returns_something_else_fails(result, message):
    with pytest.raises(AssertionError, match=message):
        check_loss(Scaled(3.0), reference=lambda z, y: result)
