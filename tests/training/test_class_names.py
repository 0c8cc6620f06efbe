"""What the classes of a model are called: labels of every kind, runs that fail, and runs on other labels."""

import re

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.errors import FgWarning

rng = np.random.default_rng(3)
X = rng.standard_normal((30, 4)).astype(np.float32)
NUMBERS = np.arange(30) % 3
TEXT = np.array(["cat", "dog", "eel"])[NUMBERS]


def classifier(outputs=3):
    model = fg.Sequential([fg.Dense(5), fg.Dense(outputs)], 4, seed=1, device="cpu")
    return fg.Trainer(model, optimizer=fg.SGD(0.01))


def bits(trainer):
    return [array.tobytes() for array in trainer.model.parameters().values()]


class Fails(fg.Callback):
    def __init__(self, step):
        self.step = step

    def on_start(self, trainer, steps):
        if not self.step:
            raise ValueError("at the start")

    def on_step(self, step, result):
        if step == self.step:
            raise ValueError("after a step")


def test_a_run_that_fails_before_its_first_step_names_no_classes(tmp_path):
    trainer = classifier()
    with pytest.raises(ValueError, match="at the start"):
        trainer.fit(X, TEXT, steps=3, callbacks=[Fails(0)])
    assert trainer.model.classes is None
    folder = fg.Checkpoints(tmp_path, every=1)
    classifier().fit(X, TEXT, steps=2, checkpoints=folder)
    with pytest.raises(fg.RunError, match="holds another run"):
        trainer.fit(X, TEXT, steps=2, checkpoints=folder)
    assert trainer.model.classes is None
    trainer.fit(X, ["x", "y", "z"] * 10, steps=1)
    assert trainer.model.classes == ("x", "y", "z")


def test_a_run_that_fails_after_a_step_has_named_them():
    trainer = classifier()
    with pytest.raises(ValueError, match="after a step"):
        trainer.fit(X, TEXT, steps=3, callbacks=[Fails(1)])
    assert trainer.model.classes == ("cat", "dog", "eel")


def test_a_model_of_class_numbers_gets_no_names_later():
    trainer = classifier(10)
    with pytest.warns(FgWarning, match="no example of class 0"):
        trainer.fit(X, np.arange(30) % 9 + 1, steps=1)
    before = bits(trainer)
    # Label 1 has been class 1, and would now be class 0.
    with pytest.raises(fg.ConfigError, match=r"the model was trained on class numbers: set model.classes"):
        trainer.fit(X, np.arange(30) % 10 + 1, steps=1)
    assert trainer.model.classes is None
    assert bits(trainer) == before


@pytest.mark.parametrize(
    "names", [["cat", "dog", "eel"], np.array(["cat", "dog", "eel"]), ("eel", "cat", "dog")]
)
def test_names_that_the_user_has_set(names):
    trainer, other = classifier(), classifier()
    trainer.model.classes = names
    trainer.fit(X, TEXT, steps=3)
    other.fit(X, [list(names).index(label) for label in TEXT], steps=3)
    assert bits(trainer) == bits(other)
    score = fg.evaluate(trainer.model, X, TEXT)
    assert score == fg.evaluate(other.model, X, [list(names).index(label) for label in TEXT])
    batches = classifier()
    batches.model.classes = names
    batches.fit([(X, TEXT)], steps=1)
    assert batches.model.classes == tuple(names)


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["a", "b", "c", "d"], fg.ShapeError, r"model.classes has 4 names, .*; the model has 3 outputs"),
        ("abc", fg.ConfigError, "classes is 'abc'; a list of names or numbers is required"),
        ([None, "a", "b"], fg.ConfigError, r"classes\[0\] is None; a name"),
    ],
)
def test_names_that_cannot_be(names, error, message):
    trainer = classifier()
    trainer.model.classes = names
    with pytest.raises(error, match=message):
        trainer.fit(X, TEXT, steps=1)
    with pytest.raises(error, match=message):
        fg.evaluate(trainer.model, X, TEXT)


def test_names_are_text_of_python():
    trainer = classifier()
    trainer.fit((X, TEXT.tolist()), steps=1)
    assert trainer.model.classes == ("cat", "dog", "eel")
    scalars = classifier()
    scalars.fit(X, list(TEXT), steps=1)
    assert [type(name) for name in scalars.model.classes] == [str] * 3
    assert bits(scalars) == bits(trainer)


def test_text_in_batches_needs_names():
    message = r"batch 0: y is text, such as 'cat', and the model has no names of classes: set model.classes"
    for labels in (TEXT, TEXT.tolist(), TEXT.astype(object)):
        with pytest.raises(fg.DtypeError, match=message):
            classifier().fit([(X, labels)], steps=1)


@pytest.mark.skipif(
    not hasattr(np, "dtypes") or not hasattr(np.dtypes, "StringDType"), reason="NumPy 1 has no such text"
)
def test_gaps_in_text_of_any_length():
    for missing in (None, float("nan")):
        labels = np.array([missing, *TEXT[1:]], np.dtypes.StringDType(na_object=missing))
        with pytest.raises(fg.DatasetError, match=r"y\[0\] is .*; every label is required"):
            classifier().fit(X, labels, steps=1)
    trainer = classifier()
    trainer.fit(X, TEXT.astype(np.dtypes.StringDType()), steps=1)
    assert trainer.model.classes == ("cat", "dog", "eel")


@pytest.mark.parametrize("bad", [1e300, float("nan"), -float("inf")])
def test_real_targets_that_are_not_finite_are_quoted_as_given(bad):
    model = fg.Sequential([fg.Dense(2)], 4, device="cpu")
    targets = np.zeros((30, 2))
    targets[7, 1] = bad
    with pytest.raises(
        fg.DatasetError, match=rf"y\[7, 1\] is {re.escape(str(bad))}; a number that is finite in float32"
    ):
        fg.Trainer(model, loss="mse", optimizer=fg.SGD(0.1)).fit(X, targets, steps=1)
