"""Random expressions of a program: numbers, vectors and matrices of order 1, within the domains of their functions."""

import copy
import random
from dataclasses import dataclass, field

import numpy as np

ANYWHERE = ("sin", "cos", "tanh", "erf", "erfc", "square", "atan")
"""Functions of any number of order 1, by ``math``'s name where it has it."""
SMALL = ("exp", "expm1", "sinh", "cosh", "tan", "asin", "acos", "asinh", "exp2", "atanh", "log1p", "deg2rad")
POSITIVE = ("sqrt", "log", "log2", "log10", "cbrt", "gamma", "lgamma", "reciprocal", "rad2deg", "log1p")
KINKED = ("fabs", "floor", "sign", "ceil")
ONLY_NUMPY = ("square", "exp2", "cbrt", "reciprocal", "deg2rad", "rad2deg", "sign")
ONLY_MATH = ("erf", "erfc", "gamma", "lgamma")
NUMPY_NAMES = {f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")}
MATH_NAMES = {"deg2rad": "radians", "rad2deg": "degrees"}
NUMBERS = (
    *("sum", "sum", "product", "product", "quotient", "power", "applied", "applied", "paired"),
    *("choice", "helper", "helper", "reduced", "reduced", "named", "builtin"),
)
REDUCTIONS = (
    "np.sum({})",
    "np.sum({})",
    "np.mean({})",
    "({}).sum()",
    "np.max({})",
    "({})[-1]",
    "np.prod({})",
)
COSTLY_REDUCTIONS = (
    *("np.linalg.norm({})", "np.var({})", "np.std({})", "np.median({})", "np.dot({}, {})", "np.dot({}, {})"),
    *("np.cumsum({})[1]", "({}).max()", "np.min({})"),
)
PAIRS = (
    "maximum",
    "minimum",
    "hypot",
    "arctan2",
    "power",
    "logaddexp",
    "copysign",
    "fmax",
    "fmin",
    "logaddexp2",
)


@dataclass
class Scope:
    """What an expression may name: numbers, vectors and matrices with their sizes, integers with their bounds."""

    scalars: list[str] = field(default_factory=list)
    vectors: dict[str, int] = field(default_factory=dict)
    matrices: dict[str, int] = field(default_factory=dict)
    tuples: dict[str, int] = field(default_factory=dict)
    integers: dict[str, int] = field(default_factory=dict)
    constants: set[str] = field(default_factory=set)
    """Names of vectors that are views of the module's constants, which are not written to."""

    def add(self, name, value):
        """Add an argument by the kind of its value."""
        if isinstance(value, int):
            self.integers[name] = value + 1
        elif isinstance(value, float):
            self.scalars.append(name)
        elif isinstance(value, tuple):
            self.tuples[name] = len(value)
        elif isinstance(value, np.ndarray):
            (self.vectors if value.ndim == 1 else self.matrices)[name] = len(value)

    def arrays(self):
        return [*self.vectors, *self.matrices]

    def copy(self):
        return copy.deepcopy(self)


class Expressions:
    """Writes expressions of what a scope holds."""

    def __init__(self, draw: random.Random):
        self.draw = draw
        self.scope = Scope()
        self.helpers: list[tuple[str, bool]] = []
        self.names = 0
        self.costly = 1.0

    def affords(self) -> bool:
        """Return whether the next function may be one that takes Numba seconds to compile, by the share `costly`."""
        return self.draw.random() < self.costly

    def fresh(self, letter: str) -> str:
        self.names += 1
        return f"{letter}{self.names}"

    def literal(self) -> str:
        return str(round(self.draw.choice((-1, 1)) * self.draw.uniform(0.2, 1.5), 2))

    def index(self, n: int) -> str:
        """Return an index into n entries: a number, or a counter of a loop."""
        counters = [name for name, bound in self.scope.integers.items() if bound <= n]
        if counters and self.draw.random() < 0.6:
            return self.draw.choice(counters)
        if self.scope.integers and self.draw.random() < 0.3:
            return f"{self.draw.choice(list(self.scope.integers))} % {n}"
        return str(self.draw.choice((self.draw.randrange(n), -1)))

    # Domains. Every function below is wrapped so that its argument is where it is smooth.

    def bounded(self, value: str) -> str:
        """Return an expression between -0.9 and 0.9 of a number or an array."""
        return self.draw.choice(
            (f"(0.8 * np.sin({value}))", f"(0.7 * np.tanh({value}))", f"(0.9 * np.cos({value}))")
        )

    def positive(self, value: str) -> str:
        """Return an expression between 0.2 and 4."""
        return self.draw.choice(
            (f"(1.5 + np.sin({value}))", f"(1.3 - np.tanh({value}))", f"np.exp({self.bounded(value)})")
        )

    def applied(self, value: str, array: bool) -> str:
        """Return an elementary function of an expression."""
        names = self.draw.choice((ANYWHERE, ANYWHERE, SMALL, SMALL, POSITIVE, POSITIVE, KINKED))
        name = self.draw.choice([one for one in names if not (array and one in ONLY_MATH)])
        argument = (
            self.bounded(value) if names is SMALL else self.positive(value) if names is POSITIVE else value
        )
        if name in ONLY_MATH or (not array and name not in ONLY_NUMPY and self.draw.random() < 0.6):
            return f"math.{MATH_NAMES.get(name, name)}({argument})"
        return f"np.{NUMPY_NAMES.get(name, name)}({argument})"

    def paired(self, left: str, right: str) -> str:
        """Return a function of two expressions, numbers or arrays."""
        name = self.draw.choice(PAIRS)
        if name in ("power", "hypot", "arctan2"):
            left = self.positive(left)
        return f"np.{name}({left}, {right})"

    def condition(self) -> str:
        left, right = self.number(1), self.draw.choice((self.literal(), self.number(0)))
        simple = f"{left} {self.draw.choice('<>')} {right}"
        if self.draw.random() < 0.2:
            return f"{simple} {self.draw.choice(('and', 'or'))} {self.number(0)} > {self.literal()}"
        if self.scope.integers and self.draw.random() < 0.3:
            return f"{self.draw.choice(list(self.scope.integers))} % 2 == 0"
        return simple

    # Numbers.

    def number(self, depth: int) -> str:
        if depth <= 0:
            return self.named()
        kind = self.draw.choice(NUMBERS)
        return getattr(self, f"_{kind}")(depth - 1) if kind != "named" else self.named()

    def named(self) -> str:
        """Return a variable, an entry, or a constant."""
        found = [name for name in self.scope.scalars for _ in range(2)]
        found += [
            f"{name}[{self.index(n)}]"
            for name, n in self.scope.vectors.items()
            if name not in self.scope.constants
        ]
        found += [f"{name}[{self.index(k)}, {self.index(k)}]" for name, k in self.scope.matrices.items()]
        found += [f"{name}[{self.draw.randrange(n)}]" for name, n in self.scope.tuples.items()]
        if not found or self.draw.random() < 0.12:
            return self.draw.choice((self.literal(), self.literal(), "G", f"TABLE[{self.index(5)}]"))
        if self.scope.integers and self.draw.random() < 0.1:
            return f"0.5 * {self.draw.choice(list(self.scope.integers))}"
        return self.draw.choice(found)

    def _sum(self, depth):
        return f"({self.number(depth)} {self.draw.choice('+-')} {self.number(depth)})"

    def _product(self, depth):
        return f"({self.number(depth)} * {self.number(depth)})"

    def _quotient(self, depth):
        return f"({self.number(depth)} / {self.positive(self.number(depth))})"

    def _power(self, depth):
        base, kind = self.number(depth), self.draw.choice(("whole", "whole", "fixed", "active", "fixed base"))
        if kind == "whole":
            return f"{base if base.isidentifier() else f'({base})'} ** {self.draw.choice('23')}"
        if kind == "fixed":
            return f"{self.positive(base)} ** {self.draw.choice(('0.5', '1.5', '-1', '2.5', '(-0.75)'))}"
        if kind == "active":
            return f"{self.positive(base)} ** {self.bounded(self.number(depth))}"
        return f"1.7 ** {self.bounded(base)}"

    def _applied(self, depth):
        return self.applied(self.number(depth), False)

    def _paired(self, depth):
        return self.paired(self.number(depth), self.number(depth))

    def _choice(self, depth):
        return f"({self.number(depth)} if {self.condition()} else {self.number(depth)})"

    def _builtin(self, depth):
        left, right = self.number(depth), self.number(depth)
        return self.draw.choice((f"max({left}, {right})", f"min({left}, {right})", f"abs({left})"))

    def _helper(self, depth):
        if not self.helpers:
            return self._product(depth)
        name, vector = self.draw.choice(self.helpers)
        second = self.vector(3, 0) if vector else self.number(depth)
        return f"{name}({self.number(depth)}, {second})"

    def _reduced(self, depth):
        if self.draw.random() < 0.25 and self.affords():
            k = self.draw.choice((2, 3))
            form = self.draw.choice(
                ("np.linalg.det({})", "np.trace({})", "np.linalg.norm({})", "np.sum({})", "{}.mean()")
            )
            matrix = self.matrix(k, depth)
            return form.format(self.definite(k, depth) if "det" in form else matrix)
        n = self.draw.choice((2, 3, 4))
        form = self.draw.choice((*REDUCTIONS, *COSTLY_REDUCTIONS) if self.affords() else REDUCTIONS)
        vector = self.vector(n, depth)
        return form.format(vector, self.vector(n, depth))

    # Vectors.

    def vector(self, n: int, depth: int, fresh: bool = False) -> str:
        """Return n numbers; `fresh`: in memory of their own, never a view."""
        if depth <= 0 or self.draw.random() < 0.25:
            found = self.stored(n)
            if found and not (fresh and self.draw.random() < 0.5):
                name = self.draw.choice(found)
                return f"({name} + 0.0)" if fresh else name
            return self.made(n)
        kind = self.draw.choice(VECTORS if self.affords() else CHEAP)
        return getattr(self, f"_{kind}")(n, depth - 1)

    def stored(self, n: int) -> list[str]:
        """Return the variables, and parts of variables, that are vectors of n numbers."""
        vectors = {name: n for name, n in self.scope.vectors.items() if name not in self.scope.constants}
        if self.draw.random() < 0.1:
            vectors["TABLE"] = 5
        found = [name for name, size in vectors.items() if size == n]
        for name, size in vectors.items():
            if size > n:
                found.append(self.draw.choice((f"{name}[:{n}]", f"{name}[-{n}:]", f"{name}[{size - n}:]")))
            if (size + 1) // 2 == n:
                found.append(f"{name}[::2]")
            if size == n:
                found.append(f"{name}[::-1]")
        for name, k in self.scope.matrices.items():
            if k == n:
                row, column = self.index(k), self.index(k)
                found.append(
                    self.draw.choice((f"{name}[{row}]", f"{name}[:, {column}]", f"{name}[{row}, :]"))
                )
        return found

    def made(self, n: int) -> str:
        entries = ", ".join(self.named() for _ in range(n))
        value = self.named()
        return self.draw.choice(
            (
                *(f"np.array([{entries}])", f"np.full({n}, 1.0 * {value})", f"({value} * np.arange({n}))"),
                *(f"(np.ones({n}) * {value})", f"np.array([{value} * (k + 1) for k in range({n})])"),
            )
        )

    def _vector_sum(self, n, depth):
        return f"({self.vector(n, depth)} {self.draw.choice('+-*')} {self.vector(n, depth)})"

    def _vector_scaled(self, n, depth):
        return f"({self.number(depth)} {self.draw.choice('*+')} {self.vector(n, depth)})"

    def _vector_quotient(self, n, depth):
        return f"({self.vector(n, depth)} / {self.positive(self.vector(n, depth))})"

    def _vector_power(self, n, depth):
        vector = self.vector(n, depth)
        return self.draw.choice((f"({vector}) ** 2", f"{self.positive(vector)} ** 1.5", f"({vector}) ** 3"))

    def _vector_applied(self, n, depth):
        return self.applied(self.vector(n, depth), True)

    def _vector_paired(self, n, depth):
        return self.paired(
            self.vector(n, depth), self.draw.choice((self.vector(n, depth), self.number(depth)))
        )

    def _vector_where(self, n, depth):
        condition = f"{self.vector(n, depth)} > {self.literal()}"
        return f"np.where({condition}, {self.vector(n, depth)}, {self.vector(n, depth)})"

    def _vector_scan(self, n, depth):
        form = self.draw.choice(
            ("np.cumsum({})", "np.cumsum({})", "np.cumprod({})", "np.sort({})", "({}).copy()")
        )
        return form.format(self.vector(n, depth))

    def _vector_product(self, n, depth):
        if n > 3:
            return self._vector_sum(n, depth)
        matrix, vector = self.matrix(n, depth), self.vector(n, depth)
        return self.draw.choice(
            (f"({matrix} @ {vector})", f"np.dot({matrix}, {vector})", f"({vector} @ {matrix})")
        )

    def _vector_solved(self, n, depth):
        if n > 3:
            return self._vector_sum(n, depth)
        return f"np.linalg.solve({self.definite(n, depth)}, {self.vector(n, depth)})"

    def _vector_joined(self, n, depth):
        if n < 3:
            return f"np.clip({self.vector(n, depth)}, -0.55, 0.65)"
        return (
            f"np.concatenate(({self.vector(n - 2, depth)}, {self.vector(2, depth)}))"
            if n > 3
            else (f"np.diff({self.vector(n + 1, depth)})")
        )

    def _vector_looked_up(self, n, depth):
        return f"np.interp({self.bounded(self.vector(n, depth))}, GRID, {self.vector(5, 0)})"

    def _vector_folded(self, n, depth):
        if n > 3:
            return self._vector_scaled(n, depth)
        form = self.draw.choice(
            ("np.sum({}, axis=0)", "({}).sum(axis=1)", "np.diag({})", "({})[0]", "({})[:, 1]")
        )
        return form.format(self.matrix(n, depth))

    # Matrices.

    def matrix(self, k: int, depth: int) -> str:
        found = [name for name, size in self.scope.matrices.items() if size == k]
        if found and (depth <= 0 or self.draw.random() < 0.4):
            return self.draw.choice((*found, *(f"{name}.T" for name in found)))
        if depth <= 0:
            return f"np.outer({self.vector(k, 0)}, {self.vector(k, 0)})"
        depth -= 1
        kind = self.draw.randrange(8) if self.affords() else self.draw.choice((1, 2, 3, 6, 7))
        if kind == 0:
            return f"({self.matrix(k, depth)} @ {self.matrix(k, depth)})"
        if kind == 1:
            return f"({self.matrix(k, depth)} + {self.vector(k, depth)})"
        if kind == 2:
            return f"({self.number(depth)} * {self.matrix(k, depth)})"
        if kind == 3:
            return self.applied(self.matrix(k, depth), True)
        if kind == 4:
            return f"np.linalg.inv({self.definite(k, depth)})"
        if kind == 5:
            return f"np.linalg.cholesky({self.definite(k, depth)})"
        if kind == 6:
            return f"({self.matrix(k, depth)} * {self.matrix(k, depth)})"
        return f"np.outer({self.vector(k, depth)}, {self.vector(k, depth)})"

    def definite(self, k: int, depth: int) -> str:
        """Return a symmetric positive definite matrix."""
        vector = self.bounded(self.vector(k, depth))
        name = self.draw.choice(
            (f"np.outer({vector}, {vector})", f"np.diag({self.positive(self.vector(k, depth))})")
        )
        return f"(2.0 * np.eye({k}) + {name})"


VECTORS = tuple(name.removeprefix("_") for name in vars(Expressions) if name.startswith("_vector"))
CHEAP = tuple(
    f"vector_{name}" for name in ("sum", "scaled", "quotient", "power", "applied", "paired", "where")
)
