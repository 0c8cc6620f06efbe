"""A run is resumed with what it began with: labels, weights of examples and augmentation, or not at all."""

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.training import judge
from tests.training.test_class_names import NUMBERS, TEXT, X, bits, classifier


class Stops(fg.Callback):
    def on_start(self, trainer, steps):
        self.trainer = trainer

    def on_step(self, step, result):
        if step == 6:
            self.trainer.stop()


def add_noise(x, generator):
    return x + generator.standard_normal(x.shape)


def run(folder, labels=TEXT, resume=False, **options):
    """Take 12 steps, or the six after those that another trainer has taken; return the trainer."""
    trainer = classifier()
    trainer.fit(
        X,
        labels,
        steps=12,
        batch_size=8,
        checkpoints=None if folder is None else fg.Checkpoints(folder, every=3),
        callbacks=() if folder is None or resume else [Stops()],
        resume=resume,
        **options,
    )
    return trainer


@pytest.mark.parametrize(
    "options",
    [{}, {"augment": add_noise}, {"sample_weight": np.linspace(0, 2, 30), "validation": 0.3}],
    ids=["plain", "augmented", "weighted"],
)
def test_a_new_model_goes_on_with_text_as_labels(tmp_path, options):
    run(tmp_path, **options)
    resumed = run(tmp_path, resume=True, **options)
    assert bits(resumed) == bits(run(None, **options))
    assert resumed.model.classes == ("cat", "dog", "eel")


@pytest.mark.parametrize(
    ("first", "then", "message"),
    [
        ({"augment": add_noise}, {}, "augment is '.*add_noise'; the run that continues has None"),
        ({}, {"augment": add_noise}, "augment is None; the run that continues has '.*add_noise'"),
        ({"sample_weight": np.ones(30)}, {}, "weights is '.*'; the run that continues has None"),
        ({}, {"sample_weight": np.ones(30)}, "weights is None; the run that continues has"),
        (
            {},
            {"labels": np.array(["x", "y", "z"])[NUMBERS]},
            r"classes is \['cat', 'dog', 'eel'\]; the run that continues has \['x', 'y', 'z'\]",
        ),
        ({}, {"labels": NUMBERS}, r"classes is \['cat', 'dog', 'eel'\]; the run that continues has None"),
    ],
)
def test_a_run_that_began_otherwise_is_not_continued(tmp_path, first, then, message):
    run(tmp_path, **first)
    trainer = classifier()
    with pytest.raises(fg.RunError, match=message):
        trainer.fit(
            X,
            then.pop("labels", TEXT),
            steps=12,
            batch_size=8,
            checkpoints=fg.Checkpoints(tmp_path, every=3),
            resume=True,
            **then,
        )
    assert trainer.steps_done == 0
    assert bits(trainer) == bits(classifier())
    assert trainer.model.classes is None


def test_a_checkpoint_without_the_names_of_classes_is_continued(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        facts = vars(judge.Parts)["facts"].func
        patched.setattr(
            judge.Parts,
            "facts",
            property(lambda parts: {k: v for k, v in facts(parts).items() if k != "classes"}),
        )
        run(tmp_path)
    assert b'"classes"' not in max((tmp_path / "checkpoints").iterdir()).read_bytes()
    assert bits(run(tmp_path, resume=True)) == bits(run(None))
