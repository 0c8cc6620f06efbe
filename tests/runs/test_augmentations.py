"""Augmentations by name: what a text stands for, what is refused, and the runs and searches that use it."""

import json
import tomllib

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.bench.learning.compare_estimators import Budget, compare
from fgnumba.datasets import Compose, RandomCrop, RandomFlip
from fgnumba.datasets.augmentation import statement_of
from fgnumba.runs.assembly import assemble
from fgnumba.runs.augmentations import augmentation_of
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.search import Search, search

rng = np.random.default_rng(5)
SMALL = """
[[layers]]
type = "conv2d"
filters = 4
activation = "relu"
[[layers]]
type = "global_average_pool2d"
[[layers]]
type = "dense"
units = "classes"
"""


def images(channels=3, side=8):
    """Return a data set of 24 + 12 images in three classes."""
    x, y = rng.random((36, side, side, channels), np.float32), np.arange(36) % 3
    return fg.datasets.Dataset("pictures", x[:24], y[:24], x[24:], y[24:], classes=3)


@pytest.fixture
def pictures(folder):
    """Return options for a run on 24 colour images, whose model is in a file."""
    data = images()
    np.savez(folder / "few.npz", **{f: getattr(data, f) for f in ("x_train", "y_train", "x_test", "y_test")})
    (folder / "small.toml").write_text(SMALL, encoding="utf-8")
    return ("--data", "few.npz", "--model", "small.toml", "--batch-size", 8, "--device", "cpu", "--quiet")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flip", RandomFlip()),
        ("crop", RandomCrop()),
        ("flip:0.25", RandomFlip(0.25)),
        ("crop:2", RandomCrop(2)),
        ("flip,crop:3", Compose(RandomFlip(), RandomCrop(3))),
        ("crop:3,flip", Compose(RandomCrop(3), RandomFlip())),
    ],
)
def test_names_stand_for_augmentations(text, expected):
    found = augmentation_of(text)
    assert found is not None
    assert statement_of(found) == statement_of(expected)


def test_none_is_no_augmentation():
    assert augmentation_of("none") is augmentation_of(None) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "augment is ''; names such as flip,crop:4, or none, are required"),
        (3, "augment is 3; names such as"),
        ("flop", "augment: unknown augmentation 'flop' (did you mean 'flip'?)"),
        ("flip,", "augment: unknown augmentation '' (choose from crop, flip, none)"),
        ("flip,none", "augment: 'none' stands alone"),
        ("crop:", "augment is 'crop:'; a whole number of pixels is required after the colon"),
        ("crop:1.5", "augment is 'crop:1.5'; a whole number of pixels is required after the colon"),
        ("crop:0", "augment is 'crop:0': padding is 0"),
        ("flip:often", "augment is 'flip:often'; a probability is required after the colon"),
        ("flip:2", "augment is 'flip:2': p is 2.0; a probability from 0 to 1 is required"),
        ("flip:nan", "augment is 'flip:nan': p is nan"),
    ],
)
def test_what_is_no_augmentation(text, message):
    with pytest.raises(fg.ConfigError) as caught:
        RunConfig(augment=text)
    assert str(caught.value).startswith(message)


def test_examples_that_are_no_images_are_refused(fgtrain, blobs):
    done = fgtrain("train", "--data", blobs, "--augment", "flip", "--steps", 1)
    assert done.code == 2
    assert done.err.count("\n") == 1
    assert (
        "augment is 'flip', and an example of blobs.npz has the shape (5,); images (H, W, C) are" in done.err
    )


@pytest.mark.parametrize(
    ("channels", "given", "expected"),
    [
        (3, None, "flip,crop:4"),
        (3, "none", "none"),
        (3, "flip", "flip"),
        (1, None, None),
        (1, "flip", "flip"),
    ],
)
def test_a_model_for_photographs_has_an_augmentation_on_colour_images(channels, given, expected):
    config = assemble(RunConfig(model="vgg", augment=given, steps=1), images(channels)).config
    assert (config.augment, config.schedule) == (expected, "cosine-to-zero")
    assert assemble(RunConfig(model="logreg", steps=1), images(channels)).config.augment is None


def test_a_run_is_augmented_and_trained_further_bit_for_bit(fgtrain, folder, pictures):
    def trained(out, *options):
        assert fgtrain("train", *pictures, *options, "--out", out).code == 0
        return (folder / out / "model.safetensors").read_bytes()

    both = ("--augment", "flip,crop:2")
    trained("run", *both, "--steps", 5, "--decay", 0.1)
    written = tomllib.loads((folder / "run" / "config.toml").read_text(encoding="utf-8"))
    assert written["augment"] == "flip,crop:2"
    assert fgtrain("train", "--resume", "run", "--steps", 9, "--quiet").code == 0
    whole = trained("whole", *both, "--steps", 9, "--decay", 0.1)
    assert (folder / "run" / "model.safetensors").read_bytes() == whole
    assert trained("plain", "--steps", 9, "--decay", 0.1) != whole
    (folder / "again.toml").write_text('augment = "flip,crop:2"\n', encoding="utf-8")
    assert trained("again", "--config", "again.toml", "--steps", 9, "--decay", 0.1) == whole
    refused = fgtrain("train", "--resume", "run", "--augment", "flip")
    assert (refused.code, "--augment and --resume are both given" in refused.err) == (2, True)


def test_a_run_with_another_augmentation_is_not_continued(fgtrain, folder, pictures):
    fgtrain("train", *pictures, "--augment", "flip", "--steps", 4, "--out", "run")
    path = folder / "run" / "config.toml"
    path.write_text(path.read_text(encoding="utf-8").replace('"flip"', '"crop"'), encoding="utf-8")
    done = fgtrain("train", "--resume", "run", "--steps", 8, "--quiet")
    assert done.code == 2
    assert "augment is 'RandomFlip(p=0.5)'; the run that continues has 'RandomCrop" in done.err


def test_searches_and_comparisons_are_augmented(folder, pictures):
    data = images()

    def losses(**settings):
        config = RunConfig(model=str(folder / "small.toml"), batch_size=8, estimator="feedback", **settings)
        (trial, *_) = search(config, data, Search(1e-2, 1e-2, 1, steps=4))
        (curve,) = compare(["feedback"], config, data, Budget("steps", 4), evaluations=1).curves
        return trial.loss, curve.losses[-1]

    plain, flipped = losses(), losses(augment="flip:1")
    assert losses(augment="flip:0") == plain
    assert flipped[0] != plain[0]
    assert flipped[1] != plain[1]
    assert losses(augment="flip:1") == flipped


def test_trials_of_optuna_are_augmented(folder, pictures):
    pytest.importorskip("optuna")
    from fgnumba.runs.optuna_search import _run, _Task

    def loss(augment):
        config = RunConfig(
            model=str(folder / "small.toml"), batch_size=8, estimator="feedback", augment=augment
        )
        return _run(_Task(config, images(), 1e-2, 1.0, 4, None, ())).trial.loss

    assert loss("flip:0") != loss("flip:1")


def test_a_cosine_to_zero_ends_there(fgtrain, folder, pictures):
    done = fgtrain(
        "train", *pictures[:-1], "--schedule", "cosine-to-zero", "--steps", 8, "--out", "run", "--json"
    )
    assert done.code == 0, done.err
    lines = (folder / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rates = [json.loads(line)["learning_rate"] for line in lines]
    config = tomllib.loads((folder / "run" / "config.toml").read_text(encoding="utf-8"))
    cosine = fg.schedules.Cosine(config["learning_rate"], 8)
    steps = [json.loads(line)["step"] for line in lines]
    assert rates == [cosine(step - 1) for step in steps]
