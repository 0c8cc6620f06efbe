"""``Trainer.fit(sample_weight=)``: each example's loss counts with its weight, wherever the example goes."""

import numpy as np
import pytest

import fgnumba as fg
from tests.state_machine.own_loss import Scaled

rng = np.random.default_rng(4)
X, LABELS = rng.standard_normal((40, 5)).astype(np.float32), np.arange(40) % 3
WEIGHTS = rng.integers(0, 4, 40) / 2.0


def trainer(loss=None, outputs=3):
    model = fg.Sequential([fg.Dense(7, activation="tanh"), fg.Dense(outputs)], 5, seed=2, device="cpu")
    return fg.Trainer(model, loss=loss, estimator="feedback", optimizer=fg.SGD(0.1), seed=6)


def bits(one):
    return {name: array.tobytes() for name, array in one.model.parameters().items()}


@pytest.mark.parametrize("loss", ["cross-entropy", "mse"])
def test_steps_are_those_of_the_weighted_loss(loss):
    outputs, y = (3, LABELS) if loss == "cross-entropy" else (2, X[:, :2] ** 2)
    one, other = trainer(loss, outputs), trainer(loss, outputs)
    one.fit(X, y, epochs=3, batch_size=8, sample_weight=WEIGHTS)
    weighted = other.loss = other.loss.with_example_weights()
    targets = weighted.pack(y, WEIGHTS)
    for x, packed in zip(*epochs_of(targets), strict=True):
        other.step(x, packed)
    assert bits(one) == bits(other)
    assert not isinstance(one.loss, type(weighted))


def epochs_of(targets):
    """Return the batches of three epochs of a trainer of seed 6."""
    data = fg.datasets.Dataset("points", X, targets)
    orders = [data.order(6, epoch)[start : start + 8] for epoch in range(3) for start in range(0, 40, 8)]
    return [X[rows] for rows in orders], [targets[rows] for rows in orders]


def test_an_example_that_is_held_out_takes_its_weight_along():
    seen: list[tuple[float, ...]] = []

    class Seen(fg.Callback):
        def on_start(self, trainer, steps):
            take = trainer.step

            def step(x, y):
                seen.extend(zip(x[:, 0].tolist(), y[:, 0].tolist(), y[:, 1].tolist(), strict=True))
                return take(x, y)

            trainer.step = step

    trainer().fit(
        X, LABELS, epochs=1, batch_size=6, validation=0.25, sample_weight=WEIGHTS, callbacks=[Seen()]
    )
    known = {
        first: (weight, float(label))
        for first, weight, label in zip(X[:, 0].tolist(), WEIGHTS, LABELS, strict=True)
    }
    assert len(seen) == 30
    assert all(known[first] == (weight, label) for first, weight, label in seen)


def test_validation_and_test_data_have_no_weights():
    plain, weighted = (trainer() for _ in range(2))
    history = weighted.fit(X, LABELS, steps=1, validation=(X, LABELS), sample_weight=WEIGHTS)
    plain.model.load_parameters(weighted.model.parameters())
    assert history.final.validation_loss == fg.evaluate(plain.model, X, LABELS).loss


def test_a_run_is_resumed_with_the_same_weights_alone(tmp_path):
    def run(folder, **more):
        one = trainer()
        options = {"steps": 9, "batch_size": 8, "sample_weight": WEIGHTS, **more}
        one.fit(X, LABELS, checkpoints=fg.Checkpoints(folder, every=4), **options)
        return bits(one)

    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", steps=4)
    for other in (None, WEIGHTS[::-1].copy()):
        with pytest.raises(fg.RunError):
            run(tmp_path / "cut", resume=True, sample_weight=other)
    assert run(tmp_path / "cut", resume=True) == whole


def test_the_loss_is_the_same_again_whatever_ends_the_run():
    one = trainer()
    with pytest.raises(fg.ShapeError):
        one.fit(X, LABELS, steps=1, sample_weight=WEIGHTS[1:])
    assert type(one.loss) is fg.SoftmaxCrossEntropy
    with pytest.raises(fg.DivergenceError):
        one.fit(X, LABELS, steps=30, sample_weight=WEIGHTS, stop_above=1e-6)
    assert type(one.loss) is fg.SoftmaxCrossEntropy


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        (WEIGHTS[1:], fg.ShapeError, r"sample_weight has shape \(39,\); \(40,\), one for each example"),
        (3.0, fg.ShapeError, r"sample_weight has shape \(\)"),
        (-WEIGHTS, fg.DatasetError, "weights"),
        (WEIGHTS * np.nan, fg.DatasetError, "weights"),
        (0 * WEIGHTS, fg.DatasetError, "weights"),
        (["a"] * 40, fg.DtypeError, "weights"),
    ],
)
def test_weights_that_are_none(weights, error, message):
    with pytest.raises(error, match=message):
        trainer().fit(X, LABELS, steps=1, sample_weight=weights)


def test_what_takes_no_weights():
    with pytest.raises(fg.ConfigError, match="sample_weight: an iterable has no examples of known number"):
        trainer().fit([(X, LABELS)], steps=1, sample_weight=WEIGHTS)
    with pytest.raises(fg.ConfigError, match="takes no weights of examples"):
        trainer(Scaled(2.0), 5).fit(X, X, steps=1, sample_weight=WEIGHTS)
