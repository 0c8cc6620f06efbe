"""Learning rates that are measured: against float64, what decides them, when they are measured, and what is refused."""

import copy
import math

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import ConfigError
from fgnumba.optimizers import OPTIMIZERS
from fgnumba.schedules import Exponential, MeasuredRate
from fgnumba.training import replay, replay_log
from fgnumba.training.rate_meter import CURVATURE_SHARE, EXCESS, GAPS, NOISE_SHARE, WARMUP, WATCH
from tests import tolerances_measured_rates as tolerances
from tests.training.test_checkpoints import Stop, bits

BATCH, CLASSES = 16, 4
RNG = np.random.default_rng(1)
X = RNG.standard_normal((64, 6)).astype(np.float32)
Y = (X[:, :CLASSES] + 0.3 * RNG.standard_normal((64, CLASSES))).argmax(axis=1)
DATA = fg.datasets.Dataset("points", X, Y, X[:9], Y[:9], CLASSES)


def linear(seed=2):
    return fg.Sequential([fg.Dense(CLASSES)], 6, seed=seed, device="cpu")


def perceptron(device="cpu"):
    return fg.Sequential([fg.Dense(9, "tanh"), fg.Dense(CLASSES)], 6, seed=2, device=device)


def transformer():
    layers = [fg.Embedding(5, 8), fg.TransformerBlock(heads=2), fg.Dense(5)]
    return fg.Sequential(layers, (4,), device="cpu")


def trainer(estimator="feedback", model=linear, optimizer="auto", **more):
    return fg.Trainer(model(), estimator=estimator, optimizer=optimizer, seed=3, **more)


def step(one, number=0):
    """Take a step on batch number `number`, and return its learning rate."""
    rows = np.arange(BATCH * number, BATCH * (number + 1)) % len(X)
    one.step(X[rows], Y[rows])
    return one.last_rate


def form(model, tangents, rows=slice(BATCH)):
    """Return uᵀGu and the loss of a linear model in float64, from the definition G = Jᵀ H J."""
    x, theta = X[rows].astype(np.float64), model.parameters()
    z = x @ theta["0.weight"].astype(np.float64) + theta["0.bias"]
    r = x @ tangents["0.weight"].astype(np.float64) + tangents["0.bias"]
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    hessians = np.einsum("bi,ij->bij", p, np.eye(CLASSES)) - p[:, :, None] * p[:, None, :]
    loss = -np.log(p[np.arange(len(x)), Y[rows]]).mean()
    return float(np.einsum("bi,bij,bj->b", r, hessians, r).mean()), float(loss)


def test_adam_the_first_step_moves_nothing_and_the_second_has_the_rate_of_its_curvature():
    one = trainer()
    before = one.model.parameters()
    assert step(one) == 0
    after = one.model.parameters()
    assert all((after[name] == before[name]).all() for name in before)
    # After one step, Adam's direction is the sign of the gradient estimate, which for a linear model is exact.
    gradient = trainer(optimizer="adam").estimate(X[:BATCH], Y[:BATCH])
    signs = {name: g / (np.abs(g) + np.float32(1e-8)) for name, g in gradient.items()}
    curvature, loss = form(one.model, signs, slice(BATCH, 2 * BATCH))
    # The second of the steps over which the rate rises.
    expected = 2 / WARMUP * math.sqrt(2 * CURVATURE_SHARE * loss / curvature)
    tolerances.RATE.check(step(one, 1), expected)


def test_adam_later_measurements_are_along_the_step_that_was_taken():
    one = trainer(optimizer=fg.Adam(MeasuredRate(), beta1=0.7, beta2=0.9))
    curvatures, scale = [], 0.0
    for number in range(4):
        before = one.model.parameters()
        rate = step(one, number)
        after = one.model.parameters()
        if not number:
            continue
        tangents = {name: (before[name] - after[name]) / np.float32(rate) for name in before}
        rows = slice(BATCH * (number + 1) % len(X), BATCH * (number + 1) % len(X) + BATCH)
        curvatures.append(form(one.model, tangents, rows)[0])
        scale = one.meter.measured.scale
    next_rate = step(one, 4)
    # The mean of four: along the sign of the first gradient, which another test checks, and along three steps.
    first = 2 * CURVATURE_SHARE * scale / (WARMUP / 2 * first_rate(one)) ** 2
    expected = (
        5 / WARMUP * math.sqrt(2 * CURVATURE_SHARE * scale / np.exp(np.mean(np.log([first, *curvatures]))))
    )
    tolerances.RATE_ALONG_A_STEP.check(next_rate, expected)


def first_rate(one):
    """Return the rate of the second step of a trainer like this one."""
    fresh = trainer(optimizer=one.optimizer)
    step(fresh)
    return step(fresh, 1)


@pytest.mark.parametrize("directions", [1, 3, 20])
@pytest.mark.parametrize("momentum", [0.0, 0.8])
def test_weight_perturbation_takes_the_trace_along_fresh_directions(directions, momentum):
    optimizer = fg.SGD(MeasuredRate(), momentum=momentum)
    one = trainer(fg.WeightPerturbation(directions=directions), optimizer=optimizer)
    drawn = [fg.directions.RankOne(3, 0, k).materialize(one.model) for k in range(min(directions, 8))]
    trace, p = np.mean([form(one.model, v)[0] for v in drawn]), one.model.parameter_count
    expected = NOISE_SHARE * (1 - momentum) * directions * p / (p + directions + 1) / trace
    tolerances.RATE.check(step(one), expected)


@pytest.mark.parametrize("estimator", ["feedback", "weight-perturbation"])
def test_the_unit_of_the_loss_decides_nothing(estimator):
    """A loss times 8, by weights of classes: Adam's steps are as long; those of SGD, 8 times as steep, an eighth."""
    ordinary, larger = (
        trainer(estimator, perceptron, loss=fg.SoftmaxCrossEntropy(class_weight=(weight,) * CLASSES))
        for weight in (1.0, 8.0)
    )
    rates = np.array([[step(one, number) for number in range(20)] for one in (ordinary, larger)])
    factor = 1.0 if estimator == "feedback" else 8.0
    tolerances.RATE_ALONG_A_STEP.check(factor * rates[1], rates[0])
    assert rates[:, 1:].min() > 0


def test_when_it_is_measured_and_that_later_measurements_only_lower_the_rate():
    one, counts, at = trainer(model=perceptron), [], []
    for number in range(3 * WATCH + 5):
        step(one, number)
        counts.append(one.meter.measured.taken)
        at.append(one.meter.measured.step)
    calibrated = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
    assert sorted(set(at)) == [0, *calibrated, 128, 256, 2 * WATCH, 3 * WATCH]
    assert counts[0] == 0
    assert counts[-1] == len(calibrated) == len(GAPS) + 1
    assert [counts[k - 1] < counts[k] for k in calibrated] == [True] * len(calibrated)
    # The peak is that of the calibration, unless the last curvature is far above its mean.
    levels = one.state.arrays["rate.measured"]
    rates = []
    for last in (levels[4], levels[3] - 5, levels[3] + np.log(100)):
        levels[4] = last
        one.model.version = object()
        rates.append(one.set_step(one.steps_done))
    assert rates[0] <= rates[1]
    tolerances.RATE.check(rates[2], rates[1] * EXCESS / 10)


def test_a_measurement_is_made_once_for_a_step_and_not_where_nothing_is_curved():
    one = trainer(model=perceptron)
    for number in range(4):
        step(one, number)
    before = one.meter.measured
    batch = X[:BATCH], Y[:BATCH].astype(np.int64)
    for _ in range(2):
        one.meter.look(before.step, one.loss, *batch)
        assert one.meter.measured == before
    one.model.load_parameters({name: a * np.float32(1e30) for name, a in one.model.parameters().items()})
    one.meter.look(before.step + 1, one.loss, *batch)
    assert one.meter.measured == before


def test_the_shape_scales_the_peak():
    flat, falling = (
        trainer(optimizer=fg.Adam(MeasuredRate(*shape))) for shape in ((), (Exponential(1.0, 0.1),))
    )
    assert step(flat) == step(falling) == 0
    tolerances.RATE.check(step(falling, 1), step(flat, 1) * math.exp(-0.1))


@pytest.mark.parametrize("estimator", ["feedback", "weight-perturbation", "local-feedback"])
def test_a_resumed_run_and_a_copy_have_the_bits_of_the_undisturbed_one(tmp_path, estimator):
    def fit(one, folder=None, resume=False, stop=()):
        saved = None if folder is None else fg.Checkpoints(folder, every=5)
        return one.fit(
            DATA, steps=30, batch_size=BATCH, callbacks=[Stop(*stop)], checkpoints=saved, resume=resume
        )

    whole = trainer(estimator, perceptron)
    fit(whole)
    for stop in (3, 17):
        assert fit(trainer(estimator, perceptron), tmp_path, True, (stop,)).stopped
    last = trainer(estimator, perceptron)
    fit(last, tmp_path, True)
    assert bits(last) == bits(whole)
    assert whole.meter.measured.taken == 9
    copied = copy.deepcopy(whole)
    assert step(copied) == step(whole)
    ours, theirs = copied.model.parameters(), whole.model.parameters()
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_a_run_is_replayed_from_its_log(tmp_path):
    one = trainer("weight-perturbation", perceptron)
    one.fit(DATA, steps=30, batch_size=BATCH, checkpoints=fg.Checkpoints(tmp_path, every=10))
    again = trainer("weight-perturbation", perceptron)
    replay.replay(again, replay_log.read(tmp_path / "replay.log"))
    ours, theirs = again.model.parameters(), one.model.parameters()
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_it_learns_without_a_rate():
    digits = fg.datasets.load("digits")
    model = fg.Sequential([fg.Flatten(), fg.Dense(10)], digits.input_shape, seed=0, device="cpu")
    optimizer = fg.Adam(MeasuredRate(Exponential(1.0, 4 / 300)))
    one = fg.Trainer(model, estimator="feedback", optimizer=optimizer)
    # The rate that was searched for perceptrons gives 0.87 here.
    assert one.fit(digits, steps=300).final.test_accuracy > 0.93


@pytest.mark.parametrize("estimator", ["feedback", "weight-perturbation"])
def test_weights_of_examples_count_for_the_curvature(estimator):
    """Weights of 8 are a loss times 8: see the test of the loss's unit."""
    rates = []
    for weight in (1.0, 8.0):
        one = trainer(estimator, perceptron)
        one.fit(DATA, steps=20, batch_size=BATCH, sample_weight=np.full(len(X), weight))
        rates.append(one.last_rate)
    factor = 1.0 if estimator == "feedback" else 8.0
    tolerances.RATE_ALONG_A_STEP.check(factor * rates[1], rates[0])


@pytest.mark.parametrize("loss", ["mse", "huber", "bce"])
def test_other_losses_are_learned_without_a_rate(loss):
    targets = X[:, :CLASSES] > 0 if loss == "bce" else X[:, :CLASSES] - 0.5 * X[:, 2:]
    one = trainer(loss=loss)
    before = one.loss.value(one.model(X), targets)
    one.fit((X, targets.astype(np.float32)), steps=150, batch_size=BATCH)
    assert one.loss.value(one.model(X), targets) < 0.3 * before


def test_by_name_it_is_the_estimators_optimizer():
    assert trainer("feedback").optimizer == fg.Adam(MeasuredRate())
    assert trainer("orthogonal").optimizer == fg.SGD(MeasuredRate())
    assert "auto" not in OPTIMIZERS
    with pytest.raises(ConfigError, match="did you mean 'auto'"):
        trainer(optimizer="autp")


REFUSED = {
    "no rule measures the rate of SGD with ActivityPerturbation; Adam or AdamW": (
        lambda: trainer(optimizer=fg.SGD(MeasuredRate()))
    ),
    "no rule measures the rate of Adam with WeightPerturbation; SGD": (
        lambda: trainer("weight-perturbation", optimizer=fg.Adam(MeasuredRate()))
    ),
    "no rule measures the rate of SGD with SPSA": lambda: trainer("spsa"),
    "along the first steps of BlockFeedback the curvature does not tell its rate": (
        lambda: trainer("block-feedback", transformer)
    ),
    "second derivatives of the loss, which FunctionLoss does not tell": (
        lambda: trainer(loss=fg.Loss.from_function(lambda z, y: z[y], targets="label"))
    ),
    "learning_rate is a MeasuredRate, which only a trainer's steps measure": (
        lambda: fg.minimize(lambda x: (x**2).sum(), np.ones(3), steps=3, optimizer=fg.SGD(MeasuredRate()))
    ),
    "decay is 0.1 beside a schedule": lambda: fg.Adam(MeasuredRate(), decay=0.1),
    "shape is 3; a function of the step is required": lambda: MeasuredRate(3),  # type: ignore[arg-type]
    "the shape's share at step 0 is -1.0": lambda: step(
        trainer(optimizer=fg.Adam(MeasuredRate(lambda step: -1.0)))
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_is_refused_in_one_line(message):
    with pytest.raises(ConfigError) as caught:
        REFUSED[message]()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_compact_checkpoints_are_refused(tmp_path):
    one = trainer("weight-perturbation")
    with pytest.raises(ConfigError, match="compact checkpoints have nothing of a measured learning rate"):
        one.fit(DATA, steps=3, batch_size=BATCH, checkpoints=fg.Checkpoints(tmp_path, compact=True))
