"""Noise responses on a GPU against float64."""

import numpy as np
import pytest

from fgnumba.kernels.ops.feedback import COEFFICIENTS
from fgnumba.kernels.ops.noise_response import cuda as residual
from tests import tolerances

SHAPES = [(1, 1, 1), (2, 7, 10), (3, 131, 3), (1, 5, 67)]
SHARES = (1.0, 49.0, 0.25)


@pytest.mark.parametrize(("slots", "batch", "classes"), SHAPES)
def test_observed_tangents_are_copied(gpu, slots, batch, classes):
    z = np.random.default_rng(classes).standard_normal((1 + slots, batch, classes + 5)).astype(np.float32)
    response, power = gpu.nans(slots, batch, classes), gpu.nans(batch)
    gpu.run(residual.bind_copy(gpu.array(z), response, power))
    np.testing.assert_array_equal(response.download(), z[1:, :, :classes])
    np.testing.assert_array_equal(power.download(), np.zeros(batch))


def test_without_slots_the_power_becomes_zero(gpu):
    power = gpu.nans(300)
    gpu.run(residual.bind_copy(gpu.zeros((1, 300, 5)), gpu.zeros((0, 300, 3)), power))
    np.testing.assert_array_equal(power.download(), np.zeros(300))


def weighed(gpu, e, response, power, shares):
    """Return noise and coefficients."""
    noise = gpu.nans(*response.shape[:2])
    coefficients = gpu.array(np.full(max(1, len(shares)), np.nan, COEFFICIENTS), COEFFICIENTS)
    gpu.run(
        residual.bind_weigh(
            residual=gpu.array(e, np.float32),
            response=gpu.array(response, np.float32),
            noise=noise,
            factor=0.25,
            draws=4,
            power=gpu.array(power, np.float32),
            rate=gpu.array([0.5]),
            shares=gpu.array(shares, np.float64),
            coefficients=coefficients,
        )
    )
    return noise.download(), coefficients.download()


def drawn(slots, batch, classes):
    """Return e, responses and powers."""
    rng = np.random.default_rng(batch)
    e, response = rng.standard_normal((batch, classes)), rng.standard_normal((slots, batch, classes))
    return e.astype(np.float32), response.astype(np.float32), rng.random(batch).astype(np.float32)


@pytest.mark.parametrize(("slots", "batch", "classes"), SHAPES)
def test_noise_is_weighed_by_what_it_did(gpu, slots, batch, classes):
    e, response, power = drawn(slots, batch, classes)
    noise, coefficients = weighed(gpu, e, response, power, SHARES)
    expected = 0.25 * np.einsum("ic,tic->ti", e.astype(np.float64), response.astype(np.float64))
    tolerances.sums(classes).check(noise, expected)
    bound = power.astype(np.float64).sum() / batch + batch * 4 * np.array(SHARES)
    np.testing.assert_array_equal(coefficients["keep"], 1)
    # In float64 as the reference, in another order.
    tolerances.EXACT_SUMS.check(coefficients["gain"], 0.5 / np.maximum(1, bound))


def test_a_gain_is_no_more_than_the_rate(gpu):
    e, response, _ = drawn(1, 1, 3)
    _, coefficients = weighed(gpu, e, response, np.array([0.25]), [1 / 64])
    assert coefficients["gain"] == [0.5]


def test_more_layers_than_threads_have_gains(gpu):
    e, response, power = drawn(1, 2, 3)
    _, coefficients = weighed(gpu, e, response, power, np.ones(300))
    assert len(set(coefficients["gain"].tolist())) == 1


def test_without_shares_coefficients_stay(gpu):
    e, response, power = drawn(2, 5, 3)
    _, coefficients = weighed(gpu, e, response, power, [])
    assert np.isnan(coefficients["gain"]).all()
    assert np.isnan(coefficients["keep"]).all()


@pytest.mark.parametrize("place", ["residual", "response", "power"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_learned_from(gpu, place, value):
    e, response, power = drawn(2, 150, 3)
    {"residual": e[149], "response": response[1, 149], "power": power[149:]}[place][:1] = value
    _, coefficients = weighed(gpu, e, response, power, SHARES)
    np.testing.assert_array_equal(coefficients["keep"], 1)
    np.testing.assert_array_equal(coefficients["gain"], 0)
