"""Rf, Rb and what they are made of: one case at a time, all contenders interleaved.

    Rf = time of a forward gradient / time of f        drawing v included
    Rb = time of a reverse-mode gradient / time of f

f is the loss of a batch. A forward gradient's pass leaves loss and ∇f·v; g itself is never stored, and v is drawn again
where a step uses it: so whole steps are measured beside the passes. Beside each ratio stand

    ideal       multiply-adds of the pass over those of f
    floor       max(multiply-adds / peak, bytes / bandwidth) of the pass over that of f; the peak and the bandwidth are
                measured, and bytes count where parameters and buffers do not fit into the last-level cache

and how far above its floor the pass is.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray

import fgnumba as fg
from fgnumba.bench import reverse
from fgnumba.bench.measure import networks
from fgnumba.bench.measure.machine import Peak, Watch, last_level_cache, quiet
from fgnumba.bench.measure.timing import Interval, Timings, interleaved
from fgnumba.estimators import Estimate
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation, cpu_operations
from fgnumba.model.directions import BY_NAME
from fgnumba.model.graph import Graph
from fgnumba.model.plan import Plan

# So short a step that parameters stay what they are, and long enough that nothing is a subnormal number.
RATE = 1e-12


@dataclass(frozen=True)
class Case:
    """What is measured.

    Parameters
    ----------
    network : of ``bench.measure.networks``.
    direction, directions : as ``fg.WeightPerturbation`` takes them.
    """

    network: str
    direction: str = "rank1"
    directions: int = 1
    batch: int = 64

    def __str__(self) -> str:
        return f"{self.network}, {self.directions} x {self.direction}, batch {self.batch}"


@dataclass(frozen=True)
class Work:
    """What a pass does.

    Parameters
    ----------
    multiply_adds : of its products; executed : of those, what runs where convolutions are filtered.
    traffic : bytes to and from memory at least, were nothing but a layer's own tile in a cache.
    peak_bytes : parameters, gradients, buffers and scratch memory.
    """

    multiply_adds: int
    executed: float
    traffic: int
    peak_bytes: int

    def floor(self, peak: float, bandwidth: float) -> float:
        """Return seconds at `peak` multiply-adds and `bandwidth` bytes a second."""
        traffic = self.traffic if self.peak_bytes > last_level_cache() else 0
        return max(self.executed / peak, traffic / bandwidth)


def measure(
    case: Case,
    bandwidth: float,
    seconds: float = 8.0,
    rounds: int = 21,
    after_round: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure a case, and return its row as JSON values.

    Parameters
    ----------
    bandwidth : of the memory, bytes a second.
    seconds, rounds : no more than that, but for the least number of rounds.
    """
    model = networks.network(case.network)
    x, y = networks.data(case.batch)
    loss = fg.SoftmaxCrossEntropy()
    primal = model.plan(case.batch, loss=loss)
    dual = model.plan(case.batch, BY_NAME[case.direction].kind, case.directions, loss)
    backward = reverse.ReversePlan(model, case.batch, loss)
    checkpointed = reverse.ReversePlan(model, case.batch, loss, checkpoint=True)
    forward_steps, undrawn = (trainer(case) for _ in range(2))
    backward_steps = reverse.ReverseTrainer(networks.network(case.network), RATE)
    peak = Peak()
    _fill_in(undrawn.plan(case.batch), case.direction == "gaussian")
    watch = Watch()
    timings = interleaved(
        {
            "f": lambda: primal.run(x, y),
            "forward": lambda: dual.run(x, y),
            "reverse": lambda: backward.run(x, y),
            "checkpointed": lambda: checkpointed.run(x, y),
            "forward step": lambda: forward_steps.step(x, y),
            "step without drawing": lambda: undrawn.step(x, y),
            "reverse step": lambda: backward_steps.step(x, y),
            "peak": peak,
        },
        rounds,
        seconds,
        after_round,
    )
    rate = peak.multiply_adds / timings.seconds("peak")
    f = forward_work(model, primal, case.batch)
    work = {
        "f": f,
        "forward": forward_work(model, dual, case.batch),
        "reverse": reverse_work(model, backward),
    }
    step = forward_work(model, forward_steps.plan(case.batch), case.batch)
    floors = {name: one.floor(rate, bandwidth) for name, one in work.items()}
    row = {
        "name": case.network,
        "direction": case.direction,
        "directions": case.directions,
        "batch": case.batch,
        "dtype": "float32",
        **_interval("rf", timings.interval("forward", "f")),
        **_interval("rb", timings.interval("reverse", "f")),
        **_interval("rf_over_rb", timings.interval("forward", "reverse")),
        **_interval("step_over_reverse_step", timings.interval("forward step", "reverse step")),
        "rf_ideal": work["forward"].multiply_adds / f.multiply_adds,
        "rb_ideal": work["reverse"].multiply_adds / f.multiply_adds,
        "rf_floor": floors["forward"] / floors["f"],
        "rb_floor": floors["reverse"] / floors["f"],
        "checkpointed_over_f": timings.ratio("checkpointed", "f"),
        **{f"{name}_over_floor": timings.seconds(name) / floor for name, floor in floors.items()},
        "f_ms": timings.seconds("f") * 1e3,
        "forward_ms": timings.seconds("forward") * 1e3,
        "reverse_ms": timings.seconds("reverse") * 1e3,
        "step_ms": timings.seconds("forward step") * 1e3,
        "reverse_step_ms": timings.seconds("reverse step") * 1e3,
        **{f"{name}_gflops": 2e-9 * one.multiply_adds / timings.seconds(name) for name, one in work.items()},
        "peak_gflops": 2e-9 * rate,
        **{f"{name}_traffic_bytes": one.traffic for name, one in work.items()},
        **_drawing(timings),
        "parameter_bytes": _parameter_bytes(model),
        "inference_peak_bytes": f.peak_bytes,
        "peak_bytes": step.peak_bytes,
        "reverse_peak_bytes": work["reverse"].peak_bytes,
        "reverse_step_peak_bytes": _parameter_bytes(model) + backward_steps.plan(case.batch).nbytes,
        "checkpointed_peak_bytes": reverse_work(model, checkpointed).peak_bytes,
        "rounds": len(timings.samples["f"]),
        "disturbed": quiet(watch.foreign_share(), timings.spread("peak")),
    }
    return row


def trainer(case: Case) -> fg.Trainer:
    """Return a trainer whose steps are a case's, and move nothing."""
    return fg.Trainer(
        networks.network(case.network),
        estimator=fg.WeightPerturbation(case.direction, case.directions),
        optimizer=fg.SGD(RATE),
    )


def _interval(name: str, interval: Interval) -> dict[str, Any]:
    return {name: interval.value, f"{name}_interval": [interval.low, interval.high]}


def _drawing(timings: Timings) -> dict[str, Any]:
    """Return the share of a step that drawing takes: what it is shorter by where ones are filled in instead."""
    without = timings.interval("step without drawing", "forward step")
    return {
        "drawing_share": 1 - without.value,
        "drawing_share_interval": [1 - without.high, 1 - without.low],
    }


def _fill_in(plan: Estimate, gaussian: bool) -> None:
    """Let everything in a plan that would draw fill in ones."""
    entries = {
        "draw": kernel("fill-entries", _fill_entries, 9)
        if gaussian
        else kernel("fill-signs", _fill_signs, 9),
        "draw_vector": kernel("fill-vector", _fill_vector, 10),
    }
    for operation in cpu_operations(plan.operations):
        for name, entry in entries.items():
            if name in (operation.arguments.dtype.names or ()) and operation.arguments[name][0]:
                operation.arguments[name] = entry


def _fill_signs(
    k: int, length: int, panel: int, purpose: int, c2: int, step: int, k0: int, k1: int, out: int
) -> None:
    words = carray(pointer(out, np.uint32), length)
    for row in range(length):
        words[row] = np.uint32(0)


def _fill_entries(
    k: int, length: int, panel: int, purpose: int, c2: int, step: int, k0: int, k1: int, out: int
) -> None:
    entries = carray(pointer(out, np.float32), length * PANEL)
    for i in range(length * PANEL):
        entries[i] = np.float32(1)


def _fill_vector(
    draw: int, gaussian: int, n: int, purpose: int, c2: int, step: int, k0: int, k1: int, work: int, out: int
) -> None:
    entries = carray(pointer(out, np.float32), n)
    for i in range(n):
        entries[i] = np.float32(1)


def _parameter_bytes(model: Graph) -> int:
    return sum(parameter.packed.nbytes for parameter in model.packed_parameters.values())


def _executed(operations: "tuple[Operation, ...]") -> float:
    return sum(op.multiply_adds * op.executed for op in operations)


def forward_work(model: Graph, plan: Plan | Estimate, batch: int) -> Work:
    """Return the work of a primal or dual pass, or of a step where the plan ends with its update.

    Traffic: the parameters and the input once, and for an update the parameters twice more.
    """
    parameters = _parameter_bytes(model)
    updates = any(op.name == "descent" for op in plan.operations)
    inputs = 4 * batch * math.prod(model.input_shape)
    return Work(
        sum(op.multiply_adds for op in plan.operations),
        _executed(cpu_operations(plan.operations)),
        parameters * (3 if updates else 1) + inputs,
        parameters + plan.nbytes,
    )


def reverse_work(model: Graph, plan: reverse.ReversePlan) -> Work:
    """Return the work of a reverse-mode gradient, or of a step.

    Traffic: the parameters twice, the gradient once (an update: the parameters twice more), the input twice, and
    what is kept of the forward pass written and read.
    """
    parameters = _parameter_bytes(model)
    kept = sum(
        4 * plan.batch * math.prod(model.shapes[node.name])
        for node in model.nodes
        if not node.layer.is_view(training=False)
    )
    inputs = 4 * plan.batch * math.prod(model.input_shape)
    gradients = sum(array.nbytes for array in plan.gradients.values())
    return Work(
        plan.multiply_adds,
        _executed(cpu_operations(plan.operations)),
        2 * parameters + (gradients or 2 * parameters) + 2 * inputs + 2 * kept,
        parameters + gradients + plan.nbytes,
    )


def cases(quick: bool = False) -> list[Case]:
    """Return what is measured by default: each direction with 1, 4 and 16 of it, then one direction by batch size."""
    if quick:
        return [Case(name) for name in networks.NETWORKS]
    found = [
        Case(name, direction, directions)
        for name in networks.NETWORKS
        for direction in BY_NAME
        for directions in (1, 4, 16)
    ]
    return found + [Case(name, batch=batch) for name in networks.NETWORKS for batch in (1, 8, 256, 1024)]
