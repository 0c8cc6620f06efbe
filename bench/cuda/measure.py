"""Measurement of one network and batch size on a GPU: passes, training steps, the host's work, and other frameworks.

Each call is launched many times and waited for once, and timed by the host's clock. All are measured in the same
rounds.

    f, dual       loss of a batch; loss and ∇f·v of one rank-1 direction. Captured graphs, the batch in GPU memory
    step          dual pass and update as one captured graph, the batch in GPU memory, like the other frameworks' steps
    fit           a step of ``Trainer.fit``: settings, the batch gathered from the data, loss and derivative kept
    CPU           the host's work in such a step: its time without that in which it waits for the GPU
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import fgnumba as fg
from fgnumba.bench.cuda import peers
from fgnumba.bench.cuda.card import Rates
from fgnumba.bench.measure import networks
from fgnumba.bench.measure.peer_networks import WIDTHS, Network
from fgnumba.bench.measure.timing import SAMPLE_SECONDS, Timings, interleaved
from fgnumba.datasets.dataset import Dataset
from fgnumba.errors import ConfigError
from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.kernels.rules.directions import RANK1
from fgnumba.model.plan import Plan
from fgnumba.training.device_loop import CHUNK

# The learning rate is so small that parameters do not change, and large enough that no product is subnormal.
RATE = 1e-12

MOST_AT_ONCE = 1000
"""Largest number of runs that are launched before one is waited for: a driver's queue holds about this many."""

BF16 = "bf16"


@dataclass(frozen=True)
class Effort:
    """The extent of a measurement.

    Parameters
    ----------
    rounds : int
        Largest number of rounds for passes and steps.
    seconds : float
        No round begins later than this, but for the first few that are always taken.
    steps : int
        Largest number of measured steps of ``Trainer.fit``, which come after some that are not measured.
    examples : int
        Number of examples in the data, about that of MNIST.
    """

    rounds: int = 21
    seconds: float = 20.0
    steps: int = 1024
    examples: int = 61440


@dataclass(frozen=True)
class Subject:
    """A network: the function that makes it for a device, and its description for the other frameworks."""

    make: Callable[..., fg.Graph]
    peer: Network


SUBJECTS: dict[str, Subject] = {
    "mlp": Subject(networks.mlp, WIDTHS["mlp"]),
    "wide": Subject(networks.wide, (784, networks.WIDE, networks.WIDE, 10)),
    "cnn": Subject(networks.cnn, "cnn"),
}


@dataclass
class Asked:
    """A call that launches work `times` times and then waits for it."""

    ask: Callable[[], object]
    wait: Callable[[], object]
    times: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        # The first run compiles and loads the kernels, and the second one is captured as a graph.
        for _ in range(2):
            self()
        # The second time counts, because most of a single run's time is spent on waiting.
        for _ in range(2):
            start = time.perf_counter()
            self()
            each = (time.perf_counter() - start) / self.times
            self.times = min(MOST_AT_ONCE, max(1, round(SAMPLE_SECONDS / each)))

    def __call__(self) -> None:
        for _ in range(self.times):
            self.ask()
        self.wait()


def timed(contenders: Mapping[str, Asked], effort: Effort) -> Timings:
    """Return the time of a single run of each contender, measured in turn.

    Parameters
    ----------
    contenders : mapping
        The calls by their names.
    effort : Effort
        The extent of the measurement.
    """
    timings = interleaved(contenders, effort.rounds, effort.seconds)
    return Timings({name: [s / contenders[name].times for s in timings.samples[name]] for name in contenders})


class Passes:
    """The loss f, the dual pass and the training step of a network in one precision.

    Parameters
    ----------
    subject : Subject
        The network.
    device : Gpu
        The GPU with its precision.
    batch : int
        Number of examples.

    Attributes
    ----------
    multiply_adds : int
        Number of multiply-adds of the dual pass.
    """

    def __init__(self, subject: Subject, device: Gpu, batch: int) -> None:
        self._device, self._batch = device, batch
        self.model = subject.make(device=device)
        self._data = data(self.model, batch)
        self._loss = fg.SoftmaxCrossEntropy()
        self.multiply_adds = 0

    def f(self) -> Asked:
        """Return the call that computes the loss."""
        return self._of(self.model.plan(self._batch, loss=self._loss))

    def dual(self) -> Asked:
        """Return the call that computes the loss and the derivative along one rank-1 direction."""
        plan = self.model.plan(self._batch, RANK1, 1, self._loss)
        self.multiply_adds = sum(row.dual for row in plan.rows)
        return self._of(plan)

    def _of(self, plan: Plan) -> Asked:
        plan.set_input(*self._data)
        return Asked(self._device.program(plan.operations).run, self._device.driver.synchronize)

    def trainer(self) -> fg.Trainer:
        """Return a trainer with a learning rate so small that its steps do not change the parameters."""
        return fg.Trainer(self.model, estimator=fg.WeightPerturbation("rank1"), optimizer=fg.SGD(RATE))

    def step(self) -> Asked:
        """Return the call that takes a training step."""
        trainer = self.trainer()
        # After this step, the batch and the settings are in GPU memory.
        trainer.step(*self._data)
        program = self._device.program(trainer.bind(self._batch).operations)
        return Asked(program.run, self._device.driver.synchronize)


def data(model: fg.Graph, examples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random examples and classes, the same in every call.

    Parameters
    ----------
    model : Graph
        The model that they are for.
    examples : int
        Number of examples.
    """
    rng = np.random.default_rng(0)
    return rng.random((examples, *model.input_shape), np.float32), rng.integers(0, model.outputs, examples)


@contextmanager
def waiting(driver: Driver) -> Iterator[Callable[[], float]]:
    """Measure how long the host waits for the GPU inside the ``with`` block.

    Parameters
    ----------
    driver : Driver
        The driver of the GPU.

    Yields
    ------
    callable
        Returns the seconds that the host has waited so far.
    """
    seconds = 0.0

    def watched(method: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any) -> None:
            nonlocal seconds
            start = time.perf_counter()
            try:
                method(*arguments)
            finally:
                seconds += time.perf_counter() - start

        return call

    names = ("synchronize", "wait")
    for name in names:
        setattr(driver, name, watched(getattr(driver, name)))
    try:
        yield lambda: seconds
    finally:
        for name in names:
            delattr(driver, name)


class _Watch(fg.Callback):
    """Records the time, and how much of it the host has waited, after the steps numbered `first` and `last`."""

    def __init__(self, first: int, last: int, waited: Callable[[], float]) -> None:
        self._steps, self._waited = (first, last), waited
        self.noted: list[tuple[float, float]] = []

    def on_step(self, step: int, result: fg.StepResult) -> None:
        if step in self._steps:
            self.noted.append((time.perf_counter(), self._waited()))


def fit(
    passes: Passes, driver: Driver, batch: int, effort: Effort, step_seconds: float
) -> tuple[float, float]:
    """Return the seconds of a step of ``Trainer.fit``, and how many of them are the host's own work.

    Parameters
    ----------
    passes : Passes
        The network.
    driver : Driver
        The driver of the GPU.
    batch : int
        Number of examples in a step.
    effort : Effort
        The extent of the measurement.
    step_seconds : float
        Approximate time of a step, from which the number of steps is chosen.
    """
    x, y = data(passes.model, max(effort.examples, batch))
    dataset = Dataset("random", x, y, x[:batch], y[:batch], passes.model.outputs)
    # The results of many steps arrive together. So the time is taken at the first step of two such lots, a whole number
    # of lots apart.
    lot = min(CHUNK, len(x) // batch)
    lots = -(-min(effort.steps, max(8, round(effort.seconds / 4 / step_seconds))) // lot)
    first = 1 + lot * max(2, lots // 4)
    last = first + lot * lots
    count = last - first
    with waiting(driver) as waited:
        watch = _Watch(first, last, waited)
        passes.trainer().fit(dataset, steps=last, batch_size=batch, evaluate_every=last, callbacks=[watch])
    (start, waited_before), (end, waited_after) = watch.noted
    seconds = (end - start) / count
    return seconds, seconds - (waited_after - waited_before) / count


def measure(
    name: str, batch: int, driver: Driver, rates: Rates, effort: Effort, with_peers: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Measure a network at a batch size, and return its row and those of other frameworks as JSON values.

    Parameters
    ----------
    name : str
        Name of the network.
    batch : int
        Number of examples.
    driver : Driver
        The driver of the GPU.
    rates : Rates
        The GPU's peak rates.
    effort : Effort
        The extent of the measurement.
    with_peers : bool
        Whether to measure other frameworks too.

    Raises
    ------
    DeviceError
        There is too little GPU memory, or the GPU failed.
    """
    subject = SUBJECTS[name]
    plain = Passes(subject, Gpu(driver), batch)
    tangents = Passes(subject, Gpu(driver, tangent_precision=BF16), batch)
    all_bf16 = Passes(subject, Gpu(driver, BF16), batch)
    ours = {
        "f": plain.f(),
        "dual": plain.dual(),
        "dual bf16 tangents": tangents.dual(),
        "dual bf16": all_bf16.dual(),
        "step": plain.step(),
    }
    theirs, notes = _peers(subject, *data(plain.model, batch)) if with_peers else ({}, {})
    timings = timed(ours | theirs, effort)
    fit_seconds, cpu_seconds = fit(plain, driver, batch, effort, timings.seconds("step"))

    def share(dual: str, rate: float | None) -> float | None:
        return None if rate is None else 2 * plain.multiply_adds / timings.seconds(dual) / rate

    rf, rf_bf16 = (timings.interval(dual, "f") for dual in ("dual", "dual bf16 tangents"))
    row = {
        "network": name,
        "batch": batch,
        "parameters": plain.model.parameter_count,
        "dual_multiply_adds": plain.multiply_adds,
        **{f"{call.replace(' ', '_')}_ms": timings.seconds(call) * 1e3 for call in ours},
        "fit_ms": fit_seconds * 1e3,
        "cpu_us": cpu_seconds * 1e6,
        "rf": rf.value,
        "rf_interval": [rf.low, rf.high],
        "rf_bf16_tangents": rf_bf16.value,
        "rf_bf16_tangents_interval": [rf_bf16.low, rf_bf16.high],
        "float32_share": share("dual", rates.float32),
        "bf16_share": share("dual bf16", rates.bf16),
        "rounds": len(timings.samples["f"]),
    }
    peers = [_beside(peer, timings) for peer in theirs]
    peers += [{"peer": peer, "note": note} for peer, note in notes.items()]
    return row, [{"network": name, "batch": batch, **peer} for peer in peers]


def _peers(subject: Subject, x: np.ndarray, y: np.ndarray) -> tuple[dict[str, Asked], dict[str, str]]:
    """Return the steps of other frameworks, and for each framework without any the reason."""
    calls, notes = {}, {}
    rows = x if isinstance(subject.peer, str) else x.reshape(len(x), math.prod(x.shape[1:]))
    for name in peers.NAMES:
        try:
            steps = peers.steps(name, subject.peer, rows, y)
            calls[name] = Asked(steps.ask, steps.wait)
        except ConfigError as error:
            notes[name] = str(error)
        # Each framework raises errors of its own, for too little memory or a missing compiler for instance.
        except Exception as error:
            notes[name] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
    return calls, notes


def _beside(peer: str, timings: Timings) -> dict[str, Any]:
    ratio = timings.interval("step", peer)
    return {
        "peer": peer,
        "reverse_step_ms": timings.seconds(peer) * 1e3,
        "our_step_over_its": ratio.value,
        "our_step_over_its_interval": [ratio.low, ratio.high],
    }
