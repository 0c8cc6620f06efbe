"""Measure training on this machine's GPU: ``python -m fgnumba.bench.cuda --json FILE``.

Measured are the perceptrons 784-1024-1024-10 and 784-4096-4096-10 and the convolutional network of arXiv 2202.08587:
the loss f, the dual pass of one rank-1 direction, training steps, the host's work, the share of the GPU's peak rates,
and, in the same rounds, reverse-mode steps of JAX and PyTorch where they are installed. Reported are medians and
ratios; see ``measure``. The exit status is 0, or 1 if ``--goals`` is given and a goal is missed, or 2 if nothing could
be measured.
"""

import gc
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from fgnumba.bench.cuda import card as cuda_card
from fgnumba.bench.cuda import peers as cuda_peers
from fgnumba.bench.cuda.measure import SUBJECTS, Effort, measure
from fgnumba.bench.measure.files import write
from fgnumba.bench.measure.goals import Figure
from fgnumba.device import cuda
from fgnumba.errors import ConfigError, DeviceError, FgError, did_you_mean
from fgnumba.kernels.cuda.driver import Driver
from fgnumba.kernels.devices.gpu import Gpu
from fgnumba.validation import whole_number

Report = dict[str, Any]
Row = dict[str, Any]

BATCHES = (64, 1024, 8192)
QUICK = Effort(rounds=5, seconds=2.0, steps=256)
QUICK_NETWORKS, QUICK_BATCHES = ("mlp", "cnn"), (64,)


@dataclass(frozen=True)
class Goal:
    """A bound on a measurement.

    Parameters
    ----------
    what : str
        Description of the measurement.
    key : str
        Name of the measurement in the rows of the report.
    batch : int
        Batch size of the rows.
    network : str, optional
        Network of the rows. None (the default): all networks.
    peer : str, optional
        The other framework whose rows are meant. None (the default): our own rows.
    at_least : float, optional
        Smallest value that meets the goal. None (the default): there is no such bound.
    at_most : float, optional
        Largest value that meets the goal. None (the default): there is no such bound.
    """

    what: str
    key: str
    batch: int
    network: str | None = None
    peer: str | None = None
    at_least: float | None = None
    at_most: float | None = None

    def results(self, report: Report) -> list[Row]:
        """Return a row for each measurement that the goal is about; its `met` is None if nothing was measured.

        Parameters
        ----------
        report : dict
            The report, as :func:`run` makes it.
        """
        rows = report["peers"] if self.peer else report["rows"]
        measured = [
            (row["network"], row.get(self.key))
            for row in rows
            if row["batch"] == self.batch
            and self.network in (None, row["network"])
            and row.get("peer") == self.peer
        ]
        return [self._row(*pair) for pair in measured or [(self.network or "all", None)]]

    def _row(self, network: str, measured: float | None) -> Row:
        figure = Figure(self.what, measured, self.at_least, self.at_most)
        return {
            "goal": self.what,
            "batch": self.batch,
            "bound": figure.bound,
            "network": network,
            "measured": measured,
            "met": figure.met,
        }


GOALS = (
    Goal("our step / JAX's reverse step", "our_step_over_its", 64, peer="JAX", at_most=0.5),
    Goal(
        "our step / PyTorch's eager reverse step", "our_step_over_its", 64, peer="PyTorch eager", at_most=0.25
    ),
    Goal("CPU work a step, µs", "cpu_us", 64, at_most=30),
    Goal("dual pass, share of the float32 rate", "float32_share", 8192, "wide", at_least=0.7),
    Goal("bf16 dual pass, share of the bf16 rate", "bf16_share", 8192, "wide", at_least=0.4),
    Goal("Rf with bf16 tangents", "rf_bf16_tangents", 8192, "wide", at_most=1.3),
)
"""The goals for an H200."""


def run(
    driver: Driver,
    cases: Sequence[tuple[str, int]],
    effort: Effort,
    with_peers: bool = True,
    advance: Callable[[str], None] = lambda what: None,
) -> Report:
    """Measure some cases, and return the report. Cases that do not fit into the GPU's memory are skipped with a note.

    Parameters
    ----------
    driver : Driver
        The driver of the GPU.
    cases : sequence of tuple
        The cases, each a network's name and a batch size.
    effort : Effort
        How long to measure.
    with_peers : bool
        Whether to measure other frameworks too. Default: True.
    advance : callable
        Called with a description of what is measured next. Default: ignores it.

    Raises
    ------
    DeviceError
        No case could be measured.
    """
    facts = cuda_card.card(driver)
    rates = cuda_card.Rates(facts["float32_flops"], facts["bf16_flops"])
    report: Report = {"card": facts, "versions": cuda_card.versions(), "tf32": {}}
    report |= {"rows": [], "peers": [], "skipped": []}
    for network, batch in cases:
        advance(f"{network}, batch {batch}")
        try:
            row, peers = measure(network, batch, driver, rates, effort, with_peers)
            report["rows"].append(row)
            report["peers"] += peers
        except DeviceError as error:
            report["skipped"].append({"network": network, "batch": batch, "note": str(error)})
        gc.collect()
        if with_peers:
            cuda_peers.release()
    if cases and not report["rows"]:
        raise DeviceError(report["skipped"][0]["note"])
    if with_peers:
        report["versions"] |= cuda_peers.versions()
        report["tf32"] = cuda_peers.tf32()
    report["goals"] = [row for goal in GOALS for row in goal.results(report)]
    return report


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _interval(row: Row, name: str) -> str:
    if name not in row:
        return ""
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.3g} [{low:.3g}, {high:.3g}]"


Columns = dict[str, Callable[[Row], str]]

COLUMNS: Columns = {
    "network": lambda row: row["network"],
    "batch": lambda row: str(row["batch"]),
    "f ms": lambda row: _number(row["f_ms"]),
    "dual ms": lambda row: _number(row["dual_ms"]),
    "Rf": lambda row: _interval(row, "rf"),
    "Rf, bf16 tangents": lambda row: _interval(row, "rf_bf16_tangents"),
    "of float32 rate": lambda row: _percent(row["float32_share"]),
    "bf16 dual ms": lambda row: _number(row["dual_bf16_ms"]),
    "of bf16 rate": lambda row: _percent(row["bf16_share"]),
    "step ms": lambda row: _number(row["step_ms"]),
    "fit ms": lambda row: _number(row["fit_ms"]),
    "CPU µs": lambda row: _number(row["cpu_us"]),
}
PEER_COLUMNS: Columns = {
    "network": lambda row: row["network"],
    "batch": lambda row: str(row["batch"]),
    "peer": lambda row: row["peer"],
    "its reverse step ms": lambda row: _number(row.get("reverse_step_ms")),
    "our step/its": lambda row: _interval(row, "our_step_over_its"),
    "note": lambda row: row.get("note", ""),
}
GOAL_COLUMNS: Columns = {
    "goal": lambda row: row["goal"],
    "network": lambda row: row["network"],
    "batch": lambda row: str(row["batch"]),
    "measured": lambda row: _number(row["measured"]),
    "bound": lambda row: row["bound"],
    "": lambda row: {True: "met", False: "MISSED", None: "not measured"}[row["met"]],
}
LEFT = ("network", "peer", "note", "goal", "")


def _table(columns: Columns, rows: Sequence[Row]) -> list[str]:
    cells = [[cell(row).replace("|", "/") for cell in columns.values()] for row in rows]
    rule = ["---" if head in LEFT else "---:" for head in columns]
    return ["| " + " | ".join(line) + " |" for line in [list(columns), rule, *cells]]


def markdown(report: Report) -> str:
    """Return a report as tables in Markdown.

    Parameters
    ----------
    report : dict
        The report, as :func:`run` makes it.
    """
    card, versions = report["card"], report["versions"]
    known = ", ".join(f"{name} {version}" for name, version in versions.items() if version is not None)
    rates = [
        f"{1e-12 * card[key]:.1f} TFLOP/s {name}"
        for key, name in (("float32_flops", "float32"), ("bf16_flops", "dense bf16"))
        if card[key] is not None
    ]
    lines = [
        f"{card['name']}, compute capability {card['capability']}, {card['processors']} multiprocessors"
        + "".join(f", {rate}" for rate in rates),
        f"driver {card['driver'] or 'unknown'}, CUDA {card['cuda'] or 'unknown'}; {known}",
        "",
        *_table(COLUMNS, report["rows"]),
    ]
    lines += [
        f"\nskipped: {row['network']}, batch {row['batch']}: {row['note']}" for row in report["skipped"]
    ]
    if report["peers"]:
        lines += ["", *_table(PEER_COLUMNS, report["peers"]), ""]
        lines += [f"float32 of {name}: {what}" for name, what in report["tf32"].items()]
    lines += ["", "Goals, for an H200:", "", *_table(GOAL_COLUMNS, report["goals"])]
    return "\n".join(lines)


class _NotRunError(click.ClickException):
    exit_code = 2


def card_driver() -> Driver:
    """Return the driver of the machine's GPU; raise DeviceError if there is none."""
    device = cuda()
    assert isinstance(device, Gpu)
    return device.driver


def cases(networks: Sequence[str], batches: Sequence[int], quick: bool) -> list[tuple[str, int]]:
    """Return the cases to measure, small batches first.

    Parameters
    ----------
    networks : sequence of str
        Names of the networks. Empty: all.
    batches : sequence of int
        Batch sizes. Empty: all.
    quick : bool
        Whether "all" means only the smallest ones.
    """
    for name in networks:
        if name not in SUBJECTS:
            raise ConfigError(f"network: unknown network {name!r}{did_you_mean(name, SUBJECTS)}")
    for batch in batches:
        whole_number("batch", batch)
    names = networks or (QUICK_NETWORKS if quick else tuple(SUBJECTS))
    sizes = batches or (QUICK_BATCHES if quick else BATCHES)
    return [(name, batch) for batch in sorted(set(sizes)) for name in dict.fromkeys(names)]


@click.command()
@click.option(
    "--json",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the report to this file as JSON.",
)
@click.option("--quick", is_flag=True, help="Measure only the smallest sizes, in few rounds.")
@click.option(
    "--network",
    "networks",
    multiple=True,
    metavar="NAME",
    help="Network to measure: mlp, wide or cnn. May be given more than once.  [default: all three]",
)
@click.option(
    "--batch",
    "batches",
    multiple=True,
    type=int,
    metavar="N",
    help="Batch size to measure. May be given more than once.  [default: 64, 1024, 8192]",
)
@click.option(
    "--peers/--no-peers",
    default=True,
    help="Measure JAX and PyTorch too, where they are installed.  [default: --peers]",
)
@click.option(
    "--goals",
    is_flag=True,
    help="Exit with status 1 if a measurement misses its goal.  [default: exit with 0]",
)
@click.pass_context
def command(
    context: click.Context,
    file: Path | None,
    quick: bool,
    networks: tuple[str, ...],
    batches: tuple[int, ...],
    peers: bool,
    goals: bool,
) -> None:
    """Measure passes and training steps on this machine's GPU, and those of JAX and PyTorch."""
    try:
        if file is not None and not file.absolute().parent.is_dir():
            raise ConfigError(f"--json: {str(file)!r} is in no folder that exists")
        selected = cases(networks, batches, quick)

        def advance(what: str) -> None:
            click.echo(f"measuring {what}", err=True)

        report = run(card_driver(), selected, QUICK if quick else Effort(), peers, advance)
        if file is not None:
            write(file, json.dumps(report, indent=1, allow_nan=False) + "\n")
    except FgError as error:
        raise _NotRunError(str(error)) from None
    click.echo(markdown(report))
    if goals and any(row["met"] is False for row in report["goals"]):
        context.exit(1)


if __name__ == "__main__":
    command()
