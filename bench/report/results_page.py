"""The results page and the tables of the page of benchmarks, made from the measured data.

Every number in them is computed from ``results/data``; none is written by hand.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from fgnumba.bench.report import results_fair_map, results_learning
from fgnumba.bench.report.suite import remarks, tables

Data = dict[str, Any]

FOLDER = Path(__file__).resolve().parents[1] / "results"
DATA = FOLDER / "data"
BENCHMARKS = FOLDER.parent.parent / "docs" / "project" / "benchmarks.md"
LEARNING = "<!-- learned: python -m fgnumba.bench.results -->", "<!-- end of learned -->"
MAP = "<!-- mapped: python -m fgnumba.bench.results -->", "<!-- end of mapped -->"
BEGIN, END = "<!-- measured: python -m fgnumba.bench.results -->", "<!-- end of measured -->"

BENCHES = {"bench-one": "One core", "bench-all": "All cores"}
RUNS, SECONDS = 3, 4
"""Number of runs from which the table of ratios is made, and the seconds of each case in a run."""

SHORT = {
    "bench-one": f"taskset -c 0 fgtrain bench --quick --seconds {SECONDS}",
    "bench-all": f"fgtrain bench --quick --seconds {SECONDS}",
}
"""The command that repeats each run."""


def load(name: str) -> Data | None:
    """Return a result's data, or None if it has not been measured.

    Parameters
    ----------
    name : str
        Name of the result.
    """
    path = DATA / f"{name}.json" if name in BENCHES else DATA / name / "data.json"
    try:
        found: Data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def repeated(name: str) -> list[Data]:
    """Return the reports of several short runs, made one after another, each in a process of its own.

    Parameters
    ----------
    name : str
        Name of the runs.
    """
    reports = []
    for path in sorted(DATA.glob(f"{name}.[0-9]*.json")):
        report: Data = json.loads(path.read_text(encoding="utf-8"))
        reports.append(report)
    return reports


Cell = Callable[[Sequence[Data]], str]


def _row(report: Data, network: str) -> Data:
    """Return the row of a network with one rank-1 direction."""
    wanted = (network, "rank1", 1, 64)
    found: Data = next(
        row
        for row in report["ratios"]
        if (row["name"], row["direction"], row["directions"], row["batch"]) == wanted
    )
    return found


def _range(values: Sequence[float], low: float, high: float) -> str:
    return f"{median(values):.2f} [{low:.2f}, {high:.2f}]"


def _ratio(key: str, network: str) -> Cell:
    """Return a function that makes a cell: the median over the runs, and an interval that contains all of theirs."""

    def cell(reports: Sequence[Data]) -> str:
        rows = [_row(report, network) for report in reports]
        bounds = [row[f"{key}_interval"] for row in rows]
        return _range([row[key] for row in rows], min(b[0] for b in bounds), max(b[1] for b in bounds))

    return cell


def _value(key: str, network: str) -> Cell:
    def cell(reports: Sequence[Data]) -> str:
        values = [_row(report, network)[key] for report in reports]
        return _range(values, min(values), max(values))

    return cell


def _against(network: str, peer: str, key: str) -> Cell:
    def cell(reports: Sequence[Data]) -> str:
        wanted = (network, peer, "rank1")
        values = [
            row[key]
            for report in reports
            for row in report["peers"]
            if (row["name"], row["peer"], row["direction"]) == wanted
        ]
        return _range(values, min(values), max(values)) if values else "-"

    return cell


def _drawing(network: str) -> Cell:
    def cell(reports: Sequence[Data]) -> str:
        shares = [_row(report, network)["drawing_share"] for report in reports]
        return f"{max(0.0, median(shares)):.1%}, at most {max(0.0, *shares):.1%}"

    return cell


def _memory(network: str) -> Cell:
    def cell(reports: Sequence[Data]) -> str:
        row = _row(reports[0], network)
        forward, backward = (
            row[key] - row["parameter_bytes"] for key in ("peak_bytes", "reverse_step_peak_bytes")
        )
        return f"{forward / 1e6:.1f} / {backward / 1e6:.1f}"

    return cell


NETWORKS = {"logreg": ("1.00", "2.00"), "mlp": ("1.57", "2.57"), "cnn": ("1.99", "2.99")}
"""Each network with the Rf and the Rb that its number of multiply-adds alone would give."""

LINES: tuple[tuple[str, Cell], ...] = (
    *((f"Rf, `{name}` (products: {ideal})", _ratio("rf", name)) for name, (ideal, _) in NETWORKS.items()),
    *((f"Rb, `{name}` (products: {ideal})", _ratio("rb", name)) for name, (_, ideal) in NETWORKS.items()),
    *((f"Rf/Rb, `{name}`", _ratio("rf_over_rb", name)) for name in NETWORKS),
    *(
        (f"forward step over reverse step, `{name}`", _ratio("step_over_reverse_step", name))
        for name in NETWORKS
    ),
    *(
        (
            f"forward step over {peer}'s reverse-mode step, `{name}`",
            _against(name, peer, "our_step_over_its_reverse_step"),
        )
        for name in NETWORKS
        for peer in ("JAX", "PyTorch")
    ),
    *(
        (
            f"our reverse-mode step over {peer}'s, `{name}`",
            _against(name, peer, "our_reverse_step_over_its_reverse_step"),
        )
        for name in NETWORKS
        for peer in ("JAX", "PyTorch")
    ),
    *((f"drawing's share of a step, `{name}`", _drawing(name)) for name in NETWORKS),
    *(
        (f"forward pass over its floor, `{name}`", _value("forward_over_floor", name))
        for name in ("mlp", "cnn")
    ),
    *(
        (f"reverse mode over its floor, `{name}`", _value("reverse_over_floor", name))
        for name in ("mlp", "cnn")
    ),
    *((f"MB beside parameters, forward / reverse step, `{name}`", _memory(name)) for name in NETWORKS),
)


def ratios_table() -> str:
    """Return the table of ratios for the page of benchmarks, of those results that have been measured, in Markdown."""
    present = {name: reports for name in BENCHES if (reports := repeated(name))}
    heads = [f"{BENCHES[name].lower()}, `{SHORT[name]}`" for name in present]
    lines = [f"| one rank-1 direction, batch 64 | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    lines += [f"| {label} | {' | '.join(map(cell, present.values()))} |" for label, cell in LINES]
    return "\n".join(lines)


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _training_remark(data: Data) -> str:
    rank1, gaussian = data["ratios"]["rank1"], data["ratios"]["gaussian"]
    overheads = "whatever the paper's ratio has beyond that is overhead of a framework and a device."
    if data["paper"]["rb"] < gaussian["rb_ideal"]:
        overheads = (
            "the paper's ratios are below those of the products, because its f took longer than its products."
        )
    sentences = [
        f"With a rank-1 direction, Rf is {rank1['rf']:.2f}; the paper's is {data['paper']['rf']:.2f}. The matrix "
        f"products alone would give {rank1['rf_ideal']:.2f}, and the draw of the direction costs nothing measurable. "
        f"With the paper's Gaussian directions, Rf is {gaussian['rf']:.2f} ({gaussian['rf_ideal']:.2f} by products). "
        f"Rb is {rank1['rb']:.2f}; the paper's is {data['paper']['rb']:.2f} ({rank1['rb_ideal']:.2f} by products): "
        + overheads
    ]
    for row in data["times"]:
        if row["direction"] != "rank1":
            continue
        rate, shared, own = row["learning_rate"], row["shared"]["tf_over_tb"], row["own"]["tf_over_tb"]
        paper = data["paper_tf_over_tb"][f"{rate:g}"]
        beside = "" if paper is None else f" (the paper: {paper})"
        curve = data["curves"][f"forward, rank1, rate {rate:g}"]
        if curve["ended"]:
            sentences.append(
                f"With the learning rate {rate:g}, forward gradients diverge here{beside}. Our initial weights are "
                "He's; the paper does not say which it used. Smaller ones tolerate this rate, but descend more slowly."
            )
            continue
        if shared is not None:
            end = data["curves"][f"reverse mode, rate {rate:g}"]["losses"][-1]
            sentences.append(
                f"With the learning rate {rate:g} for both, Tf/Tb is {shared:.2f}{beside}; forward gradients end at a "
                f"loss of {curve['losses'][-1]:.3f}, reverse mode at {end:.3f}. With so small a rate, a step of either "
                "lowers the loss by about as much, and a step of forward gradients is shorter."
            )
        if own is None:
            sentences.append(
                f"Reverse mode with a learning rate of its own, {data['own_rate']:g}, reaches losses that forward "
                "gradients along one direction do not reach in these steps."
            )
        else:
            sentences.append(
                f"Compared with reverse mode at a learning rate of its own, {data['own_rate']:g}, Tf/Tb is {own:.0f}: "
                "the variance of one direction in so many dimensions requires the small rate; reverse mode does not."
            )
    if data["name"] == "cnn":
        sentences.append("The paper gives no number of steps for this network; the number is ours.")
    return " ".join(sentences)


def _depth_remark(data: Data) -> str:
    rows = data["rows"]
    ratios = [row["rf_over_rb"] for row in rows]
    gaussian = [row["rf_over_rb_gaussian"] for row in rows]
    buffers = ", ".join(
        f"{label} from {rows[0][key] / 1e6:.1f} to {rows[-1][key] / 1e6:.1f} MB"
        for label, key in (
            ("of the forward pass", "forward_bytes"),
            ("of reverse mode", "reverse_bytes"),
            ("of reverse mode with checkpoints", "checkpointed_bytes"),
        )
    )
    return (
        f"Rf/Rb lies between {min(ratios):.2f} and {max(ratios):.2f} over all depths, and with Gaussian directions "
        f"between {min(gaussian):.2f} and {max(gaussian):.2f}. The paper's rises from under 0.6 to a little over 0.8. "
        "The matrix products alone would give 2/3 for many layers. From ten layers on, the parameters fit into no "
        "cache; reverse mode reads them twice and writes a gradient of the same size. The buffers, without parameters "
        f"and gradient, grow with the depth: {buffers}."
    )


def _memory_remark(data: Data) -> str:
    first, last = data["rows"][0], data["rows"][-1]
    rises = ", ".join(
        f"{label} from {first[key] / 1e6:.0f} to {last[key] / 1e6:.0f} MB"
        for label, key in (
            ("a forward gradient's", "forward"),
            ("reverse mode's", "reverse"),
            ("reverse mode's with checkpoints", "checkpointed"),
        )
    )
    return (
        f"From {first['layers']} to {last['layers']} layers, the memory that a step needs beside the model rises: "
        f"{rises}. Whole processes are measured, so that Python's objects for each layer are included. The paper gives "
        "no measurements of memory."
    )


EXPERIMENTS: dict[str, tuple[str, Callable[[Data], str]]] = {
    "figure1": (
        "Figure 1: forward gradients of Beale's function",
        lambda data: (
            "The gradient agrees with the paper's, and the mean of many forward gradients tends to it."
        ),
    ),
    "beale": (
        "Figure 2: Beale",
        lambda data: (
            "With every seed, forward gradients end where exact ones do, and where the paper's runs do."
        ),
    ),
    "rosenbrock": (
        "Figure 2: Rosenbrock",
        lambda data: (
            "With every seed, forward gradients end where exact ones do, and where the paper's runs do."
        ),
    ),
    "logreg": ("Logistic regression", _training_remark),
    "mlp": ("Perceptron", _training_remark),
    "cnn": ("Convolutional network", _training_remark),
    "depth": ("Depth", _depth_remark),
    "memory": ("Memory by depth", _memory_remark),
    "local-losses": (
        "Local losses",
        lambda data: (
            'The column "paper" is the MNIST row of arXiv 2210.03310, whose network and schedule differ. Here each '
            "estimator has an optimiser and a learning rate that suit it, and all take the same number of steps."
        ),
    ),
    "fair-map": ("Equal time and equal memory", results_fair_map.remark),
}
"""Heading of each experiment, and a function that returns its sentences, in the page's order."""


def page() -> str:
    """Return the results page of those results that have been measured, in Markdown."""
    blocks = [
        "# Results",
        "`python -m fgnumba.bench.results --data-dir DIR` makes this page from the files in `data/`, where DIR is the "
        "folder of MNIST's IDX files. f is the loss of a batch. Rf is the time of a forward gradient, including the "
        "draw of its direction, divided by the time of f. Rb is the time of a reverse-mode gradient on the same "
        "kernels, divided by the time of f. All ratios are medians over interleaved rounds, with 95 % intervals from "
        "the bootstrap. `ideal` is the ratio that the numbers of multiply-adds alone would give. `/floor` is the time "
        "divided by the shortest time that the measured peak rates of multiply-adds and memory allow.",
    ]
    for name, title in BENCHES.items():
        report = load(name)
        if report is not None:
            blocks.append(f"## {title}")
            blocks += remarks(report)
            for heading, heads, rows in tables(report):
                blocks += [f"### {heading}", markdown(heads, rows)]
    blocks += [
        "## The paper's experiments",
        "Our numbers are shown beside those of [arXiv 2202.08587](https://arxiv.org/abs/2202.08587).",
    ]
    for name, (heading, remark) in EXPERIMENTS.items():
        data = load(name)
        if data is None:
            continue
        blocks += [f"### {heading}", f"`fgtrain reproduce {name}`: {data['title']}"]
        if "machine" in data:
            blocks.append(f"On {data['machine']['processor']}, {data['machine']['threads']} threads.")
        blocks += [
            markdown(("", "here", "paper"), data["comparisons"]),
            f"![{heading}](data/{name}/figure.svg)",
            remark(data),
        ]
    learning = "Each estimator uses the optimiser and the learning rate that a search found for it, on MNIST, batch 64."
    blocks += ["## Learning", learning]
    for name, comparison in results_learning.COMPARISONS.items():
        data = load(name)
        if data is None:
            continue
        blocks += [
            f"### {comparison.heading}",
            f"`{results_learning.command(name)}`",
            f"On {data['machine']['processor']}, {data['machine']['threads']} threads.",
            markdown(*results_learning.table(data)),
            f"![{comparison.heading}](data/{name}/figure.svg)",
        ]
    return "\n\n".join(blocks) + "\n"


def learning_table() -> str:
    """Return the table of learning for the page of benchmarks, in Markdown."""
    data = load("estimators-mlp")
    return "" if data is None else markdown(*results_learning.table(data))


def fair_map() -> str:
    """Return who wins the map of equal time and memory, with its figure, for the page of benchmarks, in Markdown."""
    data = load("fair-map")
    if data is None:
        return ""
    figure = "![Who wins at equal time and memory](../../bench/results/data/fair-map/figure.svg)"
    machine = f"On {data['machine']['processor']}, {data['machine']['threads']} threads."
    return f"{results_fair_map.outcome(data)}\n\n{figure}\n\n`fgtrain reproduce fair-map`. {machine}"


def with_table(text: str, table: str, begin: str = BEGIN, end: str = END) -> str:
    """Return a page's text with a table between its marks.

    Parameters
    ----------
    text : str
        The text.
    table : str
        The table, which replaces everything between the marks.
    begin : str
        The mark before the table. Default: that of the table of ratios.
    end : str
        The mark after the table.
    """
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{table}\n\n{end}{after}"
