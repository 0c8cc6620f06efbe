"""Goals of passes and steps with one direction at batch size 64, alone and compared with other frameworks.

They are for a machine that is otherwise idle, and for products in float32. ``pytest bench`` and ``fgtrain bench`` use
the same ones.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fgnumba.bench.measure.goals import Figure
from fgnumba.kernels.emit.precision import FLOAT32

BATCH = 64
RATIOS = {"logreg": (1.5, 1.0), "mlp": (1.75, 0.7), "cnn": (2.2, 0.7)}
"""Largest Rf of a rank-1 direction, and largest Rf/Rb, which also bounds its step over a reverse-mode step."""
DRAWING = 0.03
"""Largest share of a step that the draw of a direction may take."""
DRAWN_SIGNS = ("rank1", "rademacher")
OVER_FASTER_PEER = {"logreg": 0.5, "mlp": 0.5, "cnn": 0.36}
"""Largest ratio of a rank-1 step to the reverse-mode step of the faster framework that is installed."""

Row = Mapping[str, Any]


def of_ratios(row: Row, where: str = "") -> list[Figure]:
    """Return the measurements of a case with their goals; an empty list for a case without goals.

    Parameters
    ----------
    row : dict
        The measurements, as :func:`fgnumba.bench.measure.ratios.measure` returns them.
    where : str
        Text that follows the case's name, for example the number of threads. Default: empty.
    """
    if (
        not _in_float32(row)
        or row["batch"] != BATCH
        or row["directions"] != 1
        or row["direction"] not in DRAWN_SIGNS
    ):
        return []
    case = f"{row['name']}, {row['direction']}{where}"
    figures = [Figure(f"drawing's share of a step, {case}", row["drawing_share"], at_most=DRAWING)]
    if row["direction"] == "rank1":
        rf, ratio = RATIOS[row["name"]]
        figures += [
            Figure(f"Rf of {case} (products {row['rf_ideal']:.2f})", row["rf"], at_most=rf),
            Figure(f"Rf/Rb of {case} (Rb {row['rb']:.2f})", row["rf_over_rb"], at_most=ratio),
            Figure(f"forward step over reverse step of {case}", row["step_over_reverse_step"], at_most=ratio),
        ]
    return figures


def of_peers(rows: Sequence[Row]) -> list[Figure]:
    """Return the ratios of steps to those of other frameworks, with their goals.

    Parameters
    ----------
    rows : sequence of dict
        The measurements, as :func:`fgnumba.bench.report.suite.measure_peers` returns them. A framework that is not
        installed has none, and no goal.
    """
    figures = []
    for network, most in OVER_FASTER_PEER.items():
        found = [
            row for row in rows if (row["name"], row["direction"]) == (network, "rank1") and _in_float32(row)
        ]
        if found:
            faster = min(found, key=lambda row: row["reverse_step_ms"])
            what = f"{network} step over {faster['peer']}'s reverse step ({faster['reverse_step_ms']:.3g} ms)"
            figures.append(Figure(what, faster["our_step_over_its_reverse_step"], at_most=most))
    return figures


def _in_float32(row: Row) -> bool:
    """Whether our products were of float32; rows of versions without precisions name none."""
    return row.get("precision", FLOAT32) == row.get("tangent_precision", FLOAT32) == FLOAT32
