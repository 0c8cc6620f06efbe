"""Goals of the benchmarks: figures that were measured, each beside the bound that it should keep.

A figure is printed and stored beside its goal, and a missed goal is reported: on another processor, or beside other
work, a share of the peak may be lower without anything being wrong. ``--goals`` makes a missed goal fail.

A benchmark adds one by the fixture ``goal`` of ``bench/suites/conftest.py``; a command by a `Figure` of its own:

    goal("perceptron step over its floor", 1.21, at_most=1.35)
    goal("first step, kernels cached", 0.52, at_most=3, unit="s")
    goal("a checkpoint over a step", 3.1)                           # a figure without a goal is shown as well
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A figure that was measured, and its goal if it has one.

    Parameters
    ----------
    name : what was measured.
    measured : its value; None where it could not be measured here, so that its goal is neither met nor missed.
    at_least : goal of a figure that should be large, such as a share of the peak.
    at_most : goal of a figure that should be small, such as a time; given instead of `at_least`.
    unit : text that follows the number, after a space; empty for a ratio.

    Raises
    ------
    ValueError
        Both goals are given.
    """

    name: str
    measured: float | None
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if self.at_least is not None and self.at_most is not None:
            raise ValueError(f"{self.name}: at_least and at_most are both given; a figure has one goal")

    @property
    def goal(self) -> float | None:
        """The bound, None where there is no goal."""
        return self.at_most if self.at_least is None else self.at_least

    @property
    def direction(self) -> str | None:
        """``at_least`` or ``at_most``, None where there is no goal."""
        if self.goal is None:
            return None
        return "at_most" if self.at_least is None else "at_least"

    @property
    def bound(self) -> str:
        """The goal as text, such as ``<= 1.35``; empty where there is none."""
        if self.goal is None:
            return ""
        return f"{'<=' if self.at_least is None else '>='} {self.goal:g}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, None where there is none or nothing was measured. NaN meets no goal."""
        if self.measured is None or self.goal is None:
            return None
        return self.measured <= self.goal if self.at_least is None else self.measured >= self.goal

    @property
    def verdict(self) -> str:
        """``met``, ``MISSED``, ``not measured``, or nothing where there is no goal."""
        if self.goal is None:
            return ""
        return {True: "met", False: "MISSED", None: "not measured"}[self.met]

    @property
    def value(self) -> str:
        """The measured number as text, with its unit."""
        return "" if self.measured is None else f"{self.measured:.3g} {self.unit.strip()}".rstrip()

    def as_json(self) -> dict[str, Any]:
        """Return the figure as JSON values."""
        return {
            "name": self.name,
            "measured": self.measured,
            "unit": self.unit.strip(),
            "goal": self.goal,
            "direction": self.direction,
            "met": self.met,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Figure":
        """Return the figure that :meth:`as_json` made `values` of."""
        bound = {} if values["direction"] is None else {values["direction"]: values["goal"]}
        return cls(values["name"], values["measured"], unit=values["unit"], **bound)


def missed(figures: Sequence[Figure]) -> list[str]:
    """Return a line for each figure that misses its goal."""
    return [f"{one.name}: {one.value}, goal {one.bound}" for one in figures if one.met is False]


def lines(figures: Sequence[Figure]) -> list[str]:
    """Return figures as aligned text, a line each: name, value, goal, verdict; then how many goals are met."""
    if not figures:
        return []
    cells = [(one.name, one.value, one.bound, one.verdict) for one in figures]
    name, value, bound = (max(len(line[column]) for line in cells) for column in range(3))
    table = [f"{a:{name}}  {b:>{value}}  {c:>{bound}}  {d}".rstrip() for a, b, c, d in cells]
    judged = [one.met for one in figures if one.met is not None]
    return [*table, f"{sum(judged)} of {len(judged)} goals are met"]
