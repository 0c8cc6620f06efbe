"""Functions that activations of one's own may call, against float64, in every form in which they are compiled."""

import math

import numba
import numpy as np
import pytest

from fgnumba.kernels.rules import compound, trigonometric
from fgnumba.testing.rules import FORMS
from tests import tolerances_own_activations as tolerances

ERRORS = tolerances.FUNCTIONS


def of_one(function):
    return lambda x: np.array([function(float(one)) for one in x])


REFERENCES = {
    **{
        name: getattr(np, name) for name in ("sqrt", "cbrt", "exp2", "log1p", "log2", "log10", "sinh", "cosh")
    },
    **{name: getattr(np, name) for name in ("arcsinh", "arccosh", "arctanh", "floor")},
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "arctan", "arcsin", "arccos")},
    "erfc": of_one(math.erfc),
    "tanh_slope": lambda x: 1 / np.cosh(np.clip(x, -300, 300)) ** 2,
}
NEAR = 8_000
"""As far as this, sin, cos and tan have small relative errors."""


def numbers():
    bits = np.arange(0, 2**32, 49157, dtype=np.int64).astype(np.uint32).view(np.float32)
    bits = bits[np.isfinite(bits)]
    dense = (np.linspace(-30, 30, 20001), np.linspace(-1, 1, 20001), np.linspace(0.9, 3, 10001))
    edges = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        2.0**22,
        2.0**22 + 0.5,
        2.0**23 - 0.5,
        -(2.0**22) - 0.5,
        89.2,
        -89.2,
        128.0,
    ]
    return np.concatenate([bits, *dense, edges]).astype(np.float32)


def evaluated(name, form, z):
    function = getattr(compound, name, None) or getattr(trigonometric, name)
    if form == "plain":
        with np.errstate(all="ignore"):
            found = [function(one) for one in z]
        assert {type(one) for one in found} == {np.float32}
        return np.array(found, np.float32)

    def loop(z, out):
        for i in range(z.size):
            out[i] = function(z[i])

    out = np.empty_like(z)
    signature = "void(float32[::1], float32[::1])"
    numba.njit(signature, error_model="numpy", fastmath=FORMS[form])(loop)(z, out)
    return out


@pytest.mark.parametrize("form", ["fused", "unfused", "plain"])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_function_is_within_its_bound(name, form):
    z = numbers()
    z = z[::50] if form == "plain" else z
    found = evaluated(name, form, z)
    with np.errstate(all="ignore"):
        right = np.asarray(REFERENCES[name](z.astype(np.float64)))
        nearest = right.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(right))
    known = np.isfinite(nearest) & ((np.abs(right) >= 2.0**-126) | (right == 0))
    if name in ("sin", "cos", "tan"):
        known &= np.abs(z) <= NEAR
    if name == "erfc":
        known &= z < 1
    error = np.abs(found[known] - right[known]) / np.spacing(np.abs(nearest[known])).astype(np.float64)
    worst = int(np.argmax(error))
    assert error[worst] <= ERRORS[name], (
        z[known][worst],
        found[known][worst],
        right[known][worst],
        error[worst],
    )


def test_every_function_has_a_bound():
    assert REFERENCES.keys() == ERRORS.keys()


@pytest.mark.parametrize("form", ["fused", "unfused"])
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_far_from_zero_the_error_is_that_of_a_rounding_of_the_argument(name, form):
    z = np.geomspace(NEAR, 4e6, 5001).astype(np.float32)
    right = REFERENCES[name](z.astype(np.float64))
    assert np.all(np.abs(evaluated(name, form, z) - right) <= 2.0**-22 * z)
    assert np.all(np.abs(evaluated(name, form, np.geomspace(4e6, 3e38, 999).astype(np.float32))) <= 1)


def test_the_tail_of_erfc_is_wrong_by_a_rounding_of_its_argument():
    z = np.linspace(1, 9, 2001).astype(np.float32)
    right = REFERENCES["erfc"](z)
    assert np.all(
        np.abs(evaluated("erfc", "fused", z) - right) <= (6 + 4 * z.astype(float) ** 2) * 2.0**-24 * right
    )


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(0, 2, 0), (0, -2, math.inf), (2, 0, 1), (-1, 2.5, math.nan), (4, 0.5, 2), (9, -0.5, 1 / 3)],
)
def test_a_power(a, b, expected):
    with np.errstate(all="ignore"):
        found = compound.power(np.float32(a), np.float32(b))
    tolerances.ONE_OPERATION.check(found, expected)
