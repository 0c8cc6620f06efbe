"""Small texts that tests make: sentences of a few words, in an order that a seed decides."""

from typing import ClassVar

import numpy as np

import fgnumba as fg

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "two", "rats", "who", "ran")


def sentences(characters=4000, seed=0):
    """Return a text of so many characters: words with spaces between, five to a line."""
    generator = np.random.default_rng(seed)
    words = [WORDS[i] for i in generator.integers(0, len(WORDS), characters // 2)]
    lines = (" ".join(words[start : start + 5]) for start in range(0, len(words), 5))
    return "\n".join(lines)[:characters]


def write(path, text, encoding="utf-8"):
    """Write a text as bytes, without changing its line breaks, and return the path."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


class InWindows(fg.Dense):
    """A dense layer that says of itself that it mixes positions, so that its model reads texts in windows."""

    mixes_positions: ClassVar[bool] = True


def in_windows(symbols, length, units=6):
    """Return a small model that reads a text in windows: it predicts each symbol from the one before."""
    layers = [fg.Embedding(symbols, units), InWindows(units, "tanh"), fg.Dense(symbols)]
    return fg.Sequential(layers, (length,), device="cpu")
