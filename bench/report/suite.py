"""The measurements of ``fgtrain bench``, and their report as JSON values and as text."""

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fgnumba.bench import reverse
from fgnumba.bench.measure import machine, networks
from fgnumba.bench.measure.goals import Figure
from fgnumba.bench.measure.peer_networks import CALLS, WIDTHS
from fgnumba.bench.measure.peers import FLOAT32_PEERS, PEERS, peers, versions
from fgnumba.bench.measure.ratio_goals import BATCH, of_peers, of_ratios
from fgnumba.bench.measure.ratios import RATE, Case, measure, trainer
from fgnumba.bench.measure.timing import interleaved
from fgnumba.kernels.devices.device import CPU, Cpu
from fgnumba.kernels.emit.precision import FLOAT32
from fgnumba.kernels.emit.vector import InstructionSet

Report = dict[str, Any]
Advance = Callable[[str], None]

PEER_DIRECTIONS = ("rank1", "gaussian")


def run(
    cases: Sequence[Case],
    with_peers: bool = True,
    seconds: float = 8.0,
    advance: Advance = lambda what: None,
) -> Report:
    """Measure some cases, and the installed other frameworks on the same networks.

    Parameters
    ----------
    cases : sequence of Case
        The cases, all of one device.
    with_peers : bool
        Whether to measure other frameworks too, and in bfloat16 as well if the device multiplies it. Default: True.
    seconds : float
        Approximate time of each case in seconds. Default: 8.
    advance : callable
        Called with a description of what is measured next. Default: ignores it.
    """
    advance("memory bandwidth")
    bandwidth = machine.bandwidth()
    ratios = []
    for case in cases:
        advance(str(case))
        ratios.append(measure(case, bandwidth, seconds))
        gc.collect()
    device = cases[0].device if cases else CPU
    facts = machine.facts(device)
    facts |= {
        "bandwidth_bytes_per_second": bandwidth,
        "peak_flops": max((row["peak_gflops"] * 1e9 for row in ratios), default=None),
        "quiet": not any(row["disturbed"] for row in ratios),
    }
    measured = []
    if with_peers:
        for network in dict.fromkeys(case.network for case in cases):
            for direction in PEER_DIRECTIONS:
                advance(f"peers: {network}, {direction}")
                measured += measure_peers(network, direction, seconds, device=device)
                gc.collect()
        facts["peers"] = versions()
    goals = [figure for row in ratios for figure in of_ratios(row)] + of_peers(measured)
    return {
        "machine": facts,
        "ratios": ratios,
        "peers": measured,
        "goals": [figure.as_json() for figure in goals],
    }


def in_float32(isa: InstructionSet) -> bool:
    """Return whether both precisions of an instruction set are float32."""
    return isa.precision == isa.tangent_precision == FLOAT32


def steps(cases: Sequence[Case], with_peers: bool) -> int:
    """Return how often :func:`run` calls `advance`.

    Parameters
    ----------
    cases : sequence of Case
        The cases.
    with_peers : bool
        Whether other frameworks are measured too.
    """
    rows = len(dict.fromkeys(case.network for case in cases)) * len(PEER_DIRECTIONS)
    return 1 + len(cases) + rows * with_peers


def measure_peers(
    network: str, direction: str, seconds: float, rounds: int = 15, device: Cpu = CPU
) -> list[dict[str, Any]]:
    """Measure the installed other frameworks, and our steps in the same rounds; return a row for each framework.

    Parameters
    ----------
    network : str
        Name of the network.
    direction : str
        Distribution of the direction.
    seconds : float
        Approximate time to measure, in seconds.
    rounds : int
        Largest number of rounds. Default: 15.
    device : Cpu
        The processor, with the precision of our products. Default: the precision is chosen.
    """
    isa = device.isa
    images, y = networks.data(BATCH)
    x = images if network == "cnn" else images.reshape(BATCH, -1)
    names = FLOAT32_PEERS if in_float32(isa) else tuple(PEERS)
    found = peers(WIDTHS[network], x, y, direction, names)
    if not found:
        return []
    forward = trainer(Case(network, direction, batch=BATCH, device=device))
    backward = reverse.ReverseTrainer(networks.network(network, device), RATE)
    contenders: dict[str, Callable[[], object]] = {
        "forward step": lambda: forward.step(images, y),
        "reverse step": lambda: backward.step(images, y),
    }
    contenders |= {f"{name} {call}": calls[call] for name, calls in found.items() for call in CALLS}
    timings = interleaved(contenders, rounds, seconds)
    rows = []
    for name in found:
        milliseconds = {
            f"{call.replace(' ', '_')}_ms": timings.seconds(f"{name} {call}") * 1e3 for call in CALLS
        }
        rows.append(
            {
                "name": network,
                "peer": name,
                "direction": direction,
                "batch": BATCH,
                "precision": isa.precision,
                "tangent_precision": isa.tangent_precision,
                **milliseconds,
                "rf": timings.ratio(f"{name} jvp", f"{name} f"),
                "rb": timings.ratio(f"{name} grad", f"{name} f"),
                "rf_over_rb": timings.ratio(f"{name} jvp", f"{name} grad"),
                "our_step_over_its_reverse_step": timings.ratio("forward step", f"{name} reverse step"),
                "our_step_over_its_forward_step": timings.ratio("forward step", f"{name} forward step"),
                "our_reverse_step_over_its_reverse_step": timings.ratio(
                    "reverse step", f"{name} reverse step"
                ),
            }
        )
    return rows


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _with_interval(row: Mapping[str, Any], name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{row[name]:.2f} [{low:.2f}, {high:.2f}]"


COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "network": lambda row: row["name"],
    "direction": lambda row: row["direction"],
    "T": lambda row: str(row["directions"]),
    "batch": lambda row: str(row["batch"]),
    "Rf": lambda row: _with_interval(row, "rf"),
    "ideal": lambda row: f"{row['rf_ideal']:.2f}",
    "Rb": lambda row: _with_interval(row, "rb"),
    "ideal ": lambda row: f"{row['rb_ideal']:.2f}",
    "Rf/Rb": lambda row: _with_interval(row, "rf_over_rb"),
    "step ms": lambda row: _number(row["step_ms"]),
    "reverse": lambda row: _number(row["reverse_step_ms"]),
    "forward/floor": lambda row: f"{row['forward_over_floor']:.2f}",
    "reverse/floor": lambda row: f"{row['reverse_over_floor']:.2f}",
    "drawing": lambda row: f"{max(0.0, row['drawing_share']):.1%}",
    "MB": lambda row: _number(row["peak_bytes"] / 1e6),
    "reverse MB": lambda row: _number(row["reverse_peak_bytes"] / 1e6),
}
"""Heads of the table of ratios, each with the function that makes its cell from a row."""

PEER_COLUMNS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "network": lambda row: row["name"],
    "peer": lambda row: row["peer"],
    "direction": lambda row: row["direction"],
    **{
        f"{call} ms": lambda row, call=call: _number(row[f"{call.replace(' ', '_')}_ms"])  # type: ignore[misc]
        for call in CALLS
    },
    "Rf": lambda row: f"{row['rf']:.2f}",
    "Rb": lambda row: f"{row['rb']:.2f}",
    "our step/its reverse step": lambda row: f"{row['our_step_over_its_reverse_step']:.2f}",
}
"""Heads of the table of other frameworks, each with the function that makes its cell from a row."""

GOAL_COLUMNS: dict[str, Callable[[Figure], str]] = {
    "goal": lambda figure: figure.name,
    "measured": lambda figure: figure.value,
    "bound": lambda figure: figure.bound,
    "": lambda figure: figure.verdict,
}
"""Heads of the table of goals, each with the function that makes its cell from a figure."""

LEFT = ("network", "direction", "peer", "goal", "")
"""Heads of columns that hold words and are aligned to the left."""


def tables(report: Report) -> list[tuple[str, list[str], list[list[str]]]]:
    """Return the tables of a report, each as its title, its heads and its rows.

    Parameters
    ----------
    report : dict
        The report, as :func:`run` returns it.
    """
    result = []
    for title, key, columns in (
        ("Ratios", "ratios", COLUMNS),
        (f"Peers, batch {BATCH}, milliseconds", "peers", PEER_COLUMNS),
    ):
        if report[key]:
            rows = [[cell(row) for cell in columns.values()] for row in report[key]]
            result.append((title, [head.strip() for head in columns], rows))
    if goals(report):
        rows = [[cell(figure) for cell in GOAL_COLUMNS.values()] for figure in goals(report)]
        result.append(("Goals, for a quiet machine", list(GOAL_COLUMNS), rows))
    return result


def goals(report: Report) -> list[Figure]:
    """Return the measurements of a report that have a goal. Reports of versions without goals have none.

    Parameters
    ----------
    report : dict
        The report, as :func:`run` returns it.
    """
    return [Figure.from_json(values) for values in report.get("goals", ())]


def remarks(report: Report) -> list[str]:
    """Return what a reader must know about a report: the machine, and which measurements were disturbed.

    Parameters
    ----------
    report : dict
        The report, as :func:`run` returns it.
    """
    facts = report["machine"]
    # Reports of versions without precisions are of float32.
    products = []
    if "precision" in facts:
        primal, tangent = facts["precision"], facts["tangent_precision"]
        products = [f"products on {facts['instruction_set']}: {primal}, those of tangents {tangent}"]
    lines = [
        f"{facts['processor']} ({facts['architecture']}), {facts['vector']}, {facts['threads']} threads; "
        f"fgnumba {facts['fgnumba']}, Numba {facts['numba']}, Python {facts['python']}",
        *products,
        f"measured: {facts['peak_flops'] / 1e9:.0f} GFLOP/s at the multiply-add peak, "
        f"{facts['bandwidth_bytes_per_second'] / 1e9:.0f} GB/s of memory; medians [95 % by bootstrap over rounds]",
    ]
    for row in report["ratios"]:
        if row["disturbed"]:
            case = Case(row["name"], row["direction"], row["directions"], row["batch"])
            lines.append(f"NOT QUIET during {case}: {row['disturbed']}; measure again before you believe it")
    return lines


def as_text(report: Report) -> str:
    """Return the tables of a report as aligned text.

    Parameters
    ----------
    report : dict
        The report, as :func:`run` returns it.
    """
    blocks = []
    for title, heads, rows in tables(report):
        widths = [max(len(line[column]) for line in [heads, *rows]) for column in range(len(heads))]
        lines = [
            "  ".join(
                f"{cell:{width}}" if head in LEFT else f"{cell:>{width}}"
                for cell, width, head in zip(line, widths, heads, strict=True)
            ).rstrip()
            for line in [heads, *rows]
        ]
        blocks.append("\n".join([title, *lines]))
    return "\n\n".join([*blocks, "\n".join(remarks(report))])
