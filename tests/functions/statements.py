"""Random statements of a program: loops, branches, arrays that are written to, views and other names of them."""

from tests.functions.expressions import Expressions

FEATURES = ("loop", "branch", "alias", "tuples", "fill", "entry", "over", "nested", "called", "until")
BLOCKS = ("loop", "branch", "fill", "over", "nested", "until")


class Statements(Expressions):
    """Writes statements of what a scope holds into `lines`."""

    def __init__(self, draw):
        super().__init__(draw)
        self.features = {one for one in FEATURES if draw.random() < 0.6} or {"loop"}
        self.lines: list[str] = []
        self.indent = 1
        self.loops = 0

    def write(self, line: str) -> None:
        self.lines.append("    " * self.indent + line)

    def statement(self) -> None:
        choices = ["assign", "assign", "update", "array"]
        choices += [
            one for one in FEATURES if one in self.features and (self.indent < 3 or one not in BLOCKS)
        ]
        getattr(self, f"_{self.draw.choice(choices)}")()

    def _block(self, statements: int) -> None:
        """Write statements that go one step deeper; what they define is theirs."""
        kept = self.scope.copy()
        self.indent += 1
        for _ in range(statements):
            self.draw.choice((self._update, self._update, self._entry, self.statement))()
        self.indent -= 1
        self.scope = kept

    def _assign(self) -> None:
        name = self.fresh("s")
        self.write(f"{name} = {self.number(2)}")
        self.scope.scalars.append(name)

    def _update(self) -> None:
        if not self.scope.scalars:
            return self._assign()
        name = self.draw.choice(self.scope.scalars)
        value = self.number(1)
        line = (f"{name} += {value}", f"{name} = 0.5 * {name} + {value}", f"{name} *= {self.bounded(value)}")
        self.write(self.draw.choice((*line, f"{name} -= 0.3 * {value}", f"{name} /= {self.positive(value)}")))
        return None

    def _array(self) -> None:
        if self.draw.random() < 0.25:
            name, k = self.fresh("h"), self.draw.choice((2, 3))
            self.write(f"{name} = {self.matrix(k, 2)}")
            # The name of an array of another's memory may be written to, too: that is aliasing.
            self.scope.matrices[name] = k
        else:
            name, n = self.fresh("w"), self.draw.choice((2, 3, 4, 5))
            self.write(f"{name} = {self.vector(n, 2)}")
            self.scope.vectors[name] = n
            if self.lines[-1].partition("= ")[2].startswith("TABLE"):
                self.scope.constants.add(name)

    def _entry(self) -> None:
        """Write to a part of an array."""
        targets = [name for name in self.scope.vectors if name not in self.scope.constants]
        if not targets or (self.scope.matrices and self.draw.random() < 0.3):
            if self.scope.matrices:
                return self._matrix_entry()
            name, n = self.fresh("w"), self.draw.choice((2, 3, 4))
            self.write(f"{name} = np.zeros({n})")
            self.scope.vectors[name], targets = n, [name]
        name = self.draw.choice(targets)
        n = self.scope.vectors[name]
        kind = self.draw.choice(("one", "one", "one", "slice", "all"))
        operator = self.draw.choice(("=", "+=", "-=", "*="))
        wrap = self.bounded if operator == "*=" else lambda value: value
        if kind == "one":
            self.write(f"{name}[{self.index(n)}] {operator} {wrap(self.number(1))}")
        elif kind == "all":
            self.write(f"{name}[:] {operator} {wrap(self.vector(n, 1, fresh=True))}")
        else:
            part, length = self.draw.choice(
                (("1:", n - 1), (":-1", n - 1), ("::2", (n + 1) // 2), ("::-1", n))
            )
            value = self.draw.choice((self.number(1), self.vector(length, 1, fresh=True)))
            self.write(f"{name}[{part}] {operator} {wrap(value)}")
        return None

    def _matrix_entry(self) -> None:
        name = self.draw.choice(list(self.scope.matrices))
        k = self.scope.matrices[name]
        operator = self.draw.choice(("=", "+=", "*="))
        wrap = self.bounded if operator == "*=" else lambda value: value
        if self.draw.random() < 0.6:
            self.write(f"{name}[{self.index(k)}, {self.index(k)}] {operator} {wrap(self.number(1))}")
        else:
            part = self.draw.choice((f"{self.index(k)}", f":, {self.index(k)}"))
            self.write(f"{name}[{part}] {operator} {wrap(self.vector(k, 1, fresh=True))}")

    # Features.

    def _loop(self) -> None:
        counter, turns = f"i{self.loops}", self.draw.randint(2, 4)
        self.loops += 1
        if self.draw.random() < 0.5:
            # A name that begins as a constant, or as an integer, and becomes active.
            name = self.fresh("s")
            self.write(f"{name} = {self.draw.choice(('0', '0.0', '1.0', '0.5'))}")
            self.scope.scalars.append(name)
            first = f"{name} += {self.number(1)}"
        else:
            first = ""
        kept = dict(self.scope.integers)
        if self.draw.random() < 0.7:
            ends = (f"{turns}", f"0, {turns}", f"{turns - 1}, -1, -1")
            self.write(f"for {counter} in range({self.draw.choice(ends)}):")
            last = ""
        else:
            self.write(f"{counter} = 0")
            self.write(f"while {counter} < {turns}:")
            last = f"{counter} += 1"
        self.scope.integers[counter] = turns
        if first:
            self.indent += 1
            self.write(first)
            if not last and self.draw.random() < 0.2:
                self.write(f"if {counter} == 1:")
                self.write(f"    {self.draw.choice(('continue', 'break'))}")
            self.indent -= 1
        self._block(self.draw.randint(1, 2))
        if last:
            self.indent += 1
            self.write(last)
            self.indent -= 1
        self.scope.integers = kept

    def _branch(self) -> None:
        name = self.fresh("s")
        if self.draw.random() < 0.5:
            self.write(f"{name} = {self.draw.choice(('0.0', '1', self.number(0)))}")
        self.write(f"if {self.condition()}:")
        for last in (False, True):
            self.indent += 1
            self.write(f"{name} = {self.number(2)}")
            self.indent -= 1
            if self.draw.random() < 0.5:
                self._block(1)
            if not last:
                if self.draw.random() < 0.2:
                    self.write(f"elif {self.condition()}:")
                    self.write(f"    {name} = {self.number(1)}")
                self.write("else:")
        self.scope.scalars.append(name)

    def _alias(self) -> None:
        sources = [name for name in self.scope.vectors if name not in self.scope.constants]
        if self.scope.matrices and (not sources or self.draw.random() < 0.3):
            return self._row()
        if not sources:
            return self._array()
        source = self.draw.choice(sources)
        n, name = self.scope.vectors[source], self.fresh("b")
        parts = (("", n), ("[::2]", (n + 1) // 2), ("[1:]", n - 1), ("[::-1]", n), ("[:]", n), (".T", n))
        part, length = self.draw.choice([part for part in parts if part[1] > 0])
        self.write(f"{name} = {source}{part}")
        self.scope.vectors[name] = length
        self.write(f"{name}[{self.index(length)}] {self.draw.choice(('+=', '='))} {self.number(1)}")
        if self.draw.random() < 0.5:
            self.write(f"{source}[{self.index(n)}] += {self.number(1)}")
        return None

    def _row(self) -> None:
        """Give a name to a part of a matrix, and write to it."""
        source, name = self.draw.choice(list(self.scope.matrices)), self.fresh("b")
        k = self.scope.matrices[source]
        part, length = self.draw.choice(
            (
                (f"[{self.index(k)}]", k),
                (f"[:, {self.index(k)}]", k),
                (f"[{k - 1}, ::-1]", k),
                ("[0][1:]", k - 1),
            )
        )
        self.write(f"{name} = {source}{part}")
        self.scope.vectors[name] = length
        self.write(f"{name}[{self.index(length)}] {self.draw.choice(('+=', '='))} {self.number(1)}")

    def _tuples(self) -> None:
        if self.draw.random() < 0.5:
            name = self.fresh("t")
            self.write(f"{name} = ({self.number(1)}, {self.number(1)})")
            self.scope.tuples[name] = 2
            return
        arrays = [name for name in self.scope.vectors if name not in self.scope.constants]
        if arrays and self.draw.random() < 0.3:
            # An array in a tuple is the array: writing to one writes to the other.
            name, array = self.fresh("t"), self.draw.choice(arrays)
            self.write(f"{name} = ({self.number(0)}, {array})")
            self.write(f"{name}[1][{self.index(self.scope.vectors[array])}] += {name}[0] * {self.number(0)}")
            return
        first, second = self.fresh("s"), self.fresh("s")
        self.write(f"{first}, {second} = {self.number(1)}, {self.number(1)}")
        if self.draw.random() < 0.5:
            self.write(f"{first}, {second} = {second}, {first} + 0.5 * {second}")
        self.scope.scalars += [first, second]

    def _fill(self) -> None:
        """Write a new array, entry by entry."""
        name, n, counter = self.fresh("w"), self.draw.choice((3, 4, 5)), f"i{self.loops}"
        self.loops += 1
        self.write(f"{name} = np.{self.draw.choice((f'empty({n})', f'zeros({n})', f'full({n}, 0.5)'))}")
        self.write(f"for {counter} in range({n}):")
        self.scope.integers[counter] = n
        self.write(f"    {name}[{counter}] = {self.number(1)}")
        del self.scope.integers[counter]
        self.scope.vectors[name] = n
        if self.draw.random() < 0.5:
            self.write(f"for {counter} in range(1, {n}):")
            self.write(
                f"    {name}[{counter}] += 0.4 * {name}[{counter} - 1] * {self.bounded(self.number(0))}"
            )

    def _over(self) -> None:
        """Write a loop over an array's entries."""
        arrays = list(self.scope.vectors)
        if not arrays:
            return self._array()
        name, array, entry = self.fresh("s"), self.draw.choice(arrays), self.fresh("e")
        self.write(f"{name} = {self.draw.choice(('0', '0.0', self.number(0)))}")
        heads = [f"for {entry} in {array}:", f"for _, {entry} in enumerate({array}):"]
        heads += [f"for {entry}, _ in zip({array}, {other}):" for other in arrays]
        self.write(self.draw.choice(heads))
        self.scope.scalars += [name, entry]
        self.indent += 1
        self.write(f"{name} += {self.number(1)} * {entry}")
        self.indent -= 1
        self.scope.scalars.remove(entry)
        return None

    def _nested(self) -> None:
        """Write two loops, one in the other, over a new matrix."""
        name, k, first, second = (
            self.fresh("h"),
            self.draw.choice((2, 3)),
            f"i{self.loops}",
            f"i{self.loops + 1}",
        )
        self.loops += 2
        self.write(f"{name} = np.{self.draw.choice((f'empty(({k}, {k}))', f'zeros(({k}, {k}))'))}")
        self.write(f"for {first} in range({k}):")
        self.write(f"    for {second} in range({k}):")
        self.scope.integers |= {first: k, second: k}
        self.write(f"        {name}[{first}, {second}] = {self.number(1)}")
        if self.draw.random() < 0.5:
            self.write(f"        if {first} > {second}:")
            self.write(f"            {name}[{first}, {second}] += 0.5 * {name}[{second}, {first}]")
        del self.scope.integers[first], self.scope.integers[second]
        self.scope.matrices[name] = k

    def _called(self) -> None:
        """Let a compiled function of the module write to an array, and use what it returns: that array."""
        arrays = [name for name in self.scope.vectors if name not in self.scope.constants]
        if not arrays:
            return self._array()
        name = self.draw.choice(arrays)
        call = f"stir({name}, {self.number(1)})"
        if self.draw.random() < 0.5:
            self.write(call)
            return None
        other = self.fresh("b")
        self.write(f"{other} = {call}")
        self.scope.vectors[other] = self.scope.vectors[name]
        self.write(f"{other}[0] += {self.number(0)}")
        return None

    def _until(self) -> None:
        """Write a loop that ends by what it computes."""
        name, counter = self.fresh("s"), f"i{self.loops}"
        self.loops += 1
        self.write(f"{name}, {counter} = {self.number(1)}, 0")
        self.scope.scalars.append(name)
        self.write(f"while {name} * {name} < {round(self.draw.uniform(1.0, 9.0), 2)} and {counter} < 4:")
        self.write(f"    {name} = 1.5 * {name} + {self.bounded(self.number(1))}")
        self.write(f"    {counter} += 1")
