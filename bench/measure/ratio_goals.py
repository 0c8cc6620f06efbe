"""Goals of passes and steps, for a quiet machine: of one direction at batch 64, and beside other frameworks.

``pytest bench`` and ``fgtrain bench`` have the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from fgnumba.bench.measure.goals import Figure

BATCH = 64
RATIOS = {"logreg": (1.5, 1.0), "mlp": (1.75, 0.7), "cnn": (2.2, 0.7)}
"""Rf of a rank-1 direction; its Rf/Rb, and its step over a reverse-mode step."""
DRAWING = 0.03
"""A direction's drawing, of a step."""
DRAWN_SIGNS = ("rank1", "rademacher")
OVER_FASTER_PEER = {"logreg": 0.5, "mlp": 0.5, "cnn": 0.36}
"""A rank-1 step over the reverse-mode step of the faster of the frameworks that are installed."""

Row = Mapping[str, Any]


def of_ratios(row: Row, where: str = "") -> list[Figure]:
    """Return the goals of a row of :func:`fgnumba.bench.measure.ratios.measure`; none for cases that have none.

    Parameters
    ----------
    row : figures of one case.
    where : text that follows the case's name, the number of threads for example.
    """
    if row["batch"] != BATCH or row["directions"] != 1 or row["direction"] not in DRAWN_SIGNS:
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
    """Return the goals of steps beside other frameworks, from rows of :func:`fgnumba.bench.report.suite.measure_peers`.

    A framework that is not installed has no row, and no goal.
    """
    figures = []
    for network, most in OVER_FASTER_PEER.items():
        found = [row for row in rows if (row["name"], row["direction"]) == (network, "rank1")]
        if found:
            faster = min(found, key=lambda row: row["reverse_step_ms"])
            what = f"{network} step over {faster['peer']}'s reverse step ({faster['reverse_step_ms']:.3g} ms)"
            figures.append(Figure(what, faster["our_step_over_its_reverse_step"], at_most=most))
    return figures
