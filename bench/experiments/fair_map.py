"""Forward gradients against reverse mode with checkpoints, at equal time and equal memory, by size and depth.

K. Panchal, S. Choudhary, Y. Brun, H. Guan, arXiv 2506.21833, find that forward-mode gradients and finite differences
lose to backpropagation once that computes activations again instead of keeping them, so that it needs as little memory.
The experiment asks where, for residual perceptrons of 10 to 10⁶ parameters and 1 to 64 layers on the embedded digits.
Every way to train has the same time, that of a number of steps of reverse mode, and the same number of trials for its
learning rate (``equal_budgets``). A cell of the map says which side reaches the lower test loss, without a limit of
memory and within the bytes that a step of weight perturbation along one direction needs beside the parameters, to a
tenth.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import fgnumba as fg
from fgnumba.bench.experiments import contest, equal_budgets, fair_map_figure, residual
from fgnumba.bench.experiments.equal_budgets import BATCH, CHECKPOINTED, REVERSE_MODE, Contender
from fgnumba.bench.measure import machine
from fgnumba.bench.measure.files import write
from fgnumba.bench.measure.result import Comparison, Request, Result
from fgnumba.bench.measure.timing import shortest
from fgnumba.bench.reverse import ReversePlan
from fgnumba.datasets.split import split
from fgnumba.kernels.devices.device import Cpu

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ONE_DIRECTION = equal_budgets.weights(1)
"""The contender whose bytes are the limit of memory."""
SAME_MEMORY = 1.1
"""Bytes count as equal up to this factor: padded rows and panels alone make such differences."""
ALIKE = 1.05
"""Losses whose ratio is below this count as equal."""
KEPT = (1, 2, 3, 4, 6, 9, 14, 24, 48)
"""Numbers of outputs that checkpointed reverse mode keeps at a time, in the picture of memory against time."""


class Scale(NamedTuple):
    """How much is run.

    Parameters
    ----------
    parameters, depths : tuple of int
        The numbers of parameters and of layers, whose every combination that exists is a cell.
    budget : int
        The time of a run, in steps of reverse mode.
    seeds : int
        Number of runs with the chosen rate.
    refinements : int
        Halvings of the distance between learning rates.
    focus : int
        Number of parameters of the picture of memory against time, at the greatest depth that exists.
    """

    parameters: tuple[int, ...]
    depths: tuple[int, ...]
    budget: int
    seeds: int
    refinements: int
    focus: int


FULL = Scale((10, 100, 1000, 10_000, 100_000, 1_000_000), (1, 2, 4, 16, 64), 300, 3, 1, 100_000)
QUICK = Scale((100, 1000, 10_000), (1, 2, 16), 40, 2, 0, 10_000)


class Verdict(NamedTuple):
    """Who wins a cell.

    Parameters
    ----------
    winner : str
        ``"forward"``, ``"reverse"``; ``"tie"`` where the ranges over the seeds overlap or the medians differ by less
        than 5 %; ``"neither"`` where no loss is below that of a guess.
    forward, reverse : str or None
        The best contender of each side, by the median of its test losses; None: none has so little memory.
    ratio : float or None
        The test loss of the forward side over that of the other; None where there is only one side.
    """

    winner: str
    forward: str | None
    reverse: str | None
    ratio: float | None


def at_equal_budgets(request: Request) -> Result:
    """Measure every cell, and say who wins it.

    Parameters
    ----------
    request : Request
        The way in which the experiment is to be run. With a folder, cells are kept there until all are done.
    """
    scale = QUICK if request.quick else FULL
    networks = {
        (asked, depth): found
        for asked in scale.parameters
        for depth in scale.depths
        if (found := residual.network(asked, depth))
    }
    device = fg.device.cpu(precision="float32")
    assert isinstance(device, Cpu)
    facts = machine.facts(device)
    key = {"seed": request.seed, "scale": list(scale), "machine": facts}
    done = _resumed(request, key)
    rows: list[dict[str, Any]] = []
    for number, ((asked, depth), network) in enumerate(networks.items()):
        where = f"{network.parameters:,} parameters, depth {depth} ({number + 1} of {len(networks)})"
        request.advance(where)
        known = [row for row in done if (row["asked"], row["depth"]) == (asked, depth)]
        rows.append(known[0] if known else {"asked": asked, **_cell(network, scale, request, where, device)})
        _keep(request, key, rows)
    focus = max(
        (network for (asked, _), network in networks.items() if asked == scale.focus),
        key=lambda one: one.depth,
    )
    request.advance("memory against time")
    length = f", {scale.budget} steps of {FULL.budget}" if request.quick else ""
    title = f"{request.name}: residual perceptrons on digits, batch {BATCH}, seed {request.seed}{length}"
    data = {
        "name": request.name,
        "quick": request.quick,
        "seed": request.seed,
        "budget": scale.budget,
        "machine": facts,
        "rows": rows,
        "focus": {"parameters": focus.parameters, "depth": focus.depth, "points": _points(focus, device)},
    }
    contest.forget(request.folder)
    return Result(title, comparisons(rows), data, lambda: redrawn({"title": title, **data}))


def _cell(
    network: residual.Network, scale: Scale, request: Request, where: str, device: Cpu
) -> dict[str, Any]:
    """Measure and train all contenders on one network."""
    dataset = residual.digits(fg.datasets.load("digits"), network.side, network.classes)
    data = split(dataset, equal_budgets.HELD_OUT, request.seed)
    model = network.model(request.seed, device)
    entries = equal_budgets.contenders(network.parameters)
    limit = int(SAME_MEMORY * equal_budgets.bytes_beside(_timing(entries[0], model)))
    if equal_budgets.bytes_beside(_timing(entries[-1], model)) > limit:
        entries.append(equal_budgets.within(limit, model))
    standings = equal_budgets.timed(entries, model, dataset, scale.budget)
    seeds = range(request.seed, request.seed + scale.seeds)
    for entry in entries:
        request.advance(f"{where}: {entry.name}")
        equal_budgets.reach(
            entry,
            standings[entry.name],
            lambda seed: network.model(seed, device),
            data,
            seeds,
            scale.refinements,
        )
    runs = {name: asdict(standing) for name, standing in standings.items()}
    for run in runs.values():
        run["losses"] = [loss if math.isfinite(loss) else None for loss in run["losses"]]
    return {**asdict(network), "parameters": network.parameters, "limit": limit, "runs": runs}


def _timing(entry: Contender, model: fg.Graph) -> fg.Trainer:
    return equal_budgets.trainer_of(entry, model, equal_budgets.TIMING_RATE)


def _points(network: residual.Network, device: Cpu) -> list[dict[str, Any]]:
    """Return bytes and time of a step of every contender, and of reverse mode with any number of outputs kept."""
    dataset = residual.digits(fg.datasets.load("digits"), network.side, network.classes)
    x, y = dataset.x_train[:BATCH], dataset.y_train[:BATCH]
    model = network.model(0, device)
    inputs = model.checked_input(x)
    trainers = {entry.name: _timing(entry, model) for entry in equal_budgets.contenders(network.parameters)}
    calls = {name: equal_budgets.stepping(trainer, x, y) for name, trainer in trainers.items()}
    nbytes = {name: equal_budgets.bytes_beside(trainer) for name, trainer in trainers.items()}
    for kept in KEPT:
        plan = ReversePlan(
            model, BATCH, fg.SoftmaxCrossEntropy(), update=True, training=True, checkpoint=True, kept=kept
        )
        plan.scale[0] = -equal_budgets.TIMING_RATE
        name = f"{CHECKPOINTED}, {kept}"
        calls[name], nbytes[name] = lambda plan=plan: plan.run(inputs, y), plan.nbytes  # type: ignore[misc]
    seconds = shortest(calls, equal_budgets.clock)
    return [
        {"name": name, "nbytes": nbytes[name], "over_reverse": seconds[name] / seconds[REVERSE_MODE]}
        for name in calls
    ]


def verdict(row: Mapping[str, Any], limited: bool) -> Verdict:
    """Say who wins a cell.

    Parameters
    ----------
    row : mapping
        The cell, as the result's ``data.json`` has it.
    limited : bool
        Whether only those take part whose bytes are within the cell's limit.
    """
    losses = {
        name: [math.inf if loss is None else loss for loss in run["losses"]]
        for name, run in row["runs"].items()
        if not limited or run["nbytes"] <= row["limit"]
    }
    sides = [
        [name for name in losses if (name in (REVERSE_MODE, CHECKPOINTED)) == reverse]
        for reverse in (False, True)
    ]
    forward, backward = (min(side, key=lambda name: median(losses[name])) if side else None for side in sides)
    best = min(median(losses[name]) for name in (forward, backward) if name)
    if best > 0.99 * math.log(row["classes"]):
        return Verdict("neither", forward, backward, None)
    if forward is None or backward is None:
        return Verdict("forward" if forward else "reverse", forward, backward, None)
    mine, other = losses[forward], losses[backward]
    ratio = median(mine) / median(other) if math.isfinite(median(mine)) else None
    alike = ratio is not None and max(ratio, 1 / ratio) < ALIKE
    if alike or (max(mine) >= min(other) and max(other) >= min(mine)):
        return Verdict("tie", forward, backward, ratio)
    return Verdict("forward" if median(mine) < median(other) else "reverse", forward, backward, ratio)


def comparisons(rows: list[dict[str, Any]]) -> list[Comparison]:
    """Return a line for each cell, and one for each map."""
    found = []
    for limited, label in ((False, "equal time"), (True, "equal time and memory")):
        verdicts = [verdict(row, limited) for row in rows]
        count = {
            kind: sum(one.winner == kind for one in verdicts)
            for kind in ("reverse", "tie", "forward", "neither")
        }
        said = ", ".join(f"{kind} {number}" for kind, number in count.items() if number)
        found.append(Comparison(f"cells won at {label}", said))
        for row, one in zip(rows, verdicts, strict=True):
            at = f"{row['parameters']:,} parameters, depth {row['depth']}, {label}"
            parts = [f"{name} {_loss(row, name)}" for name in (one.reverse, one.forward) if name]
            found.append(Comparison(at, f"{'; '.join(parts)}: {one.winner}"))
    return found


def _loss(row: Mapping[str, Any], name: str) -> str:
    run = row["runs"][name]
    losses = [math.inf if loss is None else loss for loss in run["losses"]]
    accuracy = 100 * median(run["accuracies"])
    return f"{median(losses):.3f} ({accuracy:.0f} %)"


def _state(request: Request) -> Any:
    return None if request.folder is None else request.folder / contest.STATE / "cells.json"


def _resumed(request: Request, key: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cells that an interrupted run with the same settings has measured on the same machine."""
    path = _state(request)
    try:
        state = json.loads(path.read_text(encoding="utf-8")) if path else {}
    except (OSError, ValueError):
        return []
    return list(state["rows"]) if state.get("key") == json.loads(json.dumps(key)) else []


def _keep(request: Request, key: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    path = _state(request)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, json.dumps({"key": key, "rows": rows}))


def redrawn(data: dict[str, Any]) -> "Figure":
    """Return the figure of a result again.

    Parameters
    ----------
    data : dict
        The result's ``data.json``.
    """
    verdicts = [[verdict(row, limited) for row in data["rows"]] for limited in (False, True)]
    return fair_map_figure.draw(data["title"], data["rows"], verdicts, data["focus"])
