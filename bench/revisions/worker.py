"""The process that ``compare`` runs in each revision: it reads cases from its input, and answers with their seconds.

It uses only public names of the library, so that older revisions can run it.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fgnumba as fg

SAMPLE_SECONDS = 20e-3
WIDTHS: dict[str, tuple[int, ...]] = {"logreg": (), "mlp": (1024, 1024)}
BATCH = 64


def model(network: str) -> Any:
    """Return a network for images of 28x28 pixels.

    Parameters
    ----------
    network : str
        Its name.
    """
    if network in WIDTHS:
        hidden = [fg.Dense(units, activation="relu") for units in WIDTHS[network]]
        return fg.Sequential([fg.Flatten(), *hidden, fg.Dense(10)], (28, 28, 1))
    half = [fg.Conv2d(64, 3, padding="same", activation="relu") for _ in range(2)]
    body = [*half, fg.MaxPool2d(2), *half, fg.MaxPool2d(2), fg.Flatten(), fg.Dense(1024, activation="relu")]
    return fg.Sequential([*body, fg.Dense(10)], (28, 28, 1))


def contender(network: str, what: str) -> Callable[[], object]:
    """Return a function without arguments that computes the model's outputs or takes a training step.

    Parameters
    ----------
    network : str
        Name of the network.
    what : str
        ``f`` for the outputs, else the directions of a training step, such as ``rank1 x 16``.
    """
    trained = model(network)
    rng = np.random.default_rng(0)
    x, y = rng.random((BATCH, 28, 28, 1), np.float32), rng.integers(0, 10, BATCH)
    if what == "f":
        return lambda: trained(x)
    direction, _, count = what.partition(" x ")
    estimator = fg.WeightPerturbation(direction, int(count))
    trainer = fg.Trainer(trained, estimator=estimator, optimizer=fg.SGD(1e-12))
    return lambda: trainer.step(x, y)


def main() -> None:
    """Answer requests, one line of JSON each, until standard input ends."""
    # Revisions are compared on the CPU, even if the machine has a GPU.
    os.environ["FGNUMBA_DEVICE"] = "cpu"
    calls: dict[tuple[str, str], tuple[Callable[[], object], int]] = {}
    for line in sys.stdin:
        network, what = json.loads(line)
        try:
            if (network, what) not in calls:
                call = contender(network, what)
                # A program chooses its number of threads in its first few runs; these are more.
                for _ in range(10):
                    start = time.perf_counter()
                    call()
                    seconds = time.perf_counter() - start
                calls[network, what] = call, max(1, round(SAMPLE_SECONDS / seconds))
            call, repeats = calls[network, what]
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            print((time.perf_counter() - start) / repeats, flush=True)
        except Exception as error:
            print(json.dumps(f"{type(error).__name__}: {error}"), flush=True)


if __name__ == "__main__":
    main()
