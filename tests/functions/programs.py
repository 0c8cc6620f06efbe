"""Random programs: Python source that Numba compiles, made from a seed.

A program is a module with constants, helper functions and a function ``f``; its numbers stay of order 1, and arguments
of functions stay within their domains, by the way in which expressions are nested. `program` picks which features a
seed's programs have (loops, branches, arrays, views …), so that each feature is also seen without the others.
"""

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.functions.expressions import Scope
from tests.functions.statements import Statements

HEADER = """import math

import numpy as np
from numba import njit

G = {g}
TABLE = np.array({table})
GRID = np.array([-4.0, -1.5, 0.25, 1.5, 4.0])


@njit
def stir(w, q):
    for i in range(1, len(w)):
        w[i] += 0.3 * q * w[i - 1]
    w[0] -= 0.2 * w.shape[0]
    return w
"""


@dataclass(frozen=True)
class Program:
    """A program and where it is evaluated.

    Parameters
    ----------
    source : the module; its function is ``f``. ``packed`` is the same function of one array of all active numbers.
    primals, tangents : the arguments, and their tangents (None: the argument carries none).
    theta, v : the same numbers, for ``packed``.
    """

    seed: int
    source: str
    primals: tuple[Any, ...]
    tangents: tuple[Any, ...]
    theta: np.ndarray
    v: np.ndarray

    def __str__(self):
        given = "\n".join(
            f"    {what} = {value!r}"
            for what, value in (("primals", self.primals), ("tangents", self.tangents))
        )
        return f"seed {self.seed}\n{self.source}\n{given}"


def program(seed: int, scalar: bool = False, short: bool = False) -> Program:
    """Return the program of a seed; `scalar`: its result is one number; `short`: it has a few lines."""
    return Writer(seed, scalar, short).finished()


class Writer(Statements):
    """Writes one program, statement by statement."""

    def __init__(self, seed: int, scalar: bool, short: bool):
        super().__init__(random.Random(seed))
        self.seed, self.scalar, self.short = seed, scalar, short
        if short:
            self.costly = 0.08

    def finished(self) -> Program:
        g, table = self.literal(), [round(self.draw.uniform(-1.5, 1.5), 3) for _ in range(5)]
        helpers = [
            self.helper(index) for index in range(self.draw.choice((0, 0, 1) if self.short else (0, 1, 1, 2)))
        ]
        arguments = self.arguments()
        self.scope = Scope()
        for name, value in arguments.items():
            self.scope.add(name, value)
        self.lines = []
        for _ in range(self.draw.randint(1, 2) if self.short else self.draw.randint(2, 5)):
            self.statement()
        result = self.result()
        body = "\n".join((*self.lines, f"    return {result}"))
        source = "\n\n".join(
            (
                HEADER.format(g=g, table=table),
                *helpers,
                f"def f({', '.join(arguments)}):\n{body}\n",
                self.packed(arguments),
            )
        )
        return self.placed(source, arguments)

    def arguments(self) -> dict[str, Any]:
        """Return the arguments' names and values: numbers, arrays, a tuple, an integer."""
        number = lambda: round(self.draw.choice((-1, 1)) * self.draw.uniform(0.3, 1.4), 3)  # noqa: E731
        n, k = self.draw.choice((3, 4, 5)), self.draw.choice((2, 3))
        kinds: dict[str, Any] = {
            "x": number(),
            "y": number(),
            "a": np.array([number() for _ in range(n)]),
            "m": np.array([[number() for _ in range(k)] for _ in range(k)]),
            "p": (number(), number()),
            "n": self.draw.randint(2, 4),
        }
        wanted = [name for name in kinds if self.draw.random() < 0.55]
        if not {"x", "a", "m"} & set(wanted):
            wanted.insert(0, self.draw.choice("xa"))
        return {name: value for name, value in kinds.items() if name in wanted}

    def packed(self, arguments) -> str:
        """Return a function of one array that calls ``f``."""
        parts, at = [], 0
        for value in arguments.values():
            if isinstance(value, int):
                parts.append(str(value))
            elif isinstance(value, tuple):
                parts.append("(" + ", ".join(f"theta[{at + i}]" for i in range(len(value))) + ")")
                at += len(value)
            elif isinstance(value, float):
                parts.append(f"theta[{at}]")
                at += 1
            else:
                shape = "" if value.ndim == 1 else f".reshape({value.shape[0]}, {value.shape[1]})"
                parts.append(f"theta[{at} : {at + value.size}].copy(){shape}")
                at += value.size
        return f"compiled = njit(f)\n\n\ndef packed(theta):\n    return compiled({', '.join(parts)})\n"

    def placed(self, source, arguments) -> Program:
        draw = np.random.default_rng(self.seed)
        tangents: list[Any] = []
        theta: list[np.ndarray] = []
        v: list[np.ndarray] = []
        for value in arguments.values():
            if isinstance(value, int):
                tangents.append(None)
                continue
            numbers = np.array(value, dtype=float)
            tangent = draw.standard_normal(numbers.shape)
            theta.append(numbers.ravel())
            v.append(tangent.ravel())
            if isinstance(value, tuple):
                tangents.append(tuple(float(t) for t in tangent))
            else:
                tangents.append(tangent if isinstance(value, np.ndarray) else float(tangent))
        packed = (np.concatenate(theta), np.concatenate(v))
        return Program(self.seed, source, tuple(arguments.values()), tuple(tangents), *packed)

    def helper(self, index: int) -> str:
        """Return a compiled function of two arguments, and let later expressions call it."""
        name = f"helper{index}"
        vector = self.draw.random() < 0.4
        self.scope = Scope(scalars=["q"], vectors={"u": 3} if vector else {})
        if not vector:
            self.scope.scalars.append("u")
        self.lines = []
        if self.draw.random() < 0.5:
            self.statement()
        early = f"    if u > {self.literal()}:\n        return {self.number(1)}\n"
        body = "".join(f"{line}\n" for line in self.lines)
        if not vector and self.draw.random() < 0.4:
            body += early
        source = f"@njit\ndef {name}(q, u):\n{body}    return {self.number(2)}\n"
        self.helpers.append((name, vector))
        return source

    def result(self) -> str:
        kind = "number" if self.scalar else self.draw.choice(("number", "number", "vector", "pair"))
        if kind == "number":
            parts = self.draw.sample(self.scope.scalars, min(4, len(self.scope.scalars)))
            parts += [f"np.sum({name})" for name in self.scope.arrays()]
            return " + ".join((self.number(1), *parts))
        if kind == "pair":
            arrays = self.scope.arrays()
            second = self.draw.choice(arrays) if arrays else self.number(1)
            return f"{self.number(2)}, {second}"
        return f"{self.vector(self.draw.choice((2, 3, 4)), 1)} * {self.number(1)}"
