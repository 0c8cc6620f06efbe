"""``Trainer.fit`` on a GPU with data that do not stay in its memory: augmented batches, and batches of an iterable."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.kernels.devices.gpu import Gpu
from tests import tolerances

RNG = np.random.default_rng(5)
X, Y = RNG.standard_normal((8, 3, 4, 1)).astype(np.float32), RNG.integers(0, 4, 8)


def trained(driver, *data, **options):
    layers = [fg.Flatten(), fg.Dense(5, activation="tanh"), fg.Dense(4)]
    model = fg.Sequential(layers, input_shape=(3, 4, 1), seed=1, device=Gpu(driver))
    fg.Trainer(model, optimizer=fg.SGD(0.1), seed=3).fit(*data, steps=3, **options)
    return {name: array.tobytes() for name, array in model.parameters().items()}


def test_augmented_batches(driver):
    flipped = X[:, :, ::-1].copy()
    by_flip = trained(driver, X, Y, batch_size=4, augment=fg.datasets.RandomFlip(1))
    assert by_flip == trained(driver, flipped, Y, batch_size=4)
    assert by_flip != trained(driver, X, Y, batch_size=4)


def test_batches_of_an_iterable(driver):
    one = trained(driver, [(X[:4], Y[:4]), (X[4:], Y[4:])])
    assert one == trained(driver, iter([(X[:4], Y[:4]), (X[4:], Y[4:]), (X[:4], Y[:4])]))


@pytest.mark.parametrize(
    ("loss", "estimator"),
    [("cross-entropy", "feedback"), ("huber", "feedback"), ("bce", "weight-perturbation")],
)
def test_weights_of_examples_count_as_on_the_cpu(driver, loss, estimator):
    y = Y if loss == "cross-entropy" else RNG.random((8, 4)).astype(np.float32)
    weights = np.array([0, 0.5, 1, 4, 1, 0, 2, 0.25])

    def run(device, **more):
        layers = [fg.Flatten(), fg.Dense(5, activation="tanh"), fg.Dense(4)]
        model = fg.Sequential(layers, input_shape=(3, 4, 1), seed=1, device=device)
        trainer = fg.Trainer(model, loss=loss, estimator=estimator, optimizer=fg.SGD(0.1), seed=3)
        history = trainer.fit(X, y, steps=5, batch_size=3, evaluate_every=2, validation=(X, y), **more)
        return [(one.loss, one.validation_loss) for one in history.records]

    here, there = (run(device, sample_weight=weights) for device in ("cpu", Gpu(driver)))
    tolerances.GPU_TRAINING.check(there, here)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        tolerances.GPU_TRAINING.check(run("cpu"), here)


def test_real_targets_stay_on_the_device(driver):
    real = np.random.default_rng(6).standard_normal((8, 4)).astype(np.float32)

    def run(device):
        model = fg.Sequential([fg.Flatten(), fg.Dense(4)], input_shape=(3, 4, 1), seed=1, device=device)
        # At a rate of 0.1, the losses grow tenfold, and what was rounded with them.
        trainer = fg.Trainer(model, loss="mse", optimizer=fg.SGD(0.01), seed=3)
        return trainer.fit(X, real, steps=4, batch_size=4, validation=(X, real)).final

    here, there = run("cpu"), run(Gpu(driver))
    assert (here.step, here.metrics.keys()) == (there.step, there.metrics.keys())
    tolerances.GPU_TRAINING.check(there.validation_loss, here.validation_loss)


def test_batches_that_are_on_the_device(driver):
    host = trained(driver, [(X[:4], Y[:4]), (X[4:], Y[4:])])
    gpu = Gpu(driver)
    examples = [gpu.array(X[:4]), gpu.array(X[4:])]
    for labels in ([Y[:4].tolist(), Y[4:].tolist()], [gpu.array(Y[:4]), gpu.array(Y[4:])]):
        assert trained(driver, list(zip(examples, labels, strict=True))) == host
    # What augments is given arrays of the host, which it may change.
    augmented = trained(
        driver, list(zip(examples, [Y[:4], Y[4:]], strict=True)), augment=fg.datasets.RandomFlip(1)
    )
    assert augmented == trained(driver, [(X[:4, :, ::-1], Y[:4]), (X[4:, :, ::-1], Y[4:])])
