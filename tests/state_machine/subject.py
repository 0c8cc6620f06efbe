"""A trainer under test and its replica, which is made from the same arguments and given the same calls."""

import copy
import io
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import joblib
import numpy as np

import fgnumba as fg
from fgnumba.training.state import snapshot
from tests.state_machine.log import DIFFER
from tests.state_machine.settings import Batch, Data, Recipe


class WrongError(AssertionError):
    """Something is not as it has to be."""


def require(condition: bool, message: str) -> None:
    """Raise WrongError unless `condition` holds."""
    if not condition:
        raise WrongError(message)


def duplicates() -> dict[str, Any]:
    """Return every way to have an object twice."""

    def by_joblib(thing: Any) -> Any:
        file = io.BytesIO()
        joblib.dump(thing, file)
        file.seek(0)
        return joblib.load(file)

    return {
        "copy": copy.copy,
        "deepcopy": copy.deepcopy,
        "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
        "old pickle": lambda thing: pickle.loads(pickle.dumps(thing, protocol=2)),
        "joblib": by_joblib,
        "nested": lambda thing: copy.deepcopy({"one": [thing]})["one"][0],
    }


WAYS = tuple(duplicates())

Bits = dict[str, bytes]


def bits(arrays: dict[str, Any]) -> Bits:
    """Return arrays as bytes: NaN are equal too, and zeros differ by sign."""
    return {name: np.asarray(array).tobytes() for name, array in arrays.items()}


def state_of(trainer: fg.Trainer) -> Bits:
    """Return all that decides the steps to come: canonical arrays, as what pads packed ones is never read."""
    facts, arrays = snapshot(trainer)
    own = {f"own.{name}": parameter.array() for name, parameter in trainer.state.parameters.items()}
    parameters = {**trainer.model.packed_parameters, **trainer.state.parameters}
    kept = {}
    for name, array in arrays.items():
        if name.startswith("state."):
            _, _, of = name.removeprefix("state.").partition(".")
            like = parameters.get(of)
            padded = like is not None and like.packed.shape == array.shape
            kept[name] = (like.array(array) if like is not None and padded else array).tobytes()
    return {
        **bits({**trainer.model.parameters(), **own}),
        # What has not been asked for yet is as if it were zeros.
        **{name: value for name, value in kept.items() if any(value)},
        "steps_done": str(facts["steps_done"]).encode(),
    }


def differences(found: Bits, expected: Bits) -> str:
    """Return which names differ, and how."""
    names = [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
    shown = []
    for name in names[:3]:
        if name == "steps_done":
            shown.append(f"{name} {found[name]!r}, not {expected[name]!r}")
            continue
        ours, theirs = (np.frombuffer(one.get(name, b""), np.float32) for one in (found, expected))
        if ours.shape == theirs.shape:
            shown.append(f"{name} by up to {np.nanmax(np.abs(ours.astype(float) - theirs)):.3g}")
        else:
            shown.append(f"{name} of {ours.size} numbers, not {theirs.size}")
    return f"{len(names)}{DIFFER}{'; '.join(shown)}"


@dataclass(frozen=True)
class Call:
    """What a trainer was given, and what came of it; None where that is not known."""

    method: str
    arguments: dict[str, Any]
    outcome: Any = None


def outcome_of(call: Any) -> Any:
    """Return what a call returns or how it diverges, as what can be compared."""
    try:
        result = call()
    except fg.DivergenceError as error:
        return f"{type(error).__name__}: {error}"
    if isinstance(result, fg.StepResult):
        return np.float64(result.loss).tobytes() + np.asarray(result.directional_derivative).tobytes()
    return None


@dataclass(eq=False)
class Subject:
    """A trainer, and what has become of it."""

    recipe: Recipe
    trainer: fg.Trainer
    calls: list[Call] = field(default_factory=list)
    replica: fg.Trainer | None = None
    replayed: int = 0

    @property
    def model(self) -> fg.Graph:
        """The trainer's model."""
        return self.trainer.model

    def twice(self, way: str) -> "Subject":
        """Return a copy of the trainer with the same past."""
        return Subject(self.recipe, duplicates()[way](self.trainer), list(self.calls))

    def past(self) -> "Callable[[fg.Trainer], Subject]":
        """Return what makes a subject of a trainer that has the past which this one has now."""
        recipe, calls = self.recipe, list(self.calls)
        return lambda trainer: Subject(recipe, trainer, list(calls))

    def given(self, batch: Batch) -> tuple[Any, Any]:
        """Return a batch in the form that it is given in."""
        network = self.recipe.network
        return batch.given(network.shape), batch.y(self.recipe.loss, network.outputs)

    def took(self, method: str, outcome: Any = None, **arguments: Any) -> None:
        """Note what the trainer was given."""
        self.calls.append(Call(method, arguments, outcome))

    def took_batches(self, data: Data, batch_size: int, first: int, count: int) -> None:
        """Note steps on the batches of a data set."""
        if count:
            self.took("batches", data=data, batch_size=batch_size, first=first, count=count)

    def expected(self) -> fg.Trainer:
        """Return the replica, which has been given the same."""
        if self.replica is None:
            self.replica, self.replayed = self.recipe.build("int"), 0
        for call in self.calls[self.replayed :]:
            self._replay(self.replica, call)
            self.replayed += 1
        return self.replica

    def _replay(self, replica: fg.Trainer, call: Call) -> None:
        network, given = self.recipe.network, call.arguments
        if call.method == "step":
            batch = given["batch"]
            x, y = batch.x(network.shape), batch.y(self.recipe.loss, network.outputs)
            found = outcome_of(lambda: replica.step(x, y.astype(np.int64) if y.ndim == 1 else y))
            require(call.outcome in (None, found), f"a step came to {call.outcome!r}, not to {found!r}")
        elif call.method == "batches":
            source = (
                given["data"].build(network).batches(given["batch_size"], self.recipe.seed, given["first"])
            )
            for _ in range(given["count"]):
                replica.step(*next(source))
        elif call.method == "load":
            replica.model.load_parameters(given["parameters"])
        elif call.method == "jump":
            replica.steps_done = given["steps"]
        elif call.method == "loss":
            replica.loss = given["made"].build("int")
        else:
            more = {name: given[name] for name in given if name != "data"}
            if more.pop("patience", None):
                more["callbacks"] = [fg.callbacks.EarlyStopping(given["patience"], restore_best=True)]
            found = outcome_of(lambda: replica.fit(given["data"].build(network), **more))
            require(call.outcome == found, f"a fit came to {call.outcome!r}, not to {found!r}")

    def check(self, when: str) -> None:
        """Compare all that decides the steps to come with the replica's."""
        found, expected = state_of(self.trainer), state_of(self.expected())
        require(found == expected, f"{when}: {differences(found, expected)} (found and expected)")

    @property
    def classifies(self) -> bool:
        """Whether it can be fitted to labels."""
        return self.recipe.loss.kind == "SoftmaxCrossEntropy"

    def go_on_elsewhere(self, batch: Batch, python: Any) -> None:
        """Take steps of a copy in a new process, and the same here."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trainer"
            path.write_bytes(pickle.dumps((self.trainer, self.given(batch))))
            script = f"from tests.state_machine.subject import go_on; go_on({str(path)!r})"
            done = python("-c", script)
            require(done.returncode == 0, f"elsewhere: {done.stderr[-500:]}")
            found = pickle.loads(path.read_bytes())
        copied = self.twice("pickle")
        for _ in range(2):
            copied.took("step", outcome_of(lambda: copied.trainer.step(*copied.given(batch))), batch=batch)
        expected = state_of(copied.trainer)
        require(found == expected, f"in another process: {differences(found, expected)}")


def go_on(path: str) -> None:
    """Take two steps of a pickled trainer, and leave its state in the file."""
    file = Path(path)
    trainer, (x, y) = pickle.loads(file.read_bytes())
    for _ in range(2):
        outcome_of(lambda: trainer.step(x, y))
    file.write_bytes(pickle.dumps(state_of(trainer)))
