"""What takes a number and is about sequences and texts; see ``tests.number_calls``."""

import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.bench import reverse
from tests.number_cases import LOSS, Call
from tests.texts import in_windows

SEQUENCES = np.arange(14).reshape(2, 7).astype(np.float32) % 5


def positions() -> fg.Sequential:
    """Return a model of sequences."""
    return fg.Sequential([fg.Dense(2)], (5, 4), device="cpu")


def learned(**given: Any) -> list[Any]:
    """Return what a model of sequences is after two positions of a stream."""
    learner = fg.OnlineLearner(positions(), estimator="weight-perturbation", optimizer="sgd", **given)
    results = [learner.learn_one(np.ones(4), np.ones(2)) for _ in range(2)]
    return [results[1].loss, *learner.model.parameters().values()]


def attended(function: Any, **given: Any) -> list[Any]:
    """Return what attention makes of sequences, with its derivative or without."""
    heads = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    tangents = (heads, None, None) if function is fg.attention_jvp else ()
    return [np.asarray(function(heads, heads, heads, *tangents, **given))]


def few_symbols(context: Any = 4) -> fg.datasets.TextDataset:
    """Return a small text."""
    alphabet = fg.datasets.Alphabet("abc")
    symbols = alphabet.encode("abcab" * 6)
    return fg.datasets.TextDataset("few", symbols[:25], symbols[25:], alphabet, context)


def text_of(load: Any, **given: Any) -> list[Any]:
    """Return the windows of a small file of text."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "few.txt")
        path.write_text("abcab" * 6)
        found = load(path, **given)
        return [found.digest, found.x_train]


def through_time(**given: Any) -> list[Any]:
    """Return the windows of a recurrent model, and their gradient."""
    one = reverse.ThroughTime(recurrent(), loss=LOSS, **given)
    return [one.window, one.truncated, one.run(SEQUENCES, SEQUENCES.reshape(-1).astype(np.int64)), one.nbytes]


def recurrent() -> fg.Sequential:
    """Return a model of sequences of seven symbols."""
    return fg.Sequential([fg.MinGRU(3, symbols=5), fg.Dense(5)], input_shape=7, device="cpu")


SEQUENCE_CALLS: dict[str, Call] = {
    **{
        f"operations.attention.{function.__name__}": Call(
            partial(attended, function), {"causal": True, "scale": 0.25, "dropout": 0.5, "seed": 3}
        )
        for function in (fg.attention, fg.attention_jvp)
    },
    "datasets.catalog.load": Call(lambda **given: text_of(fg.datasets.load, **given), {"context": 5}),
    "datasets.texts.loading.text": Call(lambda **given: text_of(fg.datasets.text, **given), {"context": 5}),
    "datasets.texts.dataset.TextDataset": Call(lambda **given: [few_symbols(**given).digest], {"context": 5}),
    "datasets.texts.dataset.TextDataset.order": Call(
        lambda **given: [few_symbols().order(**given)], {"seed": 3, "epoch": 5}
    ),
    "datasets.texts.dataset.TextDataset.first": Call(
        lambda **given: few_symbols().first(**given), {"count": 2}
    ),
    "datasets.texts.dataset.TextDataset.windows": Call(
        lambda **given: next(few_symbols().windows(**given)), {"batch_size": 2, "seed": 3, "first": 5}
    ),
    "datasets.texts.dataset.TextDataset.until": Call(
        lambda **given: [few_symbols().until(**given).digest], {"windows": 2}
    ),
    "datasets.texts.dataset.TextDataset.since": Call(
        lambda **given: [few_symbols().since(**given)], {"windows": 2}
    ),
    "model.sequence_model.SequenceModel.at_length": Call(
        lambda **given: [positions().at_length(**given).shapes], {"length": 3}
    ),
    "model.sequence_model.SequenceModel.stream": Call(
        lambda **given: [positions().stream(**given)(np.ones((2, 3, 4)))], {"batch": 2}
    ),
    "training.evaluation.evaluate": Call(
        lambda **given: fg.evaluate(in_windows(3, 4), few_symbols(), **given)[:3], {"stride": 3}
    ),
    "training.online.OnlineLearner": Call(learned, {"seed": 3}),
    "bench.reverse.training.value_and_grad": Call(
        lambda **given: reverse.value_and_grad(recurrent(), LOSS, SEQUENCES, SEQUENCES.astype(int), **given)[
            0
        ],
        {"checkpoint": True, "window": 3},
    ),
    "bench.reverse.through_time.ThroughTime": Call(
        through_time, {"batch": 2, "window": 3, "truncated": True, "update": True}
    ),
}
