"""Evaluation of a text as one stream: formulas of the metrics, and that no symbol is left out or read twice."""

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest

import fgnumba as fg
from fgnumba.datasets import Alphabet
from fgnumba.layers.losses import SoftmaxCrossEntropy
from fgnumba.training import stream_evaluation
from fgnumba.training.curves import loss_label
from fgnumba.training.evaluation import evaluated_stream
from fgnumba.training.scoring import Metric, metrics_of
from fgnumba.training.text_metrics import text_metrics
from tests import tolerances

LOSS = SoftmaxCrossEntropy()


class Counting:
    """A model that predicts from a symbol and from how many came before, which is its state."""

    reads_windows = False

    def __init__(self, symbols):
        self.read = 0
        self.table = np.random.default_rng(0).standard_normal((7, symbols, symbols)).astype(np.float32)

    def stream(self, batch):
        assert batch == 1
        before = 0

        def step(x):
            nonlocal before
            assert x.shape[0] == 1
            assert 1 <= x.shape[1] <= stream_evaluation.WINDOW
            self.read += x.shape[1]
            places = (before + np.arange(x.shape[1])) % 7
            before += x.shape[1]
            return self.table[places, x[0]][None]

        return step


def counting() -> Any:
    return Counting(4)


@pytest.mark.parametrize("length", [1, 5, 64, 1000])
def test_a_stream_is_read_window_by_window_with_its_state(length, monkeypatch):
    monkeypatch.setattr(stream_evaluation, "WINDOW", length)
    alphabet = Alphabet("abcd")
    text = np.random.default_rng(1).integers(0, 4, 302).astype(np.uint8)
    model: Any = Counting(4)
    found = evaluated_stream(model, LOSS, metrics_of(None, LOSS), text[:-1], text[1:], alphabet)
    logits = model.table[np.arange(301) % 7, text[:-1]].astype(np.float64)
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    nats = -np.log(chances[np.arange(301), text[1:]]).mean()
    assert model.read == found.n == 301
    tolerances.LOSS.check(found.loss, nats)
    assert found.accuracy == np.mean(logits.argmax(axis=1) == text[1:])
    assert found.metrics == {
        "accuracy": found.accuracy,
        "nats_per_character": found.loss,
        "bits_per_character": found.loss / math.log(2),
        "perplexity": math.exp(found.loss),
    }


def test_characters_of_bytes_are_counted():
    alphabet = Alphabet(bytes(sorted(set("né où日".encode()))))
    text = alphabet.encode("né où日" * 20)
    model: Any = Counting(len(alphabet))
    found = evaluated_stream(model, LOSS, (), text[:-1], text[1:], alphabet)
    # The first character is read, and not predicted.
    tolerances.COUNTED.check(found.metrics["nats_per_character"], found.loss * (len(text) - 1) / 119)
    assert math.isnan(found.accuracy)


def test_the_axis_of_losses_says_their_unit():
    def record(step, loss, symbols):
        nats = text_metrics(loss, symbols, 49)["nats_per_character"]
        return fg.Record(step, 1.0, loss, test_loss=loss, metrics={"test_nats_per_character": nats})

    assert loss_label([fg.Record(1, 1.0, 2.0)]) == "loss"
    assert loss_label([fg.Record(1, 1.0, 2.0), record(2, 1.9, 49)]) == "nats per character"
    assert loss_label([record(1, 1.9, 53)]) == "nats per byte"
    for loss in np.random.default_rng(4).uniform(0, 3, 200):
        assert text_metrics(float(loss), 49, 49)["nats_per_character"] == loss


def test_metrics_of_ones_own_get_all_predictions():
    seen = []

    def mine(targets, predictions):
        seen.append((targets.copy(), predictions.copy()))
        return (targets == predictions).mean()

    alphabet = Alphabet("abcd")
    text = np.random.default_rng(2).integers(0, 4, 100).astype(np.uint8)
    chosen: Any = {"accuracy": "accuracy", "mine": mine}
    metrics = metrics_of(chosen, LOSS)
    found = evaluated_stream(counting(), LOSS, metrics, text[:-1], text[1:], alphabet)
    assert found.metrics["mine"] == found.accuracy
    np.testing.assert_array_equal(seen[0][0], text[1:])
    assert isinstance(metrics[1], Metric)


def test_the_length_of_a_text_does_not_change_the_memory():
    def most(symbols):
        text = np.random.default_rng(3).integers(0, 4, symbols).astype(np.uint8)
        tracemalloc.start()
        evaluated_stream(counting(), LOSS, metrics_of(None, LOSS), text[:-1], text[1:], Alphabet("abcd"))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most(200_000) - most(20_000) < 4096


def test_a_model_that_has_diverged_is_evaluated_without_a_word():
    model: Any = Counting(4)
    model.table[3, 2] = np.inf
    text = np.tile(np.arange(4, dtype=np.uint8), 30)
    found = evaluated_stream(model, LOSS, metrics_of(None, LOSS), text[:-1], text[1:], Alphabet("abcd"))
    assert not math.isfinite(found.loss)
    assert not math.isfinite(found.metrics["perplexity"])
    assert text_metrics(1e4, 3, 3)["perplexity"] == math.inf
    assert math.isnan(text_metrics(1.0, 3, 0)["nats_per_character"])
