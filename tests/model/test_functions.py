"""The test functions: values, directional derivatives, and descent along forward gradients."""

import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit

from fgnumba.errors import DtypeError, ShapeError
from fgnumba.functions import beale, rosenbrock
from fgnumba.functions.calls import gradient
from fgnumba.functions.differentiable import differentiable
from tests import tolerances

coordinates = st.floats(-5.0, 5.0)
FUNCTIONS = {"beale": beale, "rosenbrock": rosenbrock}
STEP = 1e-30


def beale_reference(theta):
    x, y = theta
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def rosenbrock_reference(theta):
    return sum(100 * (right - left**2) ** 2 + (1 - left) ** 2 for left, right in pairwise(theta))


def complex_step(reference, theta, v):
    """Return the directional derivative without cancellation: Im f(θ + ihv) / h."""
    return reference(np.asarray(theta) + 1j * STEP * np.asarray(v)).imag / STEP


def points(sizes):
    """Draw a point and a direction of one size."""
    return sizes.flatmap(lambda size: st.tuples(*[st.lists(coordinates, min_size=size, max_size=size)] * 2))


@given(points(st.just(2)))
def test_beale_jvp(pair):
    theta, v = pair
    value, derivative = beale.jvp(theta, v)
    assert type(value) is type(derivative) is float
    of_value, of_derivative = tolerances.EXACT_FUNCTION["beale"]
    of_value.check(value, beale_reference(theta))
    of_derivative.check(derivative, complex_step(beale_reference, theta, v))
    assert beale(theta) == value


@given(points(st.integers(2, 9)))
def test_rosenbrock_jvp(pair):
    theta, v = pair
    value, derivative = rosenbrock.jvp(theta, v)
    assert type(value) is type(derivative) is float
    of_value, of_derivative = tolerances.EXACT_FUNCTION["rosenbrock"]
    of_value.check(value, rosenbrock_reference(np.asarray(theta)))
    of_derivative.check(derivative, complex_step(rosenbrock_reference, theta, v))
    assert rosenbrock(theta) == value


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_minimum(function):
    point = function.minimum
    assert point.dtype == np.float64
    assert point.shape == (2,)
    for v in ([1.0, 0.0], [0.0, 1.0], [-2.0, 3.0]):
        assert function.jvp(point, v) == (0.0, 0.0)
    point += 1.0
    assert function(function.minimum) == 0.0
    assert not hasattr(function, "gradient")


def test_rosenbrock_minimum_in_many_dimensions():
    assert rosenbrock.jvp(np.ones(7), np.arange(7.0)) == (0.0, 0.0)


def test_beale_gradient_of_the_first_figure():
    gradient = [beale.jvp([1.5, -0.1], v)[1] for v in np.eye(2)]
    tolerances.PAPER_GRADIENT.check(gradient, [-3.434, -0.808])


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
def test_they_are_differentiable_as_any_function(function):
    assert differentiable(function) is function
    theta = np.array([0.3, -1.2])
    assert gradient(function)(theta).tolist() == [function.jvp(theta, v)[1] for v in np.eye(2)]

    @njit
    def twice(theta):
        return 2.0 * function(theta)

    assert twice(theta) == 2.0 * function(theta)
    other = pickle.loads(pickle.dumps(function))
    assert other.jvp(theta, [1.0, 0.0]) == function.jvp(theta, [1.0, 0.0])
    assert (function.__name__, repr(function.minimum)) == (other.__name__, repr(other.minimum))


def test_linear_in_the_direction():
    theta = [0.3, -1.2]
    for function in FUNCTIONS.values():
        right, up = (function.jvp(theta, v)[1] for v in np.eye(2))
        tolerances.EXACT_LINEAR.check(function.jvp(theta, [2.0, -3.0])[1], 2 * right - 3 * up)


def test_inputs_are_left_alone_and_converted():
    theta, v = np.array([3, 1]), np.array([1, 2], np.float32)
    for function in FUNCTIONS.values():
        assert function.jvp(theta, v) == function.jvp([3.0, 1.0], [1.0, 2.0])
    assert theta.tolist() == [3, 1]
    assert v.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("theta", [[1e200, 1e200], [math.inf, 1.0], [math.nan, 0.0]])
def test_divergence_is_a_value(theta):
    for function in FUNCTIONS.values():
        assert not math.isfinite(function(theta))
        assert not math.isfinite(function.jvp(theta, [1.0, 1.0])[0])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("function", "start", "learning_rate", "steps", "reached"),
    [
        pytest.param(beale, (0.0, 0.5), 0.01, 1000, 2e-4, id="beale"),
        pytest.param(rosenbrock, (-1.0, 0.0), 5e-4, 25_000, 1e-5, id="rosenbrock"),
    ],
)
def test_descends_as_in_the_paper(function, start, learning_rate, steps, reached, seed):
    generator = np.random.default_rng(seed)
    theta = np.array(start)
    for v in generator.standard_normal((steps, 2)):
        _, derivative = function.jvp(theta, v)
        theta -= learning_rate * derivative * v
    assert function(theta) < reached


BAD_SHAPES = {
    "scalar": (1.0, 1.0, r"theta has shape \(\); a vector"),
    "matrix": ([[1.0, 2.0]], [[1.0, 2.0]], r"theta has shape \(1, 2\); a vector"),
    "one": ([1.0], [1.0], r"theta has shape \(1,\)"),
    "none": (np.empty(0), np.empty(0), r"theta has shape \(0,\)"),
    "differ": ([1.0, 2.0], [1.0, 2.0, 3.0], r"theta has shape \(2,\) and v \(3,\); they must be the same"),
    "ragged": ([[1.0], [1.0, 2.0]], [1.0, 2.0], "theta is ragged"),
}


@pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(("theta", "v", "match"), BAD_SHAPES.values(), ids=BAD_SHAPES)
def test_bad_shapes(function, theta, v, match):
    with pytest.raises(ShapeError, match=match) as caught:
        function.jvp(theta, v)
    assert "\n" not in str(caught.value)


def test_beale_takes_two_variables():
    with pytest.raises(ShapeError, match=r"theta has shape \(3,\); Beale's function takes \(2,\)"):
        beale([1.0, 2.0, 3.0])


@pytest.mark.parametrize("bad", [["1", "2"], [1j, 2.0], [None, 1.0], [True, False]], ids=repr)
def test_bad_dtypes(bad):
    for function in FUNCTIONS.values():
        with pytest.raises(DtypeError, match=r"theta is .*; real numbers are required"):
            function(bad)
        with pytest.raises(DtypeError, match=r"v is .*; real numbers are required"):
            function.jvp([1.0, 2.0], bad)
