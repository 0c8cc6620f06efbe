"""Second and third derivatives of activations against float64."""

import numpy as np
import pytest
from scipy import special

from fgnumba.kernels.rules.activations.curvatures import CURVATURES
from fgnumba.kernels.rules.activations.rules import RULES
from tests import tolerances_input as tolerances

Z = np.concatenate(
    [np.linspace(-30, 30, 2001), np.linspace(-1e-3, 1e-3, 101), [-100, 100, -1e4, 1e4, -3e38, 3e38]]
)


def logistic(z):
    """Return q = σ(z) σ(-z) and two derivatives of it."""
    s, c = special.expit(z), special.expit(-z)
    q = s * c
    return q, q * (c - s), q * ((c - s) ** 2 - 2 * q)


def tanh(z):
    _, first, second = logistic(2 * z)
    return 8 * first, 16 * second


def silu(z):
    q, first, second = logistic(z)
    return 2 * q + z * first, 3 * first + z * second


def gelu(z):
    density = np.exp(-np.minimum(z * z, 2000) / 2) / np.sqrt(2 * np.pi)
    return density * (2 - z * z), density * (z**3 - 4 * z)


def elu(z):
    return (np.where(z > 0, 0, np.exp(np.minimum(z, 0))),) * 2


REFERENCES = {
    "tanh": tanh,
    "sigmoid": lambda z: logistic(z)[1:],
    "gelu": gelu,
    "silu": silu,
    "softplus": lambda z: logistic(z)[:2],
    "elu": elu,
}


def bends(name, z):
    """Return a'' and a''' of a rule, in float32."""
    with np.errstate(all="ignore"):
        found = [CURVATURES[name](at, *RULES[name](at)) for at in np.asarray(z, np.float32)]
    assert {type(number) for pair in found for number in pair} == {np.float32}
    return np.array(found, np.float32).T


def test_every_activation_has_a_curvature():
    assert CURVATURES.keys() == RULES.keys()


@pytest.mark.parametrize("name", REFERENCES)
def test_against_float64(name):
    found = bends(name, Z)
    with np.errstate(all="ignore"):
        expected = REFERENCES[name](np.float32(Z).astype(np.float64))
    for one, other in zip(found, expected, strict=True):
        error = np.abs(one - other)
        bound = tolerances.CURVATURE * np.maximum(1, np.abs(other))
        assert (error <= bound).all(), Z[np.argmax(error - bound)]


@pytest.mark.parametrize("name", sorted(CURVATURES.keys() - REFERENCES.keys()))
def test_rectifiers_do_not_bend(name):
    np.testing.assert_array_equal(bends(name, [-np.inf, -2, 0, 2, np.inf]), 0)


@pytest.mark.parametrize("name", CURVATURES)
def test_limits(name):
    np.testing.assert_array_equal(bends(name, [-np.inf, np.inf]), 0)


def test_at_a_kink_it_is_that_of_the_left():
    np.testing.assert_array_equal(bends("elu", [0.0, 1e-30]), [[1, 0], [1, 0]])


@pytest.mark.parametrize("name", sorted(REFERENCES.keys() - {"elu"}))
def test_nan_stays_nan(name):
    assert np.isnan(bends(name, [np.nan])).all()
