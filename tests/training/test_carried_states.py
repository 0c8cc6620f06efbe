"""States of recurrent layers that are carried from step to step: failed steps, copies, checkpoints, other batches."""

import copy

import numpy as np
import pytest

import fgnumba as fg
from tests import tolerances

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 3, (8, 6)), RNG.integers(0, 3, (8, 6))
NUMBERS = RNG.standard_normal((8, 6, 2)).astype(np.float32)


def model(symbols=3):
    layers = [fg.ElementwiseLSTM(4, symbols=symbols), fg.Dense(3)]
    return fg.Sequential(layers, (6,) if symbols else (6, 2), device="cpu")


def trainer(network=None, **more):
    arguments = {"estimator": "weight-perturbation", "optimizer": fg.SGD(1e-3), "carry_states": True}
    return fg.Trainer(network or model(), **{**arguments, **more})


def state(of):
    return of.state.arrays["state.0"].copy()


def test_a_step_goes_on_from_the_state_that_the_one_before_left():
    one, whole = trainer(optimizer=fg.SGD(1e-30)), fg.Trainer(model().at_length(12), optimizer=fg.SGD(1e-30))
    losses = [one.step(X[:, :6], Y).loss, one.step(X[::-1], Y).loss]
    joined = whole.step(np.concatenate([X, X[::-1]], axis=1), np.concatenate([Y, Y], axis=1)).loss
    tolerances.SAME_LOSS.check(np.mean(losses), joined)


def test_a_failed_step_leaves_the_states():
    one = trainer(model(None))
    one.step(NUMBERS, Y)
    before, parameters = state(one), one.model.parameters()
    wrong = NUMBERS.copy()
    wrong[1, 3, 0] = np.nan
    with pytest.raises(fg.DatasetError):
        one.step(wrong, Y)
    np.testing.assert_array_equal(state(one), before)
    for name, array in one.model.parameters().items():
        np.testing.assert_array_equal(array, parameters[name])
    assert np.isfinite(one.step(NUMBERS, Y).loss)


@pytest.mark.parametrize("estimator", ["weight-perturbation", "rtrl"])
def test_copies_carry_states_as_their_original_does(estimator):
    one = trainer(estimator=estimator, carry_states=estimator != "rtrl")
    one.step(X, Y)
    twin = copy.deepcopy(one)
    assert twin.carry_states == one.carry_states
    assert one.step(X, Y).loss == twin.step(X, Y).loss


@pytest.mark.parametrize("estimator", ["weight-perturbation", "rtrl"])
def test_an_estimate_takes_the_number_of_streams_of_the_steps(estimator):
    one = trainer(estimator=estimator)
    one.estimate(X[:2], Y[:2])
    one.step(X[:4], Y[:4])
    with pytest.raises(fg.ConfigError, match="batch of 2 streams"):
        one.estimate(X[:2], Y[:2])
    assert one.estimate(X[:4], Y[:4]).keys() == one.model.parameters().keys()


def test_compact_checkpoints_are_refused(tmp_path):
    checkpoints = fg.Checkpoints(tmp_path / "run", every=2, compact=True)
    with pytest.warns(fg.errors.FgWarning), pytest.raises(fg.ConfigError, match="compact=False"):
        trainer().fit(X, Y, steps=4, batch_size=4, checkpoints=checkpoints)


def test_a_view_for_another_length_has_the_version_of_the_model():
    one = model()
    view, before = one.at_length(3), one.version
    assert view.version is before
    view.load_parameters({name: 2 * array for name, array in one.parameters().items()})
    assert one.version is view.version is not before


def test_batches_of_an_iterable():
    one = trainer(carry_states=False)
    history = one.fit([(X[:4], Y[:4])] * 3, epochs=1)
    assert history.final.step == 3


def test_names_of_classes():
    one = trainer(carry_states=False)
    one.fit(X, Y + 1, steps=2, batch_size=4)
    assert one.model.classes == (1, 2, 3)
    judged = fg.evaluate(one.model, X, Y + 1)
    assert judged.accuracy == np.mean(one.model(X).argmax(-1) == Y)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.Sequential([fg.Embedding(3, 4), fg.Flatten(), fg.Dense(6)], (6,)).stream(), "sequences"),
        (lambda: fg.Sequential([fg.Dense(4), fg.GroupNorm(1), fg.Dense(2)], (6, 2)).stream(), "GroupNorm"),
        (lambda: model().stream(2)([[0, 1], [2]]), "x"),
        (
            lambda: fg.laplacian(fg.Sequential([fg.Dense(4, "tanh"), fg.Dense(2)], (6, 2)))(NUMBERS),
            "sequence",
        ),
        (
            lambda: trainer(
                fg.Graph(
                    [
                        fg.Node("a", fg.ElementwiseLSTM(5)),
                        fg.Node("k", fg.Concatenate(), ("a", "a")),
                        fg.Node("o", fg.Dense(3)),
                    ],
                    (6, 2),
                    device="cpu",
                ),
                estimator="rtrl",
            ),
            "twice",
        ),
        (lambda: fit_test_symbols(5), "symbols are 0 to 2"),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(fg.FgError) as caught:
        make()
    assert message in str(caught.value)


def fit_test_symbols(wrong):
    x = X.astype(np.float32)
    data = fg.datasets.Dataset("d", x, Y, x_test=x + wrong, y_test=Y, classes=3)
    return trainer(carry_states=False).fit(data, steps=1, batch_size=4)
