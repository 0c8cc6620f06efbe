"""Evaluation of a text in windows: each symbol counts once, with as many symbols before it as the stride leaves."""

import tracemalloc
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.datasets import Alphabet
from fgnumba.errors import ConfigError
from fgnumba.layers.losses import SoftmaxCrossEntropy
from fgnumba.training import window_evaluation
from fgnumba.training.evaluation import evaluated_stream
from fgnumba.training.scoring import metrics_of
from fgnumba.training.window_evaluation import checked_stride, window_outputs
from tests import tolerances

LOSS = SoftmaxCrossEntropy()
ALPHABET = Alphabet("abcd")
TEXT = np.random.default_rng(1).integers(0, 4, 302).astype(np.uint8)


class Placed:
    """A model of windows that predicts from a symbol, the one before it and its place in the window."""

    reads_windows = True

    def __init__(self, length):
        self.input_shape, self.passes = (length,), 0
        table = np.random.default_rng(0).standard_normal((length, 5, 4, 4))
        self.table = table.astype(np.float32)

    def __call__(self, x):
        assert x.shape[1:] == self.input_shape
        assert x.size <= max(window_evaluation.POSITIONS, x.shape[1])
        self.passes += len(x)
        before = np.concatenate([np.full((len(x), 1), 4), x[:, :-1]], axis=1)
        return self.table[np.arange(x.shape[1]), before, x]


def expected(model, text, stride):
    """Return the outputs of each symbol of a text, from the window that counts it."""
    length, found = model.input_shape[0], []
    for place in range(len(text)):
        windows = range(0, len(text), stride)
        start = next(
            s for s in windows if s <= place < s + length and (s == 0 or place >= s + length - stride)
        )
        before = text[place - 1] if place > start else 4
        found.append(model.table[place - start, before, text[place]])
    return np.array(found)


@pytest.mark.parametrize("together", [1, 12, 2048])
@pytest.mark.parametrize(("length", "stride"), [(5, 5), (5, 2), (5, 1), (4, 3), (1, 1)])
def test_each_symbol_counts_once_in_the_window_that_reads_most_before_it(
    length, stride, together, monkeypatch
):
    monkeypatch.setattr(window_evaluation, "POSITIONS", together)
    for total in (1, 2, length, length + 1, 2 * length, 23):
        model: Any = Placed(length)
        pieces = list(window_outputs(model, TEXT[:total], stride))
        np.testing.assert_array_equal(np.concatenate(pieces), expected(model, TEXT[:total], stride))
        assert model.passes == 1 + max(0, -(-(total - length) // stride))


def test_the_loss_is_the_mean_over_all_symbols():
    model: Any = Placed(8)
    found = evaluated_stream(model, LOSS, metrics_of(None, LOSS), TEXT[:-1], TEXT[1:], ALPHABET)
    logits = expected(model, TEXT[:-1], 8).astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    tolerances.LOSS.check(found.loss, -np.log(chances[np.arange(301), TEXT[1:]]).mean())
    assert found.n == 301
    assert found.accuracy == np.mean(logits.argmax(axis=1) == TEXT[1:])
    assert found.metrics["nats_per_character"] == found.loss
    closer = evaluated_stream(model, LOSS, (), TEXT[:-1], TEXT[1:], ALPHABET, 3)
    tolerances.LOSS.check(closer.loss, LOSS.value(expected(model, TEXT[:-1], 3), TEXT[1:].astype(np.int64)))
    assert closer.loss != found.loss


def test_the_length_of_a_text_does_not_change_the_memory():
    def most(symbols):
        text = np.random.default_rng(3).integers(0, 4, symbols).astype(np.uint8)
        model: Any = Placed(8)
        tracemalloc.start()
        evaluated_stream(model, LOSS, metrics_of(None, LOSS), text[:-1], text[1:], ALPHABET)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most(100_000) - most(20_000) < 4096


def test_what_cannot_be_a_stride():
    model: Any = Placed(8)
    wrong: Any
    for wrong in (0, 9, -1, 2.5, "4"):
        with pytest.raises(ConfigError, match="stride is"):
            checked_stride(model, wrong)
    assert (checked_stride(model, None), checked_stride(model, np.uint8(3))) == (8, 3)
    model.reads_windows = False
    assert checked_stride(model, None) is None
    with pytest.raises(ConfigError, match="reads a text as one stream, and has no windows"):
        checked_stride(model, 4)
    dense = fg.Sequential([fg.Dense(2)], 3, device="cpu")
    with pytest.raises(ConfigError, match="stride is 2; only the windows of a text have a distance"):
        fg.evaluate(dense, np.zeros((4, 3)), [0, 1, 0, 1], stride=2)
