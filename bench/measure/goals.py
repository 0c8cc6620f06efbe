"""Goals of the benchmarks: measured numbers ("figures"), each with a bound that it should keep.

A figure is printed and stored beside its goal. A missed goal is reported but is no failure, because on another
processor, or on a machine that does other work, a lower share of the peak need not mean that anything is wrong.
``--goals`` makes a missed goal a failure.

A benchmark adds a figure by the fixture ``goal`` of ``bench/suites/conftest.py``, a command by making a `Figure`:

    goal("perceptron step over its floor", 1.21, at_most=1.35)
    goal("first step, kernels cached", 0.52, at_most=3, unit="s")
    goal("a checkpoint over a step", 3.1)                           # a figure without a goal is shown as well
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """A measured number, and its goal if it has one.

    Parameters
    ----------
    name : str
        What was measured.
    measured : float or None
        The number. None: it could not be measured here, so that its goal is neither met nor missed.
    at_least : float, optional
        Goal of a number that should be large, such as a share of the peak. None (the default): there is no such goal.
    at_most : float, optional
        Goal of a number that should be small, such as a time; given in place of `at_least`. None is the default.
    unit : str
        Unit, which is printed after the number and a space. Default: empty, for a ratio.

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
        """The bound, or None if there is no goal."""
        return self.at_most if self.at_least is None else self.at_least

    @property
    def direction(self) -> str | None:
        """``at_least`` or ``at_most``, or None if there is no goal."""
        if self.goal is None:
            return None
        return "at_most" if self.at_least is None else "at_least"

    @property
    def bound(self) -> str:
        """The goal as text, such as ``<= 1.35``; empty if there is none."""
        if self.goal is None:
            return ""
        return f"{'<=' if self.at_least is None else '>='} {self.goal:g}"

    @property
    def met(self) -> bool | None:
        """Whether the goal is met, or None if there is no goal or nothing was measured. NaN meets no goal."""
        if self.measured is None or self.goal is None:
            return None
        return self.measured <= self.goal if self.at_least is None else self.measured >= self.goal

    @property
    def verdict(self) -> str:
        """``met``, ``MISSED`` or ``not measured``; empty if there is no goal."""
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
        """Return a figure from its JSON values.

        Parameters
        ----------
        values : mapping
            The values that :meth:`as_json` returned.
        """
        bound = {} if values["direction"] is None else {values["direction"]: values["goal"]}
        return cls(values["name"], values["measured"], unit=values["unit"], **bound)


def missed(figures: Sequence[Figure]) -> list[str]:
    """Return a line of text for each figure that misses its goal.

    Parameters
    ----------
    figures : sequence of Figure
        The figures.
    """
    return [
        f"{figure.name}: {figure.value}, goal {figure.bound}" for figure in figures if figure.met is False
    ]


def lines(figures: Sequence[Figure]) -> list[str]:
    """Return figures as aligned lines of name, value, goal and verdict, and a last line that counts the goals met.

    Parameters
    ----------
    figures : sequence of Figure
        The figures.
    """
    if not figures:
        return []
    cells = [(figure.name, figure.value, figure.bound, figure.verdict) for figure in figures]
    name, value, bound = (max(len(line[column]) for line in cells) for column in range(3))
    table = [f"{a:{name}}  {b:>{value}}  {c:>{bound}}  {d}".rstrip() for a, b, c, d in cells]
    judged = [figure.met for figure in figures if figure.met is not None]
    return [*table, f"{sum(judged)} of {len(judged)} goals are met"]
