"""Augmentation: random versions of a batch, the same in a run that is resumed."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.datasets import Compose, RandomCrop, RandomFlip

rng = np.random.default_rng(2)
IMAGES, LABELS = rng.random((40, 5, 4, 2), np.float32), rng.integers(0, 3, 40)
BOTH = Compose(RandomFlip(), RandomCrop(1))


def trainer(device="cpu"):
    model = fg.Sequential([fg.Conv2d(3), fg.Flatten(), fg.Dense(3)], (5, 4, 2), device=device)
    return fg.Trainer(model, estimator="feedback", optimizer=fg.SGD(0.1, momentum=0.5), seed=4)


def bits(one):
    return {name: array.tobytes() for name, array in one.model.parameters().items()}


@pytest.mark.parametrize("p", [0, 0.3, 1])
def test_flips_turn_whole_images_with_their_probability(p):
    many = rng.random((4000, 2, 3, 1), np.float32)
    flipped = RandomFlip(p)(many, np.random.default_rng(0))
    turned = (flipped == many[:, :, ::-1]).all(axis=(1, 2, 3))
    assert ((flipped == many).all(axis=(1, 2, 3)) ^ turned).all()
    # Five standard deviations of a binomial share.
    assert abs(turned.mean() - p) <= 5 * np.sqrt(p * (1 - p) / len(many))


def test_crops_move_images_by_up_to_the_padding():
    one = np.arange(1, 21, dtype=np.float32).reshape(1, 5, 4, 1).repeat(300, axis=0)
    moved = RandomCrop(2, fill=0.5)(one, np.random.default_rng(1))
    padded = np.pad(one[0], ((2, 2), (2, 2), (0, 0)), constant_values=0.5)
    possible = {padded[i : i + 5, j : j + 4].tobytes() for i in range(5) for j in range(5)}
    assert {image.tobytes() for image in moved} == possible


def test_a_run_is_trained_on_other_versions_and_by_its_seed():
    def run(augment, seed=4):
        one = fg.Trainer(trainer().model, estimator="feedback", optimizer=fg.SGD(0.1), seed=seed)
        one.fit(IMAGES, LABELS, steps=5, batch_size=8, augment=augment)
        return bits(one)

    assert run(BOTH) == run(Compose(RandomFlip(), RandomCrop(1)))
    assert run(BOTH) != run(None)
    assert run(RandomFlip(0)) == run(None)
    assert run(RandomFlip(1)) == run(lambda x, generator: x[:, :, ::-1].astype(np.float64))


def test_each_batch_has_a_generator_of_its_own():
    seen = []

    def look(x, generator):
        seen.append(generator.random())
        return x

    trainer().fit(IMAGES, LABELS, epochs=2, batch_size=10, augment=look)
    assert len(set(seen)) == 8
    trainer().fit([(IMAGES[:10], LABELS[:10])] * 4, epochs=2, augment=look)
    # By trainer's seed and the batch's number, whatever the source.
    assert seen[8:] == seen[:8]


def test_a_resumed_run_augments_as_an_uninterrupted_one(tmp_path):
    class Stop(fg.Callback):
        def on_start(self, trainer, steps):
            self.trainer = trainer

        def on_step(self, step, result):
            if step == 7:
                self.trainer.stop()

    def run(folder, **more):
        one = trainer()
        options = {"steps": 12, "batch_size": 8, "augment": BOTH, **more}
        one.fit(IMAGES, LABELS, checkpoints=fg.Checkpoints(folder, every=5), **options)
        return bits(one)

    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", callbacks=[Stop()])
    with pytest.raises(fg.RunError, match="augment"):
        run(tmp_path / "cut", resume=True, augment=RandomFlip())
    assert run(tmp_path / "cut", resume=True) == whole


@pytest.mark.parametrize(
    ("augment", "error", "message"),
    [
        (
            RandomFlip,
            fg.ConfigError,
            r"augment is .*RandomFlip.*; a function augment\(x, generator\) is required",
        ),
        (3, fg.ConfigError, "augment is 3; a function"),
        (lambda x, g: x[1:], fg.ShapeError, r"augment returned shape \(7, 5, 4, 2\) for examples of shape"),
        (lambda x, g: "no", fg.ShapeError, r"augment returned shape \(\)"),
        (lambda x, g: x * 1j, fg.DtypeError, "augment returned dtype complex64; real numbers"),
    ],
)
def test_what_is_no_augmentation(augment, error, message):
    with pytest.raises(error, match=message):
        trainer().fit(IMAGES, LABELS, steps=1, batch_size=8, augment=augment)


def test_images_are_required():
    model = fg.Sequential([fg.Dense(3)], 4, device="cpu")
    with pytest.raises(fg.ShapeError, match=r"augment: examples have shape \(4,\); images \(H, W, C\)"):
        fg.Trainer(model, optimizer="sgd").fit(np.zeros((6, 4)), [0, 1, 2] * 2, steps=1, augment=BOTH)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomFlip(1.5), "p is 1.5; a probability from 0 to 1"),
        (lambda: RandomCrop(0), "padding is 0"),
        (lambda: Compose(RandomCrop), "augment is .*RandomCrop"),  # type: ignore[arg-type]
    ],
)
def test_augmentations_that_cannot_be(make, message):
    with pytest.raises(fg.ConfigError, match=message):
        make()


def test_an_augmentation_that_changes_its_examples_leaves_the_batches_of_an_iterable_alone():
    def darken(x, generator):
        x *= 0.5
        return x

    images = IMAGES.copy()
    one = trainer()
    one.fit([(images[:20], LABELS[:20]), (images[20:], LABELS[20:])], epochs=3, augment=darken)
    np.testing.assert_array_equal(images, IMAGES)
    other = trainer()
    other.fit([(IMAGES[:20] / 2, LABELS[:20]), (IMAGES[20:] / 2, LABELS[20:])], epochs=3)
    assert bits(one) == bits(other)
