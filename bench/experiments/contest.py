"""Several training runs in turn ("a contest"): the same batches and number of steps for all, a block of steps of each.

Other work on the machine thus slows all runs alike. Between blocks the runs are evaluated and their state is written to
disk. An interrupted contest continues from its last block, and its losses are those of an uninterrupted one.
"""

import json
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import networks
from fgnumba.bench.measure.files import write
from fgnumba.bench.measure.result import Request
from fgnumba.datasets import Dataset
from fgnumba.errors import DivergenceError
from fgnumba.training.evaluation import evaluate

BATCH = 64
STATE = "state"
REVERSE = "reverse"


@dataclass(frozen=True)
class Entry:
    """A way to train that takes part in a contest.

    Parameters
    ----------
    label : str
        Name in tables and figures.
    direction : str
        Distribution of the direction of a forward gradient, or `REVERSE`.
    learning_rate : float
        Learning rate of the first step.
    decay : float
        Decay k: step i uses the learning rate ``learning_rate`` exp(-k i). Default: 1e-4.
    """

    label: str
    direction: str
    learning_rate: float
    decay: float = 1e-4


@dataclass
class Curve:
    """The course of a run.

    Parameters
    ----------
    steps : list of int
        Number of steps before each evaluation.
    seconds : list of float
        Time that these steps took, without the evaluations.
    losses : list of float
        Test loss in each evaluation.
    accuracies : list of float
        Test accuracy in each evaluation.
    ended : str or None
        Why the run ended early, or None if it did not.
    """

    steps: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    ended: str | None = None

    def seconds_to(self, loss: float) -> float | None:
        """Return the seconds after which the loss was first as low as a value, or None if it never was.

        Parameters
        ----------
        loss : float
            The value. The time between two evaluations is interpolated.
        """
        for i, value in enumerate(self.losses):
            if value <= loss:
                if i == 0:
                    return self.seconds[0]
                share = (self.losses[i - 1] - loss) / (self.losses[i - 1] - value)
                return self.seconds[i - 1] + share * (self.seconds[i] - self.seconds[i - 1])
        return None


class _Run:
    def __init__(self, network: str, entry: Entry, seed: int) -> None:
        self.entry, self.curve = entry, Curve()
        self.model = networks.network(network)
        self.trainer: Any
        if entry.direction == REVERSE:
            self.trainer = reverse.ReverseTrainer(
                self.model, entry.learning_rate, decay=entry.decay, seed=seed
            )
        else:
            self.trainer = fg.Trainer(
                self.model,
                estimator=fg.WeightPerturbation(entry.direction),
                optimizer=fg.SGD(entry.learning_rate, decay=entry.decay),
                seed=seed,
            )
        self.seconds = 0.0

    def block(self, dataset: Dataset, seed: int, steps: int) -> None:
        """Take `steps` steps, or fewer if the loss is not finite."""
        batches = dataset.batches(BATCH, seed, first=self.trainer.steps_done)
        x, y = np.empty(0), np.empty(0)
        for _ in range(steps):
            x, y = next(batches)
            start = time.perf_counter()
            try:
                self.trainer.step(x, y)
            except DivergenceError as error:
                self.curve.ended = str(error)
                return
            self.seconds += time.perf_counter() - start

    def evaluate(self, dataset: Dataset) -> None:
        evaluation = evaluate(self.model, dataset.x_test, dataset.y_test)
        if not np.isfinite(evaluation.loss):
            self.curve.ended = self.curve.ended or "the test loss is not finite"
            return
        curve = self.curve
        curve.steps.append(self.trainer.steps_done)
        curve.seconds.append(self.seconds)
        curve.losses.append(evaluation.loss)
        curve.accuracies.append(evaluation.accuracy)


def run(
    network: str,
    entries: list[Entry],
    dataset: Dataset,
    steps: int,
    evaluations: int,
    request: Request,
    name: str = "main",
) -> dict[str, Curve]:
    """Train all entries, and return their curves by label.

    A finished contest keeps its state on disk until :func:`forget` removes it.

    Parameters
    ----------
    network : str
        Name of the network.
    entries : list of Entry
        The ways to train.
    dataset : Dataset
        The data set.
    steps : int
        Number of steps of each.
    evaluations : int
        Number of evaluations of each.
    request : Request
        The seed, the folder for the state, and the function that is told of the progress.
    name : str
        Name of the contest's folder in the state. Default: ``"main"``.
    """
    runs = [_Run(network, entry, request.seed) for entry in entries]
    every = max(1, steps // evaluations)
    key = {
        "network": network,
        "entries": [vars(entry) for entry in entries],
        "data": dataset.name,
        "examples": len(dataset.x_train),
        "steps": steps,
        "every": every,
        "seed": request.seed,
    }
    path = None if request.folder is None else request.folder / STATE / name
    done = _resume(runs, key, path)
    if done == 0:
        for entrant in runs:
            # Kernels are compiled before any step is timed.
            entrant.trainer.plan(BATCH)
            entrant.evaluate(dataset)
    while done < steps:
        block = min(every, steps - done)
        request.advance(f"{network}: step {done} of {steps}")
        for entrant in runs:
            if entrant.curve.ended is None:
                entrant.block(dataset, request.seed, block)
                entrant.evaluate(dataset)
        done += block
        _save(runs, key, done, path)
    return {entrant.entry.label: entrant.curve for entrant in runs}


def _save(runs: list[_Run], key: dict[str, Any], done: int, path: Path | None) -> None:
    """Write the parameters under new names, then the state that refers to them, and then remove the old parameters."""
    if path is None:
        return
    from safetensors.numpy import save

    path.mkdir(parents=True, exist_ok=True)
    names = [f"{index}-{done}.safetensors" for index in range(len(runs))]
    for entrant, name in zip(runs, names, strict=True):
        write(path / name, save(entrant.model.parameters()))
    rows = [
        {
            "file": name,
            "steps_done": entrant.trainer.steps_done,
            "seconds": entrant.seconds,
            "curve": vars(entrant.curve),
        }
        for entrant, name in zip(runs, names, strict=True)
    ]
    write(path / "contest.json", json.dumps({"key": key, "done": done, "runs": rows}))
    for old in path.glob("*.safetensors"):
        if old.name not in names:
            old.unlink()


def _resume(runs: list[_Run], key: dict[str, Any], path: Path | None) -> int:
    """Restore the runs of an interrupted contest with the same settings, and return the number of its steps."""
    if path is None:
        return 0
    try:
        state = json.loads((path / "contest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    if state.get("key") != json.loads(json.dumps(key)):
        return 0
    from safetensors.numpy import load_file

    for entrant, row in zip(runs, state["runs"], strict=True):
        entrant.model.load_parameters(load_file(path / row["file"]))
        entrant.trainer.steps_done, entrant.seconds = row["steps_done"], row["seconds"]
        entrant.curve = Curve(**row["curve"])
    return int(state["done"])


def forget(folder: Path | None) -> None:
    """Remove the state of finished contests.

    Parameters
    ----------
    folder : Path or None
        The experiment's folder; None: there is no state.
    """
    if folder is not None:
        shutil.rmtree(folder / STATE, ignore_errors=True)
