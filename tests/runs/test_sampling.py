"""Text from a model: which symbols are drawn, and how often."""

from typing import Any

import numpy as np
import pytest

from fgnumba.datasets import Alphabet
from fgnumba.errors import ConfigError, RunError
from fgnumba.runs.sampling import drawn, opening, sampled

CHANCES = np.array([0.5, 0.3, 0.15, 0.05])
LOGITS = np.log(CHANCES).astype(np.float32)


class Cycle:
    """A model that predicts the symbol after the one it reads, and keeps what it reads."""

    reads_windows = False

    def __init__(self):
        self.read = []

    def stream(self, batch):
        assert batch == 1

        def step(x):
            assert x.shape == (1, 1)
            self.read.append(int(x[0, 0]))
            return np.where(np.arange(5) == (x[0, 0] + 1) % 5, 50.0, 0.0).astype(np.float32)[None, None]

        return step


class Last3:
    """A model of windows of 4 symbols: outputs at a position say the sum of the last three symbols up to it, mod 5."""

    reads_windows, input_shape = True, (4,)

    def __init__(self):
        self.read = []

    def __call__(self, window):
        self.read.append(window[0].tolist())
        sums = [int(window[0, max(0, i - 2) : i + 1].sum()) % 5 for i in range(4)]
        return np.where(np.arange(5) == np.array(sums)[:, None], 50.0, 0.0).astype(np.float32)[None]


def shares(temperature, draws=4000):
    generator = np.random.default_rng(3)
    found = [drawn(LOGITS, temperature, generator) for _ in range(draws)]
    return np.bincount(found, minlength=4) / draws


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_symbols_are_drawn_with_their_probabilities(temperature):
    expected = CHANCES ** (1 / temperature)
    expected /= expected.sum()
    # Four standard errors of a share of 4,000 draws.
    assert (np.abs(shares(temperature) - expected) < 4 * np.sqrt(expected * (1 - expected) / 4000)).all()


def test_the_most_probable_symbol_is_taken_at_temperature_0():
    assert shares(0.0, 5).tolist() == [1, 0, 0, 0]
    assert shares(1e-300, 5).tolist() == [1, 0, 0, 0]


def test_a_prompt_is_read_once_and_then_each_symbol_that_was_drawn():
    model: Any = Cycle()
    assert list(sampled(model, [3, 1], 6, seed=2)) == [2, 3, 4, 0, 1, 2]
    assert model.read == [3, 1, 2, 3, 4, 0, 1]
    assert list(sampled(model, [3], 0)) == []


@pytest.mark.parametrize("prompt", [[1], [1, 2, 1], [4, 4, 4, 1, 2, 1]])
def test_a_model_of_windows_reads_the_last_symbols_anew(prompt):
    model: Any = Last3()
    found = list(sampled(model, prompt, 6, seed=2))
    text = list(prompt)
    for symbol in found:
        assert symbol == sum(text[-3:]) % 5
        text.append(symbol)
    # Of a longer text the last four symbols are read; a shorter one is followed by zeros.
    begun = (text[:number][-4:] for number in range(len(prompt), len(text)))
    assert model.read == [window + [0] * (4 - len(window)) for window in begun]


def test_the_seed_decides_what_is_drawn():
    class Flat(Cycle):
        def stream(self, batch):
            return lambda x: np.zeros((1, 1, 5), np.float32)

    flat: Any = Flat()
    first, again, other = (list(sampled(flat, [0], 30, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_without_a_prompt_a_line_break_is_read_if_there_is_one():
    assert opening(Alphabet("\n ab")) == [0]
    assert opening(Alphabet("\t\nab")) == [1]
    assert opening(Alphabet("ab")) == [0]
    assert opening(Alphabet(b"\x05\n")) == [1]


def test_what_cannot_be_drawn():
    with pytest.raises(RunError, match="has diverged"):
        drawn(np.array([0, np.nan], np.float32), 1.0, np.random.default_rng(0))
    endless: Any = Cycle()
    for wrong in ({"length": -1}, {"length": 3, "temperature": -1.0}, {"length": 3, "seed": -1}):
        with pytest.raises(ConfigError):
            sampled(endless, [0], **wrong)
