"""Arguments of ``Trainer.fit`` that people get wrong, or leave out."""

import logging

import numpy as np
import pytest

import fgnumba as fg
from tests.training.test_class_names import NUMBERS, X, bits, classifier


@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (fg.callbacks.EarlyStopping(), r"callbacks is a EarlyStopping; a sequence .*: callbacks=\[\.\.\.\]"),
        (
            [fg.callbacks.EarlyStopping],
            r"EarlyStopping is a class; an object is required: EarlyStopping\(\.\.\.\)",
        ),
        ([print], "callbacks: <built-in function print> is no object of a subclass of fgnumba.Callback"),
        (3, "callbacks is a int"),
    ],
)
def test_callbacks_that_are_none(callbacks, message):
    with pytest.raises(fg.ConfigError, match=message):
        classifier().fit(X, NUMBERS, steps=1, validation=0.2, callbacks=callbacks)


def test_a_run_of_default_length_holds_data_out_for_an_early_stopping_that_is_given():
    x, labels = np.tile(X, (4, 1)), np.tile(NUMBERS, 4)
    stopping = fg.callbacks.EarlyStopping(1, "validation_loss", min_delta=10)
    history = classifier().fit(x, labels, callbacks=[stopping])
    # The first record is an improvement, the second is none.
    assert (history.ended_by, len(history.records)) == ("callback", 2)
    one, other = classifier(), classifier()
    one.fit(x, labels, evaluate_every=5, callbacks=[stopping])
    other.fit(x, labels, evaluate_every=5, callbacks=[stopping], validation=0.05)
    assert bits(one) == bits(other)
    with pytest.raises(fg.ConfigError, match="EarlyStopping needs validation data"):
        classifier().fit(X[:3], NUMBERS[:3], callbacks=[stopping])


@pytest.mark.parametrize("fraction", [0.3, np.float32(0.3), np.array(0.3), 0, 1])
def test_no_fraction_of_an_iterable_is_held_out(fraction):
    with pytest.raises(fg.ConfigError, match="no fraction of an iterable can be held out"):
        classifier().fit([(X, NUMBERS)], steps=1, validation=fraction)


def test_a_conversion_of_batches_is_said_once(caplog):
    batches = [(X[i : i + 10].astype(np.float64), NUMBERS[i : i + 10]) for i in (0, 10, 20)]
    with caplog.at_level(logging.INFO, logger="fgnumba"):
        classifier().fit(batches, epochs=2)
    assert [record.getMessage() for record in caplog.records] == [
        "x: float64 converted once to C-contiguous float32"
    ]
