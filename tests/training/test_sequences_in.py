"""Runs on arrays of sequences: symbols or numbers, targets and weights of each position."""

import numpy as np
import pytest

import fgnumba as fg
from tests import tolerances

RNG = np.random.default_rng(0)
SYMBOLS = RNG.integers(0, 4, (120, 10))
# The symbol before, which a state must remember.
BEFORE = np.concatenate([np.zeros((120, 1), int), SYMBOLS[:, :-1]], axis=1)
NUMBERS = RNG.standard_normal((120, 6, 3)).astype(np.float32)
SUMS = NUMBERS.cumsum(axis=1)[..., :1]


def symbols_trainer(**more):
    model = fg.Sequential([fg.ElementwiseLSTM(32, symbols=4), fg.Dense(4)], (10,), device="cpu")
    return fg.Trainer(model, estimator="rtrl", optimizer=fg.Adam(0.02), carry_states=False, **more)


def test_labels_of_positions():
    trainer = symbols_trainer()
    final = trainer.fit(SYMBOLS, BEFORE, epochs=20, batch_size=12, validation=0.1).final
    assert final.validation_loss < 0.8 * np.log(4)
    judged = fg.evaluate(trainer.model, SYMBOLS, BEFORE)
    right = np.mean(trainer.model(SYMBOLS).argmax(-1) == BEFORE)
    tolerances.COUNTED.check(judged.accuracy, right)
    assert judged.accuracy > 0.5


def test_real_targets_of_positions():
    model = fg.Sequential([fg.LinearRecurrentUnit(16), fg.Dense(1)], (6, 3), device="cpu")
    trainer = fg.Trainer(model, loss="mse", estimator="rtrl", optimizer=fg.Adam(0.02), carry_states=False)
    history = trainer.fit(NUMBERS, SUMS, epochs=15, batch_size=12, validation=(NUMBERS[:20], SUMS[:20]))
    assert history.final.metrics["validation_r2"] > 0.8


def test_a_mask_leaves_out_what_it_masks():
    lengths = RNG.integers(1, 11, 120)
    mask = (np.arange(10) < lengths[:, None]).astype(float)
    noise = np.where(mask > 0, BEFORE, RNG.integers(0, 4, BEFORE.shape))
    finals = []
    for targets in (BEFORE, noise):
        trainer = symbols_trainer()
        trainer.fit(SYMBOLS, targets, epochs=2, batch_size=12, sample_weight=mask)
        finals.append(trainer.model.parameters())
    for name, array in finals[0].items():
        np.testing.assert_array_equal(array, finals[1][name])


def test_weights_of_positions_multiply_their_losses():
    loss = fg.SoftmaxCrossEntropy().with_example_weights()
    model = symbols_trainer().model
    weights = RNG.random((3, 10))
    v = fg.directions.RankOne(seed=1)
    value, _ = fg.jvp(model, loss, SYMBOLS[:3], loss.pack(BEFORE[:3], weights), v)
    z = model(SYMBOLS[:3]).astype(np.float64)
    each = np.log(np.exp(z).sum(-1)) - np.take_along_axis(z, BEFORE[:3, :, None], -1)[..., 0]
    tolerances.MODEL_LOSS.check(value, np.mean(np.float32(weights) * each))


@pytest.mark.parametrize(
    ("fit", "message"),
    [
        (lambda t: t.fit(SYMBOLS, BEFORE[:, :9], epochs=1), "(n, 10)"),
        (lambda t: t.fit(SYMBOLS, BEFORE[:, 0], epochs=1), "(n, 10)"),
        (lambda t: t.fit(SYMBOLS, BEFORE[:100], epochs=1), "120 examples"),
        (lambda t: t.fit(SYMBOLS + 1, BEFORE, epochs=1, batch_size=12), "symbols are 0 to 3"),
        (lambda t: t.fit(SYMBOLS, BEFORE, epochs=1, sample_weight=np.ones(120)), "one for each position"),
    ],
)
def test_what_does_not_fit_is_refused(fit, message):
    with pytest.raises(fg.FgError) as caught:
        fit(symbols_trainer())
    assert message in str(caught.value)
