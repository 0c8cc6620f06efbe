"""Models that learn from a stream, one position at a time."""

import copy
from itertools import pairwise

import numpy as np
import pytest

import fgnumba as fg

SYMBOLS = 3


def model(layer=None, width=SYMBOLS):
    layers = [layer or fg.ElementwiseLSTM(16, symbols=SYMBOLS), fg.Dense(width)]
    return fg.Sequential(layers, (8,), device="cpu")


@pytest.mark.parametrize("layer", [None, fg.LinearRecurrentUnit(8, symbols=SYMBOLS)], ids=["lstm", "lru"])
def test_it_learns_which_symbol_comes_next(layer):
    one = model(layer)
    losses = [one.learn_one(t % SYMBOLS, (t + 1) % SYMBOLS).loss for t in range(400)]
    assert np.mean(losses[-30:]) < 0.7 * np.mean(losses[:30])
    # A call of the model reads the parameters that were learned.
    ahead = model(layer)
    assert np.abs(one(np.zeros((1, 8), int)) - ahead(np.zeros((1, 8), int))).max() > 0.1


def test_a_full_recurrence_learns_by_weight_perturbation():
    one = model(fg.GRU(4, symbols=SYMBOLS))
    result = one.learn_one(0, 1)
    assert np.isfinite(result.loss)
    assert isinstance(result.directional_derivative, float)


def test_predictions_leave_the_stream_where_it_is_and_know_its_past():
    learner, other = (fg.OnlineLearner(model(), optimizer=fg.SGD(1e-30)) for _ in range(2))
    symbols = [0, 1, 1, 2, 0]
    for x, y in pairwise(symbols):
        for guess in range(SYMBOLS):
            learner.predict_one(guess)
        assert learner.learn_one(x, y).loss == other.learn_one(x, y).loss
    whole = learner.model(np.array([[*symbols[:4], 2, 0, 0, 0]]))
    np.testing.assert_array_equal(learner.predict_one(2), whole[0, 4])
    learner.reset()
    np.testing.assert_array_equal(learner.predict_one(2), learner.model(np.full((1, 8), 2))[0, 0])


def test_numbers_are_learned_by_squared_errors():
    made = fg.Sequential([fg.ElementwiseLSTM(8), fg.Dense(2)], (4, 3), device="cpu")
    learner = fg.OnlineLearner(made, optimizer=fg.Adam(0.02))
    rng = np.random.default_rng(0)
    losses = []
    for _ in range(300):
        x = rng.standard_normal(3)
        losses.append(learner.learn_one(x, np.tanh(x[:2])).loss)
    assert np.mean(losses[-50:]) < 0.5 * np.mean(losses[:50])


def test_a_model_that_learns_can_be_copied():
    one = model()
    one.learn_one(0, 1)
    twin = copy.deepcopy(one)
    np.testing.assert_array_equal(twin(np.zeros((1, 8), int)), one(np.zeros((1, 8), int)))
    twin.learn_one(0, 2)
    assert np.abs(twin(np.zeros((1, 8), int)) - one(np.zeros((1, 8), int))).max() > 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: model().learn_one([0, 1], 1), "x has shape (2,)"),
        (lambda: model().learn_one(3, 1), "symbols are 0 to 2"),
        (lambda: model().learn_one(0, 3), "3"),
        (lambda: model().predict_one(0.5), "symbols are 0 to 2"),
        (lambda: fg.OnlineLearner(fg.Sequential([fg.Dense(2)], 3)), "a sequence is required"),
    ],
)
def test_what_does_not_fit_is_refused(make, message):
    with pytest.raises(fg.FgError) as caught:
        make()
    assert message in str(caught.value)
