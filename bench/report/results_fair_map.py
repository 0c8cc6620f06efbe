"""The sentences of the results page on the fair map: who wins where, and why, from the measured data."""

import math
from collections.abc import Sequence
from statistics import median
from typing import Any

from fgnumba.bench.experiments import equal_budgets
from fgnumba.bench.experiments.equal_budgets import CHECKPOINTED, REVERSE_MODE
from fgnumba.bench.experiments.fair_map import ALIKE, ONE_DIRECTION, SAME_MEMORY, Verdict, verdict

Data = dict[str, Any]


def outcome(data: Data) -> str:
    """Return the paragraph that says who wins where.

    Parameters
    ----------
    data : dict
        The experiment's ``data.json``.
    """
    rows: list[Data] = data["rows"]
    free, limited = ([verdict(row, with_limit) for row in rows] for with_limit in (False, True))
    sentences = [
        _counts(free, "At equal time"),
        _counts(limited, "Within the memory of weight perturbation"),
        _wins(rows, free, "at equal time"),
        _wins(rows, limited, "within that memory"),
    ]
    return " ".join(filter(None, sentences))


def remark(data: Data) -> str:
    """Return the paragraphs on the map: who wins, how it was measured, and why.

    Parameters
    ----------
    data : dict
        The experiment's ``data.json``.
    """
    rows: list[Data] = data["rows"]
    return "\n\n".join(
        [
            outcome(data),
            _method(data),
            _why_weights(rows),
            _why_activities(rows),
            _checkpoints(rows, data["focus"]),
        ]
    )


def _counts(verdicts: Sequence[Verdict], where: str) -> str:
    count = {
        kind: sum(one.winner == kind for one in verdicts) for kind in ("forward", "reverse", "tie", "neither")
    }
    rest = f", {count['neither']} are learned by neither" if count["neither"] else ""
    return (
        f"{where}, forward gradients lose in {count['reverse']} of {len(verdicts)} networks, win in "
        f"{count['forward']}, and {count['tie']} are ties{rest}."
    )


def _wins(rows: Sequence[Data], verdicts: Sequence[Verdict], where: str) -> str:
    """Return where a forward side wins, network by network; nothing if it wins nowhere."""
    won = [
        f"{row['parameters']:,} parameters in {_layers(row['depth'])} by `{one.forward}`"
        + (" alone" if one.ratio is None else f", whose loss is {one.ratio:.2f} of reverse mode's")
        for row, one in zip(rows, verdicts, strict=True)
        if one.winner == "forward"
    ]
    return f"They win {where} for {'; '.join(won)}." if won else ""


def _layers(depth: int) -> str:
    return "one layer" if depth == 1 else f"{depth} layers"


def _method(data: Data) -> str:
    rates = equal_budgets.COARSE
    seeds = len(next(iter(data["rows"][0]["runs"].values()))["losses"])
    return (
        f"Each way to train has the time of {data['budget']} steps of reverse mode, plain gradient descent, and "
        f"equally many trials ({rates} rates and two beside the best) judged by the loss of training data that are "
        f"held out. A winner is lower in the median of {seeds} seeds on the test data; it is a tie where the ranges "
        f"overlap or the medians differ by less than {ALIKE - 1:.0%}. Memory is what a step needs beside the "
        "parameters: buffers, scratch memory, feedback matrices and heads; it counts as equal up to "
        f"{SAME_MEMORY - 1:.0%}. The number in a cell is the loss of the losing side over that of the winner; beside "
        "`alone` it is the least that reverse mode needs, over the limit. The time of a step is the shortest of many "
        "short samples, because other work only makes a step longer; that of many directions may still be too long. "
        "Batches in parts, which would make activations smaller on both sides, were not tried."
    )


def _why_weights(rows: Sequence[Data]) -> str:
    """Return why weight perturbation is where it is: its step is short, its variance is P / T."""
    one = [row["runs"][ONE_DIRECTION]["over_reverse"] for row in rows]
    some = equal_budgets.DIRECTIONS[1]
    many = [row["runs"][equal_budgets.weights(some)]["over_reverse"] for row in rows]
    gaps = [_middle(row["runs"][ONE_DIRECTION]) / _middle(row["runs"][REVERSE_MODE]) for row in rows]
    finite = [gap for gap in gaps if math.isfinite(gap)]
    return (
        f"Weight perturbation along one direction takes {min(one):.2f} to {max(one):.2f} of reverse mode's time a step "
        "(products: 2 of 3 for a hidden layer, 1 of 2 for the first), but the variance of its estimate is (P − 1)/T "
        "times ‖∇f‖², which shortens a stable step to about T/(P + T + 1) of one along the gradient. Its loss is "
        f"{min(finite):.2f} to {max(finite):.2f} times that of reverse mode. More directions divide the variance by T "
        f"and multiply the products by (1 + T)/2: {some} of them take {min(many):.1f} to {max(many):.1f} times reverse "
        "mode's time. They keep 1 + T numbers for each activation, so that they are no way out."
    )


def _why_activities(rows: Sequence[Data]) -> str:
    """Return why estimators from activities are where they are: little variance, much memory."""
    single = [row for row in rows if row["depth"] == 1]
    deepest = max(rows, key=lambda row: (row["depth"], row["parameters"]))
    ratio = deepest["runs"]["feedback"]["nbytes"] / deepest["runs"][REVERSE_MODE]["nbytes"]
    times = [row["runs"]["activity"]["over_reverse"] for row in single]
    short = (
        f" With one layer these estimators are exact, since the last layer's errors are known in closed form, and "
        f"their step takes {min(times):.2f} to {max(times):.2f} of reverse mode's time."
        if times
        else ""
    )
    over = [row["runs"]["feedback"]["over_reverse"] for row in rows]
    return (
        "Noise on activities has a variance of the order of units over batch instead of P, and learned feedback less "
        "still; so these estimators learn at any P. Their products are 2 + T for reverse mode's 3, but in narrow "
        "layers what a matrix of feedback takes to learn is more than they are: a step of `feedback` takes "
        f"{min(over):.2f} to {max(over):.2f} of reverse mode's time. They keep activations and noise: `feedback` "
        f"needs {ratio:.1f} times reverse mode's bytes for {deepest['parameters']:,} parameters in "
        f"{deepest['depth']} layers. They are no way to save memory.{short}"
    )


def _checkpoints(rows: Sequence[Data], focus: Data) -> str:
    """Return what checkpoints cost, and down to which memory reverse mode goes."""
    points = {point["name"]: point for point in focus["points"]}
    checkpointed = [point for name, point in points.items() if name.startswith(CHECKPOINTED)]
    whole, one = points[REVERSE_MODE], points[ONE_DIRECTION]
    least = min(checkpointed, key=lambda point: point["nbytes"])
    half = [point for point in checkpointed if point["over_reverse"] <= 1.5]
    cheap = min(half or checkpointed, key=lambda point: point["nbytes"])
    missing = [row for row in rows if _least(row) > row["limit"]]
    fits = (
        "In every network of the map a plan of reverse mode fits into the memory of weight perturbation."
        if not missing
        else "Reverse mode does not fit into the memory of weight perturbation for "
        + "; for ".join(
            f"{row['parameters']:,} parameters in {_layers(row['depth'])}, where it needs "
            f"{SAME_MEMORY * _least(row) / row['limit']:.2f} times as much and reaches "
            f"{_middle(row['runs'][REVERSE_MODE]) / _middle(row['runs'][ONE_DIRECTION]):.2f} times the loss"
            for row in missing
        )
        + "."
    )
    return (
        f"In {focus['depth']} layers of {focus['parameters']:,} parameters, reverse mode needs "
        f"{_kilobytes(whole)}; with checkpoints {_kilobytes(cheap)} at {cheap['over_reverse']:.2f} times its time, and "
        f"at the least {_kilobytes(least)} at {least['over_reverse']:.2f} times; weight perturbation along one "
        f"direction needs {_kilobytes(one)}. {fits} This agrees with what arXiv 2506.21833 says of large models: "
        "forward gradients that save memory pay for it with variance, and checkpoints save about as much for a few "
        "more products. What is left for weight perturbation is what reverse mode cannot do: a step that is one "
        "forward pass, functions that have no reverse pass, and runs that are replayed from one number a step."
    )


def _kilobytes(point: Data) -> str:
    return f"{point['nbytes'] / 1e3:,.0f} kB"


def _least(row: Data) -> int:
    """Return the least bytes of reverse mode in a cell."""
    return min(row["runs"][name]["nbytes"] for name in (REVERSE_MODE, CHECKPOINTED) if name in row["runs"])


def _middle(run: Data) -> float:
    return median(math.inf if loss is None else loss for loss in run["losses"])
