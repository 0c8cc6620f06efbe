"""The ratios Rf and Rb, and the times from which they follow, measured for one case at a time with interleaved calls.

    Rf = time of a forward gradient / time of f        including the draw of v
    Rb = time of a reverse-mode gradient / time of f

f is the loss of a batch. The pass of a forward gradient computes the loss and ∇f·v; the estimate g itself is never
stored, and a step draws v again where it uses it. Therefore whole steps are measured as well as passes. Each ratio is
reported with::

    ideal       multiply-adds of the pass over those of f
    floor       max(multiply-adds / peak, bytes / bandwidth) of the pass over that of f. The peak and the bandwidth are
                measured; the peak is that of the instruction that multiplies in the precision, divided by the number
                of its products. Bytes count only if parameters and buffers do not fit into the last-level cache.

and with the ratio of the pass's time to its floor.
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
from fgnumba.kernels.devices.device import CPU, Cpu
from fgnumba.kernels.emit import pointer
from fgnumba.kernels.emit.precision import FLOAT32
from fgnumba.kernels.emit.vector import PANEL
from fgnumba.kernels.machine.compile import kernel
from fgnumba.kernels.machine.program import Operation, cpu_operations
from fgnumba.model.directions import BY_NAME
from fgnumba.model.graph import Graph
from fgnumba.model.plan import Plan

# The learning rate is so small that parameters do not change, and large enough that no product is subnormal.
RATE = 1e-12


@dataclass(frozen=True)
class Case:
    """A case of the measurement.

    Parameters
    ----------
    network : str
        Name of the network, as ``bench.measure.networks.network`` takes it.
    direction : str
        Distribution of the directions, as ``fg.WeightPerturbation`` takes it. Default: ``"rank1"``.
    directions : int
        Number of directions T. Default: 1.
    batch : int
        Batch size. Default: 64.
    device : Cpu
        The processor, with the precision of products. Default: the precision is chosen.
    """

    network: str
    direction: str = "rank1"
    directions: int = 1
    batch: int = 64
    device: Cpu = CPU

    def __str__(self) -> str:
        return f"{self.network}, {self.directions} x {self.direction}, batch {self.batch}"


@dataclass(frozen=True)
class Work:
    """The work of a pass.

    Parameters
    ----------
    multiply_adds : int
        Number of multiply-adds of its matrix products, with convolutions counted as direct ones.
    executed : float
        Number of multiply-adds that run: fewer where a convolution uses Winograd's minimal filtering.
    traffic : int
        Smallest number of bytes that are read from and written to memory, if only a layer's own tile were cached.
    peak_bytes : int
        Size of parameters, gradients, buffers and scratch memory in bytes.
    """

    multiply_adds: int
    executed: float
    traffic: int
    peak_bytes: int

    def floor(self, products: float, bandwidth: float) -> float:
        """Return the shortest possible time in seconds.

        Parameters
        ----------
        products : float
            Seconds that the products take at the processor's peak.
        bandwidth : float
            Bytes per second of the memory.
        """
        traffic = self.traffic if self.peak_bytes > last_level_cache() else 0
        return max(products, traffic / bandwidth)


def measure(
    case: Case,
    bandwidth: float,
    seconds: float = 8.0,
    rounds: int = 21,
    after_round: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure a case, and return its measurements as JSON values.

    Parameters
    ----------
    case : Case
        The case.
    bandwidth : float
        Bytes per second of the memory.
    seconds : float
        No round begins later than this, but for the first few that are always taken. Default: 8.
    rounds : int
        Largest number of rounds. Default: 21.
    after_round : callable
        Called without arguments after each round. Default: does nothing.
    """
    model = networks.network(case.network, case.device)
    isa = case.device.isa
    x, y = networks.data(case.batch)
    loss = fg.SoftmaxCrossEntropy()
    primal = model.plan(case.batch, loss=loss)
    dual = model.plan(case.batch, BY_NAME[case.direction].kind, case.directions, loss)
    backward = reverse.ReversePlan(model, case.batch, loss)
    checkpointed = reverse.ReversePlan(model, case.batch, loss, checkpoint=True)
    forward_steps, undrawn = (trainer(case) for _ in range(2))
    backward_steps = reverse.ReverseTrainer(networks.network(case.network, case.device), RATE)
    peak = Peak()
    peaks = {"peak": peak} | {
        f"{name} peak": Peak(isa=isa.multiplying(name))
        for name in (isa.precision, isa.tangent_precision)
        if name != FLOAT32
    }
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
            **peaks,
        },
        rounds,
        seconds,
        after_round,
    )
    rates = {name: each.multiply_adds / timings.seconds(name) for name, each in peaks.items()}
    rate = rates["peak"]
    primal_rate, tangent_rate = (
        rates.get(f"{name} peak", rate) for name in (isa.precision, isa.tangent_precision)
    )
    f = forward_work(model, primal, case.batch)
    work = {
        "f": f,
        "forward": forward_work(model, dual, case.batch),
        "reverse": reverse_work(model, backward),
    }
    step = forward_work(model, forward_steps.plan(case.batch), case.batch)
    products = {name: amount.executed / primal_rate for name, amount in work.items()}
    products["forward"] = products["f"] + (work["forward"].executed - f.executed) / tangent_rate
    floors = {name: amount.floor(products[name], bandwidth) for name, amount in work.items()}
    row = {
        "name": case.network,
        "direction": case.direction,
        "directions": case.directions,
        "batch": case.batch,
        "dtype": "float32",
        "instruction_set": isa.name,
        "precision": isa.precision,
        "tangent_precision": isa.tangent_precision,
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
        **{f"{name}_gflops": 2e-9 * did.multiply_adds / timings.seconds(name) for name, did in work.items()},
        "peak_gflops": 2e-9 * rate,
        "primal_peak_gflops": 2e-9 * primal_rate,
        "tangent_peak_gflops": 2e-9 * tangent_rate,
        **{f"{name}_traffic_bytes": amount.traffic for name, amount in work.items()},
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
    """Return a trainer for a case, with a learning rate so small that its steps do not change the parameters.

    Parameters
    ----------
    case : Case
        The case.
    """
    return fg.Trainer(
        networks.network(case.network, case.device),
        estimator=fg.WeightPerturbation(case.direction, case.directions),
        optimizer=fg.SGD(RATE),
    )


def _interval(name: str, interval: Interval) -> dict[str, Any]:
    return {name: interval.value, f"{name}_interval": [interval.low, interval.high]}


def _drawing(timings: Timings) -> dict[str, Any]:
    """Return the share of a step that drawing takes: the time that filling in ones in its place saves."""
    without = timings.interval("step without drawing", "forward step")
    return {
        "drawing_share": 1 - without.value,
        "drawing_share_interval": [1 - without.high, 1 - without.low],
    }


def _fill_in(plan: Estimate, gaussian: bool) -> None:
    """Replace all drawing in a plan by filling in ones."""
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
    """Return the work of a primal or dual pass, or of a step if the plan ends with an update.

    The traffic is the parameters and the input once, and for an update the parameters twice more.

    Parameters
    ----------
    model : Graph
        The network.
    plan : Plan or Estimate
        The operations.
    batch : int
        Number of examples.
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

    The traffic is the parameters twice, the gradient once (in a step, the parameters twice more instead), the input
    twice, and what is kept of the forward pass, which is written and read.

    Parameters
    ----------
    model : Graph
        The network.
    plan : ReversePlan
        The operations.
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


def cases(quick: bool = False, device: Cpu = CPU) -> list[Case]:
    """Return the default cases: 1, 4 and 16 directions of each distribution, then one rank-1 direction by batch size.

    Parameters
    ----------
    quick : bool
        Whether to return only one rank-1 direction at batch size 64 for each network. Default: False.
    device : Cpu
        The processor, with the precision of products. Default: the precision is chosen.
    """
    if quick:
        return [Case(name, device=device) for name in networks.NETWORKS]
    by_direction = [
        Case(name, direction, directions, device=device)
        for name in networks.NETWORKS
        for direction in BY_NAME
        for directions in (1, 4, 16)
    ]
    return by_direction + [
        Case(name, batch=batch, device=device) for name in networks.NETWORKS for batch in (1, 8, 256, 1024)
    ]
