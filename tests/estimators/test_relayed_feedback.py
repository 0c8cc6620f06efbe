"""Relayed feedback: gradients beside reverse mode's, how its matrices learn and follow, and what it refuses."""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.kernels.machine.compile import compiled_count
from fgnumba.testing import check_estimator
from tests import tolerances
from tests.estimators.block_gradients import square_slope
from tests.model.test_recurrent_jvp import OfThreads
from tests.tolerances_blocks import LEARNED, SPEED

CLASSES = 5
STILL = 1e-30
"""A learning rate at which parameters stand still."""
NODES = [
    fg.Node("a", fg.Dense(40, "relu")),
    fg.Node("b", fg.Dense(40, "tanh"), "a"),
    fg.Node("c", fg.Dense(40, bias=False), "b"),
    fg.Node("sum", fg.Add("relu"), ("a", "c", "b")),
    fg.Node("norm", fg.LayerNorm(), "sum"),
    fg.Node("out", fg.Dense(CLASSES), "norm"),
]
MODELS: dict[str, Any] = {
    "chain": [fg.Flatten(), fg.Dense(70, "relu"), fg.Dense(33, "sigmoid"), fg.Dense(40), fg.Dense(CLASSES)],
    "normalised": [
        *(fg.Flatten(), fg.Dense(33), fg.LayerNorm(), fg.Activation("gelu"), fg.Dense(40), fg.RMSNorm()),
        *(fg.Activation("relu"), fg.Dense(CLASSES)),
    ],
    "dropped": [fg.Flatten(), fg.Dense(40, "relu"), fg.Dropout(0.3), fg.Dense(33, "tanh"), fg.Dense(CLASSES)],
    "residual": NODES,
}


def network(kind="chain", seed=0, device="cpu"):
    layers = MODELS[kind]
    if kind == "residual":
        return fg.Graph(layers, (19,), seed=seed, device=device)
    return fg.Sequential(layers, (19, 1, 1), seed=seed, device=device)


def batch(model, count=9, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((count, *model.input_shape)).astype(np.float32)
    return x, rng.integers(0, CLASSES, count)


def made(model, optimizer=None, loss=None, **given):
    estimator = fg.RelayedFeedback(**given)
    return fg.Trainer(model, loss=loss, estimator=estimator, optimizer=optimizer or fg.SGD(STILL), seed=2)


def pairs(trainer):
    """Return each feedback matrix with the weight that it follows, by the weight's name."""
    weights = trainer.model.parameters()
    own = {name.removeprefix("feedback."): p.array() for name, p in trainer.state.parameters.items()}
    return {name: (matrix, weights[name]) for name, matrix in own.items()}


def know(trainer):
    """Make every matrix equal to its weight."""
    for name, parameter in trainer.state.parameters.items():
        parameter.assign(trainer.model.parameters()[name.removeprefix("feedback.")])


def assert_close(found, exact):
    assert found.keys() == exact.keys()
    for name, array in exact.items():
        assert np.abs(array).max() > 0, name
        bound = tolerances.ESTIMATE * float(np.linalg.norm(array))
        tolerances.Within(absolute=bound).check(found[name], array, name)


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("count", [1, 9, 70])
def test_what_has_learned_the_weights_finds_the_gradient(kind, count):
    model = network(kind)
    x, y = batch(model, count)
    trainer = made(model)
    know(trainer)
    # With the same seed, dropout draws the same masks.
    exact = fg.Trainer(model, estimator=reverse.ReverseMode(), optimizer=fg.SGD(STILL), seed=2).estimate(x, y)
    if count == 1 and kind == "residual":
        # The slope of a lone example may vanish in a whole layer.
        exact = {name: array for name, array in exact.items() if np.abs(array).max() > 0}
    found = trainer.estimate(x, y)
    assert_close({name: found[name] for name in exact}, exact)


def test_another_loss_is_relayed():
    model = network("normalised")
    x, _ = batch(model)
    y = np.random.default_rng(1).standard_normal((len(x), CLASSES)).astype(np.float32)
    trainer = made(model, loss="mse")
    know(trainer)
    loss = fg.MeanSquaredError()
    _, exact = reverse.value_and_grad(model, loss, x, y)
    assert_close(trainer.estimate(x, y), exact)
    # The reverse pass itself, where it is known on paper.
    bias = square_slope(model(x).astype(np.float64), y).sum(0)
    name = [name for name in exact if name.endswith("bias")][-1]
    bound = tolerances.ESTIMATE * float(np.linalg.norm(bias))
    tolerances.Within(absolute=bound).check(exact[name], bias, name)


def test_matrices_learn_as_fast_as_the_formula_says():
    rows, width = 16, 48
    model = fg.Sequential([fg.Dense(width, "relu"), fg.Dense(width), fg.Dense(CLASSES)], 7, device="cpu")
    trainer = made(model, noise=rows, every=1)
    x, y = batch(model)
    shrinks = 1 - rows * (rows + width + 1) / (rows + width) ** 2
    distances = []
    for _ in range(60):
        distances.append(sum(float(np.sum((f - w) ** 2)) for f, w in pairs(trainer).values()))
        trainer.step(x, y)
    found = (np.log(distances[40]) - np.log(distances[0])) / 40
    tolerances.Within(SPEED).check(found, float(np.log(shrinks)))
    for name, (matrix, weight) in pairs(trainer).items():
        bound = LEARNED * float(np.abs(weight).max())
        tolerances.Within(absolute=max(bound, 2 * distances[-1] ** 0.5)).check(matrix, weight, name)


@pytest.mark.parametrize(
    "optimizer",
    [fg.Adam(1e-2), fg.AdamW(1e-2, clip_norm=0.3), fg.SGD(0.3, momentum=0.9), fg.SGD(0.3)],
    ids=["adam", "clipped", "momentum", "sgd"],
)
def test_matrices_follow_their_weights(optimizer):
    """In steps in which nothing is learned, a matrix moves as its weight does."""
    model = network("residual")
    trainer = made(model, optimizer, every=1000, warmup=0)
    x, y = batch(model)
    know(trainer)
    before = {name: weight for name, (_, weight) in pairs(trainer).items()}
    trainer.steps_done = 1
    for _ in range(5):
        trainer.step(x, y)
    for name, (matrix, weight) in pairs(trainer).items():
        assert (weight != before[name]).mean() > 0.5, name
        np.testing.assert_array_equal(matrix, weight, name)


def test_matrices_learn_in_all_steps_of_the_warmup_and_then_in_one_of_several():
    model = network()
    trainer = made(model, every=3, warmup=4)
    x, y = batch(model)
    learned: list[bool] = []
    before: dict[str, bytes] = {}
    for _ in range(10):
        trainer.step(x, y)
        after = {name: matrix.tobytes() for name, (matrix, _) in pairs(trainer).items()}
        learned.append(after != before)
        before = after
    assert learned == [True] * 4 + [False, False, True, False, False, True]


def test_it_keeps_its_word():
    model = network("normalised")
    x, y = batch(model, 12)
    _, exact = reverse.value_and_grad(model, fg.SoftmaxCrossEntropy(), x, y)
    report = check_estimator(fg.RelayedFeedback(noise=4, warmup=0), model, x=x, y=y, gradient=exact, draws=8)
    # Matrices that have learned little tell the hidden layers something else.
    assert report.biased_entries
    # Those that have learned enough tell them the gradient, up to what they have not learned.
    report = check_estimator(
        fg.RelayedFeedback(noise=256, warmup=100), model, x=x, y=y, gradient=exact, draws=8
    )
    assert report.relative_bias < tolerances.ESTIMATE


def test_it_trains_a_deep_model_from_its_recipe():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 96)
    x = (0.3 * rng.standard_normal((96, 8)) + np.eye(3, 8)[y]).astype(np.float32)
    layers = [*[fg.Dense(32, "relu") for _ in range(6)], fg.Dense(3)]
    model = fg.Sequential(layers, 8, seed=1, device="cpu")
    trainer = fg.Trainer(model, estimator="relayed-feedback", optimizer="adam")
    losses = [trainer.step(x, y).loss for _ in range(200)]
    assert losses[-1] < 0.1 * losses[0]


def test_bits_do_not_depend_on_the_number_of_threads_and_later_steps_compile_nothing():
    found = []
    for threads in (1, 2):
        trainer = made(network("residual", device=OfThreads(threads)), fg.Adam(1e-2), every=2, warmup=1)
        losses = []
        for step in range(4):
            losses.append(trainer.step(*batch(trainer.model, seed=step)).loss)
            if step == 1:
                compiled = compiled_count()
        assert compiled_count() == compiled
        found.append((losses, {n: p.tobytes() for n, p in trainer.model.parameters().items()}))
    assert found[0] == found[1]


class Stop(fg.Callback):
    """Stops a trainer at a step."""

    def __init__(self, at):
        self.at = at

    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step == self.at:
            self.trainer.stop()


def fitted(folder=None, stop=None):
    model = network()
    trainer = made(model, fg.Adam(1e-2), every=3, warmup=2)
    (x, y), (x_test, y_test) = batch(model, 24), batch(model, 4)
    data = fg.datasets.Dataset("noise", x, y, x_test, y_test, classes=CLASSES)
    saved = None if folder is None else fg.Checkpoints(folder, every=5)
    trainer.fit(
        data, steps=20, batch_size=8, checkpoints=saved, resume=folder is not None, callbacks=[Stop(stop)]
    )
    arrays = {**model.packed_parameters, **trainer.state.parameters}
    return trainer.steps_done, {name: parameter.array().tobytes() for name, parameter in arrays.items()}


def test_a_run_that_is_stopped_and_resumed_has_the_bits_of_a_whole_one(tmp_path):
    whole = fitted()
    for stop in (7, 12):
        assert fitted(tmp_path / "run", stop)[0] == stop
    assert fitted(tmp_path / "run") == whole


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        (
            [fg.Conv2d(4, 3), fg.Flatten(), fg.Dense(3)],
            (5, 5, 1),
            "layer '0' is Conv2d; one of Dense, Activation",
        ),
        (
            [fg.Dense(4), fg.GroupNorm(2), fg.Dense(3)],
            (5,),
            "layer '1' is GroupNorm; one of Dense, Activation",
        ),
        (
            [fg.Dense(4), fg.Dense(3)],
            (5, 2),
            r"layer '0' writes \(5, 4\) numbers an example; a vector is required",
        ),
        ([fg.Activation("relu")], (5,), "nothing can be trained"),
    ],
)
def test_models_that_it_cannot_train_are_refused(layers, shape, message):
    with pytest.raises(fg.ConfigError, match=message):
        made(fg.Sequential(layers, shape, device="cpu"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"noise": 0}, "noise is 0"),
        ({"rate": 1.5}, "rate is 1.5; at most 1"),
        ({"every": 0}, "every is 0"),
        ({"warmup": -1}, "warmup is -1"),
    ],
)
def test_impossible_settings_are_refused(given, message):
    with pytest.raises(fg.ConfigError, match=message):
        fg.RelayedFeedback(**given)
