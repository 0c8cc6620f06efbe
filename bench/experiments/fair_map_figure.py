"""The figure of the fair map: who wins each cell, without and with a limit of memory; memory against a step's time."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fgnumba.bench.experiments.equal_budgets import CHECKPOINTED, KEEPING, REVERSE_MODE
from fgnumba.colours import CHECKPOINTED as CHECKPOINTED_COLOUR
from fgnumba.colours import FORWARD, GREY, GRID, INK, REVERSE, STYLES
from fgnumba.runs.figures import blank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"forward": FORWARD, "reverse": REVERSE, "tie": GREY, "neither": GRID}
SHORT = {REVERSE_MODE: "reverse", CHECKPOINTED: "checkp.", "local-noise-feedback": "local f."}
"""Names of contenders that are too long for a cell."""
HEADS = "equal time", "equal time and memory"


def draw(
    title: str,
    rows: Sequence[Mapping[str, Any]],
    verdicts: Sequence[Sequence[Any]],
    focus: Mapping[str, Any],
) -> "Figure":
    """Return the figure.

    Parameters
    ----------
    title : str
        Its title.
    rows : sequence of mapping
        The cells, as the result's ``data.json`` has them.
    verdicts : sequence of sequence of Verdict
        Of each map, who wins each cell.
    focus : mapping
        Bytes and times of one network.
    """
    figure = blank(13, 4.2)
    *maps, plane = figure.subplots(1, 3, width_ratios=(1, 1, 0.9))
    for axis, head, found in zip(maps, HEADS, verdicts, strict=True):
        _map(axis, rows, found)
        axis.set_title(head, loc="left", fontsize=9)
    _plane(plane, focus)
    figure.suptitle(title, fontsize=10)
    return figure


def _map(axis: "Axes", rows: Sequence[Mapping[str, Any]], verdicts: Sequence[Any]) -> None:
    """Draw the winner of each cell, its name, and by which factor the other side's loss is higher."""
    asked = sorted({row["asked"] for row in rows})
    depths = sorted({row["depth"] for row in rows})
    for row, verdict in zip(rows, verdicts, strict=True):
        x, y = asked.index(row["asked"]), depths.index(row["depth"])
        axis.bar(x, 0.94, 0.94, bottom=y - 0.47, color=COLOURS[verdict.winner], linewidth=0)
        name = {"forward": verdict.forward, "reverse": verdict.reverse}.get(verdict.winner, verdict.winner)
        lines = [SHORT.get(name, name.partition(",")[0])]
        if verdict.ratio is not None:
            lines.append(f"×{max(verdict.ratio, 1 / verdict.ratio):.2g}")
        elif verdict.winner == "forward":
            sizes = {name: run["nbytes"] for name, run in row["runs"].items()}
            least = min(sizes[name] for name in (REVERSE_MODE, CHECKPOINTED) if name in sizes)
            lines.append(f"alone ({least / row['limit']:.2g})")
        dark = verdict.winner != "neither"
        axis.text(
            x, y, "\n".join(lines), ha="center", va="center", fontsize=7, color="white" if dark else INK
        )
    axis.set_xticks(range(len(asked)), [f"{value:.0e}".replace("e+0", "e") for value in asked])
    axis.set_yticks(range(len(depths)), [str(depth) for depth in depths])
    axis.set_xlabel("parameters")
    axis.set_ylabel("layers")
    axis.set_xlim(-0.55, len(asked) - 0.45)
    axis.set_ylim(-0.55, len(depths) - 0.45)
    axis.spines[["top", "right"]].set_visible(False)


def _plane(axis: "Axes", focus: Mapping[str, Any]) -> None:
    """Draw the bytes beside the parameters against the time of a step, over that of reverse mode."""
    points = {point["name"]: (point["nbytes"] / 1e6, point["over_reverse"]) for point in focus["points"]}
    lines = {
        "weights": ([name for name in points if name.startswith("weights")], FORWARD, "o"),
        CHECKPOINTED: (
            [name for name in points if name.startswith(CHECKPOINTED)],
            CHECKPOINTED_COLOUR,
            "s",
        ),
        REVERSE_MODE: ([REVERSE_MODE], REVERSE, "s"),
        **{name: ([name], STYLES[name].colour, "^") for name in KEEPING},
    }
    for label, (names, colour, marker) in lines.items():
        x, y = zip(*(points[name] for name in names), strict=True)
        axis.plot(x, y, color=colour, marker=marker, markersize=5, linewidth=1.2, label=label)
    for name in lines["weights"][0]:
        axis.annotate(
            name.removeprefix("weights, "),
            points[name],
            xytext=(5, -3),
            textcoords="offset points",
            fontsize=7,
            color=FORWARD,
        )
    axis.set(xscale="log", yscale="log")
    axis.set_xlabel("MB beside parameters")
    axis.set_ylabel("time of a step, over reverse mode's")
    axis.grid(color=GRID, linewidth=0.6)
    axis.legend(fontsize=7, frameon=False)
    axis.set_title(
        f"a step: {focus['parameters']:,} parameters, {focus['depth']} layers", loc="left", fontsize=9
    )
    axis.spines[["top", "right"]].set_visible(False)
