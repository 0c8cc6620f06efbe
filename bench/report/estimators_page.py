"""The page of estimators: formula, cost, bias, searched settings and learning of each.

Formulas are those of the table in ``fgnumba/estimators/README.md``, statements and defaults those of ``RECIPES``,
searches those of ``results/search``, and learning that of ``results/data/estimators-all``. Nothing is written by hand.
"""

import json
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import fgnumba
from fgnumba.bench.learning.compare_estimators import REVERSE_MODE, recipe_of
from fgnumba.bench.report.results_learning import command
from fgnumba.bench.report.results_page import FOLDER, load, markdown
from fgnumba.colours import GRID, REVERSE, style
from fgnumba.estimators import RECIPES
from fgnumba.runs.figures import blank, leave
from fgnumba.training.defaults import default_learning_rate, defaults

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = dict[str, Any]

PAGE = FOLDER / "ESTIMATORS.md"
FIGURE = FOLDER.parent / "figures" / "estimators.svg"
MODEL, WIDTHS = "mlp", (784, 1024, 1024, 10)
PARAMETERS = sum((inputs + 1) * outputs for inputs, outputs in pairwise(WIDTHS))
MOMENTS = (2.0, 5.0, 15.0)
"""Seconds of steps after which the page gives accuracies."""
_COLUMNS = 5


class Formula(NamedTuple):
    """What the table of estimators says of one.

    Parameters
    ----------
    estimate, cost, mean, source : str
        g; the products of a hidden layer; E[g] and the variance; where the estimator is from.
    """

    estimate: str
    cost: str
    mean: str
    source: str


def formulas() -> dict[str, Formula]:
    """Return the rows of the table in ``fgnumba/estimators/README.md``, by the names of estimators."""
    text = (Path(fgnumba.__file__).parent / "estimators" / "README.md").read_text(encoding="utf-8")
    found = {}
    for line in text.splitlines():
        match = re.match(r"\| `([a-z-]+)` \|", line)
        if match:
            estimate, cost, mean, _, source = [cell.strip() for cell in line.strip("| ").split(" | ")][1:]
            found[match[1]] = Formula(estimate, cost, mean, source)
    return found


def page() -> str:
    """Return the page in Markdown."""
    learned = load("estimators-all") or {"curves": []}
    curves = {curve["name"]: curve for curve in learned["curves"]}
    table = formulas()
    blocks = [
        "# Estimators in figures",
        "`python -m fgnumba.bench.results` makes this page. Formulas are those of the [table of "
        "estimators](../../fgnumba/estimators/README.md), which explains the letters; statements and defaults are "
        "those of `fgnumba.estimators.RECIPES`; searches and learning curves are stored in `search/` and `data/`. The "
        f"network is {'-'.join(map(str, WIDTHS))} on MNIST, batch 64, P = {PARAMETERS:,}.",
        markdown(
            ("estimator", "g", "products", "unbiased", "Var", "optimiser", "rate"),
            [_summary(name, formula) for name, formula in table.items()],
        ),
        "`Var` is E‖g − E g‖² / ‖∇f‖² with the default number of directions, where theory has a formula.",
        "## At equal time",
        f"`{command('estimators-all')}`",
    ]
    if curves:
        where = learned["machine"]
        blocks += [
            f"On {where['processor']}, {where['threads']} threads. A thin line is reverse mode. "
            "Estimators of recurrent layers and of transformers alone are not among them.",
            f"![Test error over time, an estimator a panel](../figures/{FIGURE.name})",
        ]
    for name, formula in table.items():
        blocks += [f"## `{name}`", *_section(name, formula, curves)]
    return "\n\n".join(blocks) + "\n"


def _default(name: str) -> tuple[int | None, float | None]:
    """Return the number of directions and the learning rate of a run of the network without options."""
    chosen = recipe_of(name)
    if chosen.learning_rate is not None:
        return None, chosen.rates.get(MODEL, chosen.learning_rate)
    directions = defaults(MODEL).directions
    return directions, default_learning_rate(PARAMETERS, directions, rate=defaults(MODEL).rate)


def _variance(name: str) -> float | None:
    directions, _ = _default(name)
    takes = directions is not None and "directions" in RECIPES[name].takes
    return RECIPES[name].build(name, None, directions if takes else None).relative_variance(PARAMETERS)


def _summary(name: str, formula: Formula) -> list[str]:
    chosen, (directions, rate) = RECIPES[name], _default(name)
    variance = _variance(name)
    return [
        f"[`{name}`](#{name})",
        formula.estimate,
        formula.cost,
        "yes" if chosen.build(name, None, None).unbiased else "no",
        "" if variance is None else f"{variance:.3g}",
        chosen.optimizer,
        f"{rate:.2g}" + (f", T = {directions}" if directions else ""),
    ]


def _section(name: str, formula: Formula, curves: Mapping[str, Data]) -> list[str]:
    """Return the paragraphs and tables on an estimator."""
    chosen = RECIPES[name]
    statement = chosen.build(name, None, None).statement
    lines = [
        f"Mean, and variance where theory has a formula: {_elsewhere(formula.mean)}. Source: "
        f"{_elsewhere(formula.source)}.",
        f"What the tests hold it to: {statement}.",
        f"Defaults: {chosen.optimizer}, {_rates(name)}. Evidence: {chosen.evidence}.",
    ]
    for model in ("mlp", "cnn"):
        trials = searched(name, model)
        if trials:
            lines += [
                f"Search on `{model}`: the held-out accuracy of each rate in its longest run, %.",
                markdown(
                    ["rate", *(f"{trial['learning_rate']:.2g}" for trial in trials)],
                    [
                        ["steps", *(str(trial["steps"]) for trial in trials)],
                        ["accuracy", *(f"{100 * trial['accuracy']:.1f}" for trial in trials)],
                    ],
                ),
            ]
    if name not in curves:
        return lines
    both = [curves[one] for one in (name, REVERSE_MODE)]
    return [*lines, markdown(*_learned(both))]


def _elsewhere(text: str) -> str:
    """Return a cell of the table where what stands below the table does not."""
    return text.replace("below", "on the page of the table")


def _rates(name: str) -> str:
    chosen, (directions, rate) = RECIPES[name], _default(name)
    text = f"rate {rate:.2g}" + (f" with {directions} directions" if directions else "")
    return ", ".join([text, *(f"{value:.2g} for `{model}`" for model, value in chosen.rates.items())])


def searched(name: str, model: str) -> list[Data]:
    """Return the longest trial of each rate of a stored search, by rate; none if there was no search.

    Parameters
    ----------
    name : str
        Name of the estimator.
    model : str
        Name of the model.
    """
    path = FOLDER / "search" / f"{name}-{model}.jsonl"
    if not path.exists():
        return []
    longest: dict[float, Data] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        trial = json.loads(line)
        rate = trial.get("learning_rate")
        if rate is not None and trial["steps"] >= longest.get(rate, {"steps": 0})["steps"]:
            longest[rate] = trial
    return [longest[rate] for rate in sorted(longest)]


def _learned(curves: list[Data]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a table: what a step costs, and the accuracy after some seconds."""
    heads = ["", "ms a step", "multiply-adds a step", "MB of buffers"]
    heads += [f"accuracy after {moment:g} s, %" for moment in MOMENTS]
    rows = []
    for curve in curves:
        reached = []
        for moment in MOMENTS:
            taken = [
                accuracy
                for seconds, accuracy in zip(curve["seconds"], curve["accuracies"], strict=True)
                if seconds <= moment
            ]
            reached.append(f"{100 * taken[-1]:.1f}")
        settings = curve["settings"]
        rows.append(
            [
                f"`{curve['name']}`",
                f"{1e3 * curve['seconds'][-1] / max(1, curve['steps'][-1]):.2f}",
                f"{settings['multiply_adds']:.3g}",
                f"{settings['nbytes'] / 1e6:.1f}",
                *reached,
            ]
        )
    return heads, rows


def write_figure(warn: Callable[[str], None]) -> None:
    """Draw the learning curves of all estimators at equal time.

    Parameters
    ----------
    warn : callable
        Called with a line of text if the figure cannot be drawn.
    """
    learned = load("estimators-all")
    if learned is not None:
        FIGURE.parent.mkdir(parents=True, exist_ok=True)
        leave(FIGURE, lambda: _draw(learned["curves"]), warn)


def _draw(curves: list[Data]) -> "Figure":
    reference = next(curve for curve in curves if curve["name"] == REVERSE_MODE)
    shown = [curve for curve in curves if curve["name"] != REVERSE_MODE]
    rows = -(-len(shown) // _COLUMNS)
    figure = blank(11, 1.9 * rows)
    axes = figure.subplots(rows, _COLUMNS, sharex=True, sharey=True, squeeze=False).flat
    for axis, curve in zip(axes, shown, strict=False):
        for one, colour, width in ((reference, REVERSE, 0.7), (curve, style(curve["name"]).colour, 1.6)):
            errors = [100 * (1 - accuracy) for accuracy in one["accuracies"]]
            axis.plot(one["seconds"], errors, color=colour, linewidth=width)
        axis.set_title(curve["name"], loc="left", fontsize=8)
        axis.set_yscale("log")
        axis.grid(color=GRID, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in list(axes)[len(shown) :]:
        axis.set_visible(False)
    figure.supxlabel("seconds of steps", fontsize=9)
    figure.supylabel("test error, %", fontsize=9)
    return figure
