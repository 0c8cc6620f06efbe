"""Feedback that follows a linear layer: local heads are known from the first step on, an output layer once found."""

from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench import reverse
from tests import tolerances

LOSS = fg.SoftmaxCrossEntropy()
CLASSES = 5


def estimator(local=True, every=1000, cells=7, **given):
    feedback = fg.Feedback(control=0.0, every=every, follow=True, **given)
    return fg.ActivityPerturbation(feedback=feedback, local=fg.LocalLosses(cells=cells) if local else None)


def batch(shape, count=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, *shape)).astype(np.float32), rng.integers(0, CLASSES, count)


def own(trainer):
    return {name: parameter.array() for name, parameter in trainer.state.parameters.items()}


def moved_heads(trainer, seed=3):
    """Give heads, and the matrices that follow them, the same random weights."""
    rng = np.random.default_rng(seed)
    for name, parameter in trainer.state.parameters.items():
        if name.startswith("head.") and name.endswith(".weight"):
            parameter.assign((0.5 * rng.standard_normal(parameter.shape)).astype(np.float32))
            matrix = trainer.state.parameters[name.replace("head.", "feedback.").removesuffix(".weight")]
            matrix.assign(parameter.array())


IMAGES = [
    fg.Conv2d(8, 3, padding="same", activation="relu"),
    fg.Flatten(),
    fg.Dense(9, "relu"),
    fg.Dense(CLASSES),
]
CASES: dict[str, tuple[Any, tuple[int, ...], Any]] = {
    "dense": ([fg.Dense(40, "relu"), fg.Dense(9, "tanh"), fg.Dense(CLASSES)], (7,), [fg.Dense(40, "relu")]),
    "tanh": ([fg.Dense(33, "tanh"), fg.Dense(9, "relu"), fg.Dense(CLASSES)], (7,), [fg.Dense(33, "tanh")]),
    # Windows of 2 x 3 pixels.
    "convolution": (IMAGES, (4, 6, 3), [IMAGES[0], fg.AvgPool2d((2, 3)), fg.Flatten()]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_block_follows_the_exact_gradient_of_its_own_loss(case):
    layers, shape, block = CASES[case]
    model = fg.Sequential(layers, shape, seed=2, device="cpu")
    trainer = fg.Trainer(model, estimator=estimator(cells=2), optimizer=fg.SGD(0.1), seed=1)
    moved_heads(trainer)
    part = fg.Sequential([*block, fg.Dense(CLASSES)], shape, device="cpu")
    head = own(trainer)
    wanted = {**model.parameters(), f"{len(block)}.weight": head["head.0.0.weight"]}
    wanted[f"{len(block)}.bias"] = head["head.0.0.bias"]
    part.load_parameters({name: wanted[name] for name in part.parameters()})
    x, y = batch(shape)
    _, exact = reverse.value_and_grad(part, LOSS, x, y)
    found = trainer.estimate(x, y)
    for name in ("0.weight", "0.bias"):
        assert np.abs(exact[name]).max() > 0
        bound = tolerances.ESTIMATE * float(np.linalg.norm(exact[name]))
        tolerances.Within(absolute=bound).check(found[name], exact[name], name)


@pytest.mark.parametrize(
    "optimizer",
    [
        fg.SGD(0.1),
        fg.SGD(0.05, momentum=0.9, weight_decay=0.01),
        fg.Adam(3e-3),
        fg.AdamW(3e-3, clip_norm=0.5),
    ],
    ids=["sgd", "momentum", "adam", "clipped"],
)
def test_matrices_of_heads_have_the_bits_of_the_heads(optimizer):
    model = fg.Sequential([fg.Dense(40, "relu"), fg.Dense(33, "relu"), fg.Dense(CLASSES)], 7, device="cpu")
    trainer = fg.Trainer(model, estimator=estimator(), optimizer=optimizer, seed=1)
    x, y = batch((7,))
    for _ in range(5):
        trainer.step(x, y)
    found = own(trainer)
    assert np.abs(found["feedback.0.0"]).max() > 0
    np.testing.assert_array_equal(found["feedback.0.0"], found["head.0.0.weight"])
    # The first block has no noise at all, and keeps no other matrix.
    assert not [name for name in trainer.state.arrays if name.startswith("feedback.")]


@pytest.mark.parametrize("local", [True, False])
def test_the_output_layer_is_found_by_noise_and_then_followed(local):
    model = fg.Sequential([fg.Dense(16, "relu"), fg.Dense(CLASSES)], 7, seed=1, device="cpu")
    # All hidden units are active.
    parameters = {name: np.abs(array) for name, array in model.parameters().items()}
    parameters["0.bias"] += 1
    model.load_parameters(parameters)
    x, y = batch((7,), 32)
    warm, still = 300, 40
    made = estimator(local, warmup=warm, rate=1.0)
    trainer = fg.Trainer(model, estimator=made, optimizer=fg.Adam(1e-4), seed=1)

    def difference():
        return own(trainer)["feedback.0.0"] - model.parameters()["1.weight"]

    assert np.abs(difference()).max() > 0.1
    for _ in range(warm):
        trainer.step(np.abs(x), y)
    tolerances.LEARNED_HEAD.check(own(trainer)["feedback.0.0"], model.parameters()["1.weight"])
    before, weight = difference(), model.parameters()["1.weight"]
    for _ in range(still):
        trainer.step(np.abs(x), y)
    # Without noise, both move by as much, up to their own roundings.
    assert np.abs(model.parameters()["1.weight"] - weight).max() > 1e-3
    tolerances.LEARNED_HEAD.check(difference(), before)


def test_what_is_no_linear_layer_alone_learns_from_noise():
    """Of windows that leave pixels over, and of the input of a normalisation."""
    layers = [
        *(fg.Conv2d(8, 3, activation="relu"), fg.Conv2d(8, 2), fg.GroupNorm(2), fg.Activation("relu")),
        *(fg.Flatten(), fg.Dense(9, "relu"), fg.Dense(CLASSES)),
    ]
    model = fg.Sequential(layers, (7, 7, 1), device="cpu")
    trainer = fg.Trainer(model, estimator=estimator(every=1, cells=2), optimizer=fg.Adam(1e-3), seed=1)
    x, y = batch((7, 7, 1))
    for _ in range(3):
        trainer.step(x, y)
    learned = {name for name in trainer.state.arrays if name.startswith("feedback.")}
    # 5 pixels are no whole number of windows of 2. The normalisation, of 4 pixels, follows its head.
    assert learned == {"feedback.0.0", "feedback.1.0"}
    assert {name for name in own(trainer) if name.startswith("feedback.")} == {"feedback.2.0", "feedback.5.0"}
    assert all(np.abs(trainer.state.arrays[name]).max() > 0 for name in learned)


def test_noise_comes_in_all_steps_of_the_warmup_and_then_in_one_of_several():
    model = fg.Sequential([fg.Dense(16, "relu"), fg.Dense(CLASSES)], 7, device="cpu")
    trainer = fg.Trainer(model, estimator=estimator(every=3, warmup=4), optimizer=fg.Adam(1e-3), seed=1)
    x, y = batch((7,))
    noisy = [trainer.step(x, y).directional_derivative != 0 for _ in range(10)]
    assert noisy == [True] * 4 + [False, False, True, False, False, True]


def test_settings_of_before_are_named_as_they_were():
    """A checkpoint names its estimator, and one of an earlier version knows neither a warm-up nor followers."""
    assert repr(fg.Feedback(control=0.0)) == (
        "Feedback(rate=0.5, rule='filter', control=0.0, cells=7, every=1)"
    )
    assert repr(fg.Feedback(control=0.0, every=2, warmup=3, follow=True)) == (
        "Feedback(rate=0.5, rule='filter', control=0.0, cells=7, every=2, warmup=3, follow=True)"
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fg.Feedback(warmup=-1), "feedback: warmup is -1"),
        (lambda: fg.Feedback(follow=1), "feedback: follow is 1"),  # type: ignore[arg-type]
        (
            lambda: fg.Feedback(0.1, "average", follow=True),
            "follow is True beside the rule 'average'; 'filter'",
        ),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(fg.ConfigError, match=message):
        make()


def test_a_gradient_that_two_parameters_share_counts_once_in_the_norm():
    """The step of a clipped gradient is as long as that of an estimator without followers."""

    def taken(made):
        model = fg.Sequential([fg.Dense(16, "relu"), fg.Dense(CLASSES)], 7, seed=1, device="cpu")
        before = model.parameters()
        trainer = fg.Trainer(model, estimator=made, optimizer=fg.SGD(1.0, clip_norm=1e-3), seed=1)
        trainer.step(*batch((7,)))
        return {name: array - before[name] for name, array in model.parameters().items()}

    # In the first step B is zero, so that the output layer alone has a gradient.
    expected = taken(fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0)))
    for name, array in taken(estimator(local=False, every=1)).items():
        np.testing.assert_array_equal(array, expected[name])
