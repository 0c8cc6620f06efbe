"""The comparisons of estimators on the results page and the page of benchmarks, computed from the measured data."""

from statistics import mean
from typing import Any, NamedTuple

from fgnumba.bench.reverse.estimator import ReverseMode

Data = dict[str, Any]

REFERENCE = ReverseMode.name


class Comparison(NamedTuple):
    """A comparison of estimators on the results page.

    Parameters
    ----------
    heading : str
        Heading of its section.
    options : tuple of str
        Options of ``fgtrain compare``.
    """

    heading: str
    options: tuple[str, ...]


_LEARNERS = "reverse-mode,feedback,local-noise-feedback,activity-layerwise-feedback,activity-layerwise"
_FEEDBACK = "reverse-mode,local-feedback,local-noise-feedback,relayed-feedback"
_DEEP = "reverse-mode,relayed-feedback,feedback"
_ALL = (
    "reverse-mode,feedback,local-noise-feedback,fdfa,activity-layerwise-feedback,activity-feedback,activity-layerwise,activity,local,"
    "weight-perturbation,orthogonal,projected,control-variate,spsa,coordinates,hybrid"
)

COMPARISONS = {
    "estimators-mlp": Comparison(
        "Perceptron, equal steps",
        (
            "--model",
            "mlp",
            "--estimators",
            _LEARNERS,
            "--steps",
            "8000",
            "--seeds",
            "3",
            "--evaluations",
            "40",
            "--target",
            "0.97",
        ),
    ),
    "estimators-early": Comparison(
        "Perceptron, a short run",
        (
            *("--model", "mlp", "--estimators", _FEEDBACK, "--steps", "800", "--seeds", "3"),
            *("--evaluations", "16", "--target", "0.97"),
        ),
    ),
    "estimators-deep-6": Comparison(
        "Six hidden layers of 256 units",
        (
            *("--model", "mlp", "--widths", ",".join(6 * ["256"]), "--estimators", _DEEP, "--steps", "2000"),
            *("--seeds", "2", "--evaluations", "5"),
        ),
    ),
    "estimators-deep-12": Comparison(
        "Twelve hidden layers of 256 units",
        (
            *("--model", "mlp", "--widths", ",".join(12 * ["256"]), "--estimators", _DEEP, "--steps", "2000"),
            *("--learning-rate", "0.0018", "--seeds", "2", "--evaluations", "5"),
        ),
    ),
    "estimators-cnn": Comparison(
        "Convolutional network, equal steps",
        (
            *(
                "--model",
                "cnn",
                "--estimators",
                "reverse-mode,local-noise-feedback,feedback",
                "--steps",
                "3000",
            ),
            *("--evaluations", "30", "--target", "0.97"),
        ),
    ),
    "estimators-all": Comparison(
        "Perceptron, equal time",
        ("--model", "mlp", "--estimators", _ALL, "--seconds", "15", "--evaluations", "15", "--target", "0.9"),
    ),
}
"""Comparisons by the names of their folders, in the page's order."""


def command(name: str) -> str:
    """Return the command that repeats a comparison.

    Parameters
    ----------
    name : str
        Name of the comparison.
    """
    return " ".join(("fgtrain compare --data mnist --data-dir DIR", *COMPARISONS[name].options))


def table(data: Data) -> tuple[list[str], list[list[str]]]:
    """Return the heads and rows of a comparison's table: means over the seeds, and times over reverse mode's.

    Parameters
    ----------
    data : dict
        The measured data of the comparison.
    """
    target = data["target"]
    heads = ["estimator", "rate", "steps", "seconds", "ms a step", "MB of buffers", "test accuracy, %"]
    if target is not None:
        heads += [f"steps to {100 * target:g} %", "seconds to it", "over reverse mode's"]
    groups: dict[str, list[Data]] = {}
    for curve in data["curves"]:
        groups.setdefault(curve["name"], []).append(curve)
    reference = _first(groups.get(REFERENCE, []), target, "seconds")
    return heads, [_row(name, curves, target, reference) for name, curves in groups.items()]


def _first(curves: list[Data], target: float | None, what: str) -> float | None:
    """Return the mean of what curves had used up when they first reached the target; None where one never did."""
    if target is None or not curves:
        return None
    amounts = [
        next(
            (used for used, accuracy in zip(c[what], c["accuracies"], strict=True) if accuracy >= target),
            None,
        )
        for c in curves
    ]
    reached = [value for value in amounts if value is not None]
    return mean(reached) if len(reached) == len(amounts) else None


def _row(name: str, curves: list[Data], target: float | None, reference: float | None) -> list[str]:
    seconds, steps = mean(c["seconds"][-1] for c in curves), mean(c["steps"][-1] for c in curves)
    accuracies = [100 * c["accuracies"][-1] for c in curves]
    shown = f"{mean(accuracies):.2f}"
    if len(curves) > 1:
        shown += f" ({min(accuracies):.2f} to {max(accuracies):.2f})"
    if any(c["ended"] for c in curves):
        shown = "diverged"
    row = [
        f"`{name}`",
        f"{curves[0]['settings']['learning_rate']:.2g}",
        f"{steps:.0f}",
        f"{seconds:.1f}",
        f"{1e3 * seconds / max(1, steps):.2f}",
        f"{curves[0]['settings']['nbytes'] / 1e6:.1f}",
        shown,
    ]
    if target is not None:
        first, time = _first(curves, target, "steps"), _first(curves, target, "seconds")
        row += (
            ["never", "", ""]
            if first is None or time is None
            else [f"{first:.0f}", f"{time:.2f}", _over(time, reference)]
        )
    return row


def _over(time: float, reference: float | None) -> str:
    return "" if reference is None else f"{time / reference:.2f}"
