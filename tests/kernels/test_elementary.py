"""The float32 elementary functions against float64, compiled (fused and not) and as plain Python."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from fgnumba.kernels.rules import elementary
from tests import tolerances

MAX = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Case:
    """A function, a float64 reference of each result, the domain."""

    function: Callable[..., Any]
    references: tuple[Callable[[np.ndarray], np.ndarray], ...]
    low: float = -MAX
    high: float = MAX


def density(x):
    return np.exp(-x * x / 2) / np.sqrt(2 * np.pi)


CASES = {
    "exp": Case(elementary.exp, (np.exp,)),
    "expm1": Case(elementary.expm1, (np.expm1,)),
    "exp_expm1": Case(elementary.exp_expm1, (np.exp, np.expm1)),
    "log": Case(elementary.log, (np.log,), low=0.0),
    "log1p_unit": Case(elementary.log1p_unit, (np.log1p,), low=0.0, high=1.0),
    "log1p_exp": Case(elementary.log1p_exp, (lambda x: np.logaddexp(0.0, x),)),
    "sigmoid": Case(elementary.sigmoid, (special.expit,)),
    "tanh": Case(elementary.tanh, (np.tanh,)),
    "erf": Case(elementary.erf, (special.erf,)),
    "normal_cdf_pdf": Case(elementary.normal_cdf_pdf, (special.ndtr, density)),
    "sincos_eighth": Case(
        elementary.sincos_eighth,
        (lambda t: np.cos(2 * np.pi * t), lambda t: np.sin(2 * np.pi * t)),
        low=-0.125,
        high=0.125,
    ),
}


@cache
def grid() -> np.ndarray:
    bits = np.arange(0, 2**32, 12289, dtype=np.int64).astype(np.uint32).view(np.float32)
    # Ends of intervals, points of saturation, and where the range reductions change their exponent.
    small = [
        0.0,
        2.0**-149,
        2.0**-126,
        0.25,
        0.34657,
        0.5,
        0.70710677,
        1.0,
        1.0397,
        1.4142135,
        3.92,
        4.0,
        9.02,
    ]
    large = [15.0, 17.33, 20.0, 87.336, 88.7228, 89.0, 103.97, 105.0, 1e4]
    edges = np.array([*small, *large], np.float32)
    below, above = np.nextafter(edges, np.float32(-MAX)), np.nextafter(edges, np.float32(MAX))
    edges = np.concatenate([edges, below, above, np.array([MAX], np.float32)])
    dense = np.concatenate([np.linspace(-110, 110, 100_001), np.linspace(-1, 1, 100_001)]).astype(np.float32)
    x = np.concatenate([bits, edges, -edges, dense])
    return x[np.isfinite(x)]


def inputs(case: Case) -> np.ndarray:
    x = grid()
    return x[(x >= case.low) & (x <= case.high)]


@cache
def compiled(name: str, fused: bool) -> Any:
    """Return the loop over a function, as the kernels compile it or without fused multiply-adds."""
    function, results = CASES[name].function, len(CASES[name].references)
    fastmath: bool | set[str] = {"contract", "nsz"} if fused else False
    decorate = numba.njit("void(float32[::1], float32[:, ::1])", error_model="numpy", fastmath=fastmath)
    if results == 1:

        @decorate
        def loop(x, y):
            for i in range(x.size):
                y[0, i] = function(x[i])

    else:

        @decorate
        def loop(x, y):
            for i in range(x.size):
                y[0, i], y[1, i] = function(x[i])

    return loop


def evaluate(name: str, form: str, x: np.ndarray) -> np.ndarray:
    """Return the results of a form, (results, size of x)."""
    y = np.empty((len(CASES[name].references), x.size), np.float32)
    if form != "plain":
        compiled(name, form == "fused")(x, y)
        return y
    with np.errstate(all="ignore"):
        for i, scalar in enumerate(x):
            found = CASES[name].function(scalar)
            for k, value in enumerate(found if isinstance(found, tuple) else (found,)):
                assert type(value) is np.float32
                y[k, i] = value
    return y


def assert_within(name: str, x: np.ndarray, y: np.ndarray) -> None:
    for k, reference in enumerate(CASES[name].references):
        with np.errstate(all="ignore"):
            exact = reference(x.astype(np.float64))
            nearest = exact.astype(np.float32)
            ulps = np.abs(y[k] - exact) / np.spacing(np.abs(nearest))
        # Beyond float32, inf is asked for; a NaN anywhere fails.
        ulps = np.where(y[k] == nearest, np.minimum(np.nan_to_num(ulps), 0.5), ulps)
        ulps = np.where(np.isnan(ulps), np.inf, ulps)
        worst = int(np.argmax(ulps))
        assert ulps[worst] <= tolerances.ELEMENTARY_ULPS[name][k], (
            f"{name}, result {k}: {y[k, worst]!r} for {exact[worst]!r} at {x[worst]!r}: {ulps[worst]:.2f} ulp"
        )


@pytest.mark.parametrize("form", ["fused", "unfused", "plain"])
@pytest.mark.parametrize("name", CASES)
def test_error_is_within_bound(name, form):
    x = inputs(CASES[name])
    if form == "plain":
        x = x[::500]
    assert_within(name, x, evaluate(name, form, x))


@settings(max_examples=60)
@given(x=st.floats(width=32, allow_nan=False, allow_infinity=False))
@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.low == -MAX])
def test_any_float_is_within_bound(name, x):
    point = np.array([x], np.float32)
    assert_within(name, point, evaluate(name, "plain", point))


@pytest.mark.parametrize("form", ["fused", "unfused", "plain"])
@pytest.mark.parametrize("name", CASES)
def test_nan_propagates(name, form):
    x = np.array([np.nan, -np.nan], np.float32)
    assert np.isnan(evaluate(name, form, x)).all()


@pytest.mark.parametrize("form", ["fused", "unfused", "plain"])
@pytest.mark.parametrize(
    ("name", "pairs"),
    [
        ("exp", {0: 1, 88.73: np.inf, 1e4: np.inf, np.inf: np.inf, -104: 0, -1e4: 0, -np.inf: 0}),
        ("expm1", {0: 0, 88.73: np.inf, 1e4: np.inf, np.inf: np.inf, -17.5: -1, -1e4: -1, -np.inf: -1}),
        ("log", {1: 0, -0.0: -np.inf, -1: np.nan, -np.inf: np.nan, np.inf: np.inf}),
        ("log1p_exp", {1e4: 1e4, -1e4: 0, np.inf: np.inf, -np.inf: 0}),
        ("sigmoid", {0: 0.5, 17.5: 1, 1e4: 1, np.inf: 1, -104: 0, -1e4: 0, -np.inf: 0}),
        ("tanh", {0: 0, 9.02: 1, 1e4: 1, np.inf: 1, -9.02: -1, -1e4: -1, -np.inf: -1}),
        ("erf", {0: 0, 4: 1, 1e4: 1, np.inf: 1, -4: -1, -1e4: -1, -np.inf: -1}),
    ],
)
def test_exact_values(name, form, pairs):
    x = np.array(list(pairs), np.float32)
    np.testing.assert_array_equal(evaluate(name, form, x)[0], np.array(list(pairs.values()), np.float32))


@pytest.mark.parametrize("name", CASES)
def test_loop_is_vector_code_in_float32(name):
    (module,) = compiled(name, True).inspect_llvm().values()
    body = module[module.index("define") :]
    body = body[: body.index("\n}")]
    calls = set(re.findall(r"call [^@\n]*@\"?([\w.]+)", body))
    assert not {c for c in calls if not c.startswith(("llvm.", "NRT_"))}
    assert "double" not in body
    assert re.search(r"fmul[^\n]* <\d+ x float>", body)
