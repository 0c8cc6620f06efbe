"""Text from a trained model: it reads a prompt, and then each symbol that was drawn from what it predicts next."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets import Alphabet
from fgnumba.errors import RunError
from fgnumba.model.graph import Graph
from fgnumba.validation import real_number, whole_number

MAX_SEED = (1 << 64) - 1


def drawn(outputs: npt.NDArray[Any], temperature: float, generator: np.random.Generator) -> int:
    """Return a symbol with probability softmax(z / temperature), or the most probable one at temperature 0.

    Parameters
    ----------
    outputs : ndarray, (V,) real numbers
        The outputs z of a model at a position.
    temperature : float
        The temperature, 0 or above.
    generator : numpy.random.Generator
        The source of one uniform number; none is drawn at temperature 0.

    Raises
    ------
    RunError
        An output is not finite: the model has diverged.
    """
    logits = outputs.astype(np.float64)
    if not np.isfinite(logits).all():
        raise RunError("the model's outputs are not finite; it has diverged, and predicts nothing")
    if temperature == 0:
        return int(np.argmax(logits))
    # A temperature near 0 must not overflow.
    with np.errstate(over="ignore"):
        sums = np.exp((logits - logits.max()) / temperature).cumsum()
    return int(np.searchsorted(sums, generator.random() * sums[-1], side="right").clip(max=len(sums) - 1))


def opening(alphabet: Alphabet) -> Sequence[int]:
    """Return what a model reads where there is no prompt: a line break, or the first symbol of the alphabet."""
    code = ord("\n")
    found = np.flatnonzero(alphabet.codes == code)
    return [int(found[0]) if len(found) else 0]


def sampled(
    model: Graph, prompt: Sequence[int], length: int, temperature: float = 1.0, seed: int = 0
) -> Iterator[int]:
    """Yield symbols that continue a prompt, one by one.

    Parameters
    ----------
    model : Graph
        The model, (L,) symbols to (L, V) outputs. Its state is carried from symbol to symbol; a model that mixes
        positions reads the last L symbols anew for each that is drawn, or as many as there are.
    prompt : sequence of int
        The symbols that the model reads first, at least one.
    length : int
        The number of symbols to draw, 0 or above.
    temperature : float
        The temperature T of softmax(z / T); 0 takes the most probable symbol. Default: 1.
    seed : int
        The seed of the draws. Default: 0.

    Raises
    ------
    ConfigError
        A number is out of its range. It is raised by the call itself.
    """
    length = whole_number("length", length, 0)
    temperature = real_number("temperature", temperature)
    return _sampled(model, prompt, length, temperature, whole_number("seed", seed, 0, MAX_SEED))


def _sampled(
    model: Graph, prompt: Sequence[int], length: int, temperature: float, seed: int
) -> Iterator[int]:
    generator, read = np.random.default_rng(seed), _window(model) if model.reads_windows else _stream(model)
    new = list(prompt)
    for _ in range(length):
        new = [drawn(read(new), temperature, generator)]
        yield new[0]


def _stream(model: Graph) -> Callable[[Sequence[int]], npt.NDArray[Any]]:
    """Return a function that reads further symbols, at least one, and returns the outputs (V,) after the last."""
    stream, symbol = model.stream(batch=1), np.zeros((1, 1), np.int64)

    def read(numbers: Sequence[int]) -> npt.NDArray[Any]:
        for number in numbers:
            symbol[0, 0] = number
            outputs = stream(symbol)
        return np.asarray(outputs).reshape(-1)

    return read


def _window(model: Graph) -> Callable[[Sequence[int]], npt.NDArray[Any]]:
    """Return the same for a model of windows: it keeps the last L symbols, and reads them all each time.

    Where there are fewer, zeros follow them, on which no output before them depends.
    """
    length = model.input_shape[0]
    kept: list[int] = []

    def read(numbers: Sequence[int]) -> npt.NDArray[Any]:
        kept.extend(numbers)
        del kept[:-length]
        window = np.zeros((1, length), np.int64)
        window[0, : len(kept)] = kept
        outputs: npt.NDArray[Any] = np.asarray(model(window))[0, len(kept) - 1]
        return outputs

    return read
