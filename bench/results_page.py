"""The results page and the README's table, from the data that was measured.

Every figure in them is computed from ``results/data``; nothing is typed in.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from fgnumba.bench.suite import remarks, tables

Data = dict[str, Any]

FOLDER = Path(__file__).resolve().parent / "results"
DATA = FOLDER / "data"
README = FOLDER.parent.parent / "README.md"
BEGIN, END = "<!-- measured: python -m fgnumba.bench.results -->", "<!-- end of measured -->"

BENCHES = {"bench-one": "One core", "bench-all": "All cores"}


def load(name: str) -> Data | None:
    """Return what was measured under `name`, None where nothing was."""
    path = DATA / f"{name}.json" if name in BENCHES else DATA / name / "data.json"
    try:
        found: Data = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return found


def _row(report: Data, network: str, direction: str = "rank1", directions: int = 1, batch: int = 64) -> Data:
    wanted = (network, direction, directions, batch)
    found: Data = next(
        row
        for row in report["ratios"]
        if (row["name"], row["direction"], row["directions"], row["batch"]) == wanted
    )
    return found


def _peer(report: Data, network: str, peer: str) -> Data | None:
    return next(
        (
            row
            for row in report["peers"]
            if (row["name"], row["peer"], row["direction"]) == (network, peer, "rank1")
        ),
        None,
    )


def _interval(row: Data, name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.2f} [{low:.2f}, {high:.2f}]"


def _ratio(key: str, network: str, **case: Any) -> Callable[[Data], str]:
    return lambda report: _interval(_row(report, network, **case), key)


def _against(network: str, key: str) -> Callable[[Data], str]:
    def cell(report: Data) -> str:
        found = [_peer(report, network, peer) for peer in ("JAX", "PyTorch")]
        return " / ".join("-" if row is None else f"{row[key]:.2f}" for row in found)

    return cell


def _percent(key: str) -> Callable[[Data], str]:
    def cell(report: Data) -> str:
        shares = [max(0.0, _row(report, network)[key]) for network in ("logreg", "mlp", "cnn")]
        return " / ".join(f"{share:.1%}" for share in shares)

    return cell


def _over_floor(key: str) -> Callable[[Data], str]:
    return lambda report: " / ".join(f"{_row(report, name)[key]:.2f}" for name in ("mlp", "cnn"))


def _memory(report: Data) -> str:
    rows = [_row(report, network) for network in ("mlp", "cnn")]
    return " / ".join(
        f"{(row['peak_bytes'] - row['parameter_bytes']) / 1e6:.1f}, "
        f"{(row['reverse_step_peak_bytes'] - row['parameter_bytes']) / 1e6:.1f}"
        for row in rows
    )


LINES: tuple[tuple[str, Callable[[Data], str]], ...] = (
    ("Rf of `logreg`, 784-10 (products: 1.00)", _ratio("rf", "logreg")),
    ("Rf of `mlp`, 784-1024-1024-10 (products: 1.57)", _ratio("rf", "mlp")),
    ("Rf of `cnn`, the paper's (products: 1.99)", _ratio("rf", "cnn")),
    ("Rb of `logreg` (products: 2.00)", _ratio("rb", "logreg")),
    ("Rb of `mlp` (products: 2.57)", _ratio("rb", "mlp")),
    ("Rb of `cnn` (products: 2.99)", _ratio("rb", "cnn")),
    ("Rf/Rb of `logreg`", _ratio("rf_over_rb", "logreg")),
    ("Rf/Rb of `mlp`", _ratio("rf_over_rb", "mlp")),
    ("Rf/Rb of `cnn`", _ratio("rf_over_rb", "cnn")),
    ("Rf/Rb of `mlp`, one Gaussian direction", _ratio("rf_over_rb", "mlp", direction="gaussian")),
    ("forward step over reverse step, `mlp`", _ratio("step_over_reverse_step", "mlp")),
    ("forward step over reverse step, `cnn`", _ratio("step_over_reverse_step", "cnn")),
    (
        "our step over a peer's reverse-mode step, JAX / PyTorch: `logreg`",
        _against("logreg", "our_step_over_its_reverse_step"),
    ),
    ("the same, `mlp`", _against("mlp", "our_step_over_its_reverse_step")),
    ("the same, `cnn`", _against("cnn", "our_step_over_its_reverse_step")),
    ("our reverse-mode step over theirs, `mlp`", _against("mlp", "our_reverse_step_over_its_reverse_step")),
    ("our reverse-mode step over theirs, `cnn`", _against("cnn", "our_reverse_step_over_its_reverse_step")),
    ("drawing's share of a rank-1 step: `logreg` / `mlp` / `cnn`", _percent("drawing_share")),
    ("forward pass over its floor: `mlp` / `cnn`", _over_floor("forward_over_floor")),
    ("reverse mode over its floor: `mlp` / `cnn`", _over_floor("reverse_over_floor")),
    ("MB beside parameters, forward step, reverse step: `mlp` / `cnn`", _memory),
)


def readme_table() -> str:
    """Return the README's table, of what there is."""
    reports = {name: load(name) for name in BENCHES}
    present = {name: report for name, report in reports.items() if report is not None}
    heads = [BENCHES[name].lower() for name in present]
    lines = [f"| rank-1 directions, batch 64 | {' | '.join(heads)} |", f"| --- |{' --- |' * len(heads)}"]
    lines += [
        f"| {label} | {' | '.join(cell(report) for report in present.values())} |" for label, cell in LINES
    ]
    return "\n".join(lines)


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", f"|{' --- |' * len(heads)}"]
    return "\n".join(lines + [f"| {' | '.join(row)} |" for row in rows])


def _training_remark(data: Data) -> str:
    rank1, gaussian = data["ratios"]["rank1"], data["ratios"]["gaussian"]
    sentences = [
        f"A rank-1 direction makes Rf {rank1['rf']:.2f} where the paper has {data['paper']['rf']:.2f}: it costs "
        f"{rank1['rf_ideal']:.2f} in products, and drawing it nothing that shows. "
        f"With the paper's Gaussian directions Rf is {gaussian['rf']:.2f} ({gaussian['rf_ideal']:.2f} in products). "
        f"Rb is {rank1['rb']:.2f}, the paper's {data['paper']['rb']:.2f} ({rank1['rb_ideal']:.2f} in products): "
        "what the paper measured beyond products were overheads, of its framework and of its GPU."
    ]
    for row in data["times"]:
        if row["direction"] != "rank1":
            continue
        rate, shared, own = row["learning_rate"], row["shared"]["tf_over_tb"], row["own"]["tf_over_tb"]
        paper = data["paper_tf_over_tb"][f"{rate:g}"]
        if shared is None:
            sentences.append(f"At the rate {rate:g} that both share, one of the two does not get there.")
        else:
            sentences.append(
                f"At the rate {rate:g} that both share, Tf/Tb is {shared:.2f} (the paper: {paper}): "
                "so small a rate makes both descend alike step by step, and the ratio is that of the steps' times."
            )
        if own is not None and own > 1:
            sentences.append(
                f"Against reverse mode with a rate of its own, {data['own_rate']:g}, forward gradients take "
                f"{own:.0f} times as long to the loss that they reach: one direction in so many dimensions bears "
                "no larger rate. The shared rate is what makes the paper's comparison look even."
            )
        elif own is None:
            sentences.append(
                f"Reverse mode with a rate of its own, {data['own_rate']:g}, reaches losses that forward gradients "
                "along one direction never do in these steps."
            )
    if data["name"] == "cnn":
        sentences.append("The paper's text gives no number of steps for this network; these are ours.")
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
        f"Rf/Rb lies between {min(ratios):.2f} and {max(ratios):.2f} at every depth, with Gaussian directions between "
        f"{min(gaussian):.2f} and {max(gaussian):.2f}; the paper's rises from under 0.6 to a little over 0.8. "
        "By products it would be 2/3 for many layers. From ten layers on the parameters fit no cache, and reverse mode "
        f"reads them twice and writes a gradient as large. Buffers beside parameters and gradient grow: {buffers}."
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
        f"From {first['layers']} to {last['layers']} layers, what a step needs beside the model rises: {rises}. "
        "Whole processes are measured, Python's own objects for each layer among what grows; the paper gives no "
        "figures of memory."
    )


EXPERIMENTS: dict[str, tuple[str, Callable[[Data], str]]] = {
    "figure1": (
        "Figure 1: forward gradients of Beale's function",
        lambda data: "The gradient is the paper's, and the mean of many forward gradients is the gradient.",
    ),
    "beale": (
        "Figure 2: Beale",
        lambda data: "Forward gradients end where exact ones do, every seed, and where the paper's runs do.",
    ),
    "rosenbrock": (
        "Figure 2: Rosenbrock",
        lambda data: "Forward gradients end where exact ones do, every seed, and where the paper's runs do.",
    ),
    "logreg": ("Logistic regression", _training_remark),
    "mlp": ("Perceptron", _training_remark),
    "cnn": ("Convolutional network", _training_remark),
    "depth": ("Depth", _depth_remark),
    "memory": ("Memory by depth", _memory_remark),
}
"""Headings and sentences of the experiments, in the page's order."""


def page() -> str:
    """Return the results page, of what there is, in Markdown."""
    blocks = [
        "# Results",
        "Made by `python -m fgnumba.bench.results --data-dir DIR`, DIR holding MNIST's IDX files, from what is in "
        "`data/`. Ratios are medians of interleaved rounds with 95 % intervals by bootstrap. Rf and Rb are the times "
        "of a forward gradient, its direction drawn, and of a reverse-mode gradient on the same kernels, over the time "
        "of f; `ideal` is what their multiply-adds alone would give, `/floor` how many times the time is of what the "
        "measured peaks of multiply-adds and memory allow.",
    ]
    for name, title in BENCHES.items():
        report = load(name)
        if report is not None:
            blocks.append(f"## {title}")
            blocks += remarks(report)
            for heading, heads, rows in tables(report):
                blocks += [f"### {heading}", _markdown(heads, rows)]
    blocks += [
        "## The paper's experiments",
        "Beside the figures of [arXiv 2202.08587](https://arxiv.org/abs/2202.08587).",
    ]
    for name, (heading, remark) in EXPERIMENTS.items():
        data = load(name)
        if data is None:
            continue
        blocks += [f"### {heading}", f"`fgtrain reproduce {name}`: {data['title']}"]
        if "machine" in data:
            blocks.append(f"On {data['machine']['processor']}, {data['machine']['threads']} threads.")
        blocks += [
            _markdown(("", "here", "paper"), data["comparisons"]),
            f"![{heading}](data/{name}/figure.svg)",
            remark(data),
        ]
    return "\n\n".join(blocks) + "\n"


def with_table(readme: str, table: str) -> str:
    """Return the README's text with `table` between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{table}\n\n{END}{after}"
