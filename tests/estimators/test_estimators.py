"""Estimators: they are unbiased, and have the variance that they declare."""

import numpy as np
import pytest

import fgnumba as fg
from tests import tolerances
from tests.recipes import GENERAL

DRAWS = 2000


@pytest.fixture(scope="module", params=["perceptron", "convolutional"])
def problem(request):
    layers: list[fg.layers.Layer] = [fg.Dense(4, activation="tanh"), fg.Dense(3)]
    shape: tuple[int, ...] = (5,)
    if request.param == "convolutional":
        layers = [fg.Conv2d(3, 2, activation="tanh"), fg.LayerNorm(0.1), fg.Flatten(), fg.Dense(3)]
        shape = (3, 3, 1)
    model = fg.Sequential(layers, shape, seed=1)
    rng = np.random.default_rng(0)
    return (
        model,
        fg.SoftmaxCrossEntropy(),
        rng.standard_normal((6, *shape), np.float32),
        rng.integers(0, 3, 6),
    )


@pytest.fixture(scope="module")
def gradient(problem):
    """Return the gradient as one vector, a directional derivative an axis."""
    model, loss, x, y = problem
    shapes = {name: array.shape for name, array in model.parameters().items()}
    derivatives = []
    for name, shape in shapes.items():
        for index in np.ndindex(shape):
            tangents = {other: np.zeros(s, np.float32) for other, s in shapes.items()}
            tangents[name][index] = 1
            derivatives.append(fg.jvp(model, loss, x, y, tangents)[1])
    return np.array(derivatives)


def flat(arrays):
    return np.concatenate([array.ravel() for array in arrays.values()]).astype(np.float64)


def draws(problem, direction, seed):
    model, loss, x, y = problem
    kind = fg.directions.BY_NAME[direction]
    return np.array(
        [flat(fg.forward_gradient(model, loss, x, y, kind(seed, step))[1]) for step in range(DRAWS)]
    )


@pytest.mark.parametrize("direction", ["rank1", "rademacher", "gaussian"])
@pytest.mark.parametrize("seed", [0, 2**63 + 5])
def test_weight_perturbation_is_unbiased_with_its_variance(problem, gradient, direction, seed):
    sample = draws(problem, direction, seed)
    P = gradient.size
    # E[g] = ∇f, axis by axis.
    errors = (sample.mean(axis=0) - gradient) / (sample.std(axis=0, ddof=1) / np.sqrt(DRAWS))
    assert np.abs(errors).max() < tolerances.quantile(P)
    # E‖g - ∇f‖² = (P ± 1) ‖∇f‖².
    expected = (P + 1 if direction == "gaussian" else P - 1) * gradient @ gradient
    squared = np.sum((sample - gradient) ** 2, axis=1)
    assert abs(squared.mean() - expected) < tolerances.quantile() * squared.std(ddof=1) / np.sqrt(DRAWS)


@pytest.mark.parametrize("direction", ["rank1", "rademacher", "gaussian"])
def test_directions_divide_the_variance(problem, gradient, direction):
    model, loss, x, y = problem
    before = flat(model.parameters())
    T, steps = 8, 500
    estimates = []
    for seed in range(steps):
        trainer = fg.Trainer(
            model, loss=loss, estimator=fg.WeightPerturbation(direction, T), optimizer=fg.SGD(1.0), seed=seed
        )
        start = model.parameters()
        trainer.step(x, y)
        estimates.append(before - flat(model.parameters()))
        model.load_parameters(start)
    squared = np.sum((np.array(estimates) - gradient) ** 2, axis=1)
    P = gradient.size
    expected = (P + 1 if direction == "gaussian" else P - 1) / T * gradient @ gradient
    assert abs(squared.mean() - expected) < tolerances.quantile() * squared.std(ddof=1) / np.sqrt(steps)


@pytest.mark.parametrize("direction", ["rank1", "rademacher", "gaussian"])
def test_a_direction_has_its_form(problem, direction):
    model = problem[0]
    v = fg.directions.BY_NAME[direction](seed=3, step=7, index=2).materialize(model)
    for name, array in v.items():
        assert array.shape == model.parameters()[name].shape
        if direction != "gaussian":
            assert set(np.unique(array)) <= {-1.0, 1.0}
    if direction == "rank1":
        weight = v["0.weight"]
        assert np.linalg.matrix_rank(weight.reshape(-1, weight.shape[-1])) == 1


def test_forward_gradient_is_the_derivative_times_the_direction(problem):
    model, loss, x, y = problem
    v = fg.directions.Rademacher(seed=5).materialize(model)
    value, d = fg.jvp(model, loss, x, y, v)
    again, g = fg.forward_gradient(model, loss, x, y, v)
    assert value == again
    for name, array in g.items():
        np.testing.assert_array_equal(array, np.float32(d) * v[name])
    # Drawn in the kernels, the same direction: sums of up to six terms round in another order.
    drawn = fg.jvp(model, loss, x, y, fg.directions.Rademacher(seed=5))
    tolerances.MODEL_LOSS.check(drawn, (value, d))


def test_directions_of_a_step_differ_by_index(problem):
    model = problem[0]
    first, second = (flat(fg.directions.RankOne(seed=0, index=i).materialize(model)) for i in (0, 1))
    assert not np.array_equal(first, second)


def test_tangents_that_do_not_fit(problem):
    model, loss, x, y = problem
    with pytest.raises(fg.ConfigError, match="tangents is a list; a direction"):
        fg.jvp(model, loss, x, y, [1.0])  # type: ignore[call-overload]
    with pytest.raises(fg.ShapeError, match=r"tangents: '0\.weight' is missing"):
        fg.jvp(model, loss, x, y, {})


@pytest.mark.parametrize("name", GENERAL)
@pytest.mark.parametrize("value", [np.nan, np.inf, -1e300])
def test_examples_that_are_not_finite_change_nothing(name, value):
    # tanh is 1 there, and the loss finite.
    model = fg.Sequential([fg.Dense(8, activation="tanh"), fg.Dense(3)], 5, seed=1)
    trainer = fg.Trainer(model, estimator=GENERAL[name].build(name, None, None), optimizer=fg.SGD(1e-3))
    x, y = np.random.default_rng(0).standard_normal((4, 5)), np.arange(4) % 3
    before = {name: array.tobytes() for name, array in model.parameters().items()}
    wrong = x.copy()
    wrong[2, 3] = value
    for call in (trainer.step, trainer.estimate):
        for batch in ((wrong, y), (x, y + 1)):
            where = r"at \(2, 3\)" if batch[0] is wrong else "targets"
            with pytest.raises((fg.DatasetError, fg.DivergenceError), match=where):
                call(*batch)
            assert {name: array.tobytes() for name, array in model.parameters().items()} == before
    assert trainer.steps_done == 0
    trainer.step(x, y)
