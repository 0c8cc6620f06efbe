"""Numbers of 50 digits and more that take the place of floats in a program, and what one run of it did.

`Number` stands for a float. Each operation on it is handed to the current `Run`, which either records the result or
shifts it by a rounding, and which keeps the smallest margin by which a comparison was decided. A program whose
comparisons have large margins goes the same way with float64 numbers, and with its inputs moved by a hair.
"""

import contextlib
from typing import Any

from mpmath import mp


class Run:
    """One run of a program.

    Parameters
    ----------
    shifts : what is added to the result of each operation, in the order of the operations; None: nothing, and the
        results are recorded in `trace`.
    """

    def __init__(self, shifts: list | None = None):
        self.shifts = shifts
        self.trace: list = []
        self.margin = mp.inf
        self.position = 0

    def made(self, value: Any) -> "Number":
        if self.shifts is None:
            self.trace.append(value)
            return Number(value)
        value += self.shifts[self.position]
        self.position += 1
        return Number(value)


_current = [Run()]


@contextlib.contextmanager
def running(run: Run):
    """Let operations report to `run`."""
    _current.append(run)
    try:
        yield run
    finally:
        _current.pop()


def made(value) -> "Number":
    """Return the result of an operation, as the current run sees it."""
    return _current[-1].made(value)


def decided(left, right) -> None:
    """Note by how much two numbers differ, relative to their size or 1, where a decision depends on it."""
    margin = abs(left - right) / (1 + abs(left) + abs(right))
    run = _current[-1]
    run.margin = min(run.margin, margin)


def plain(value):
    """Return the mpf of a number of any kind."""
    if isinstance(value, Number):
        return value.value
    return mp.mpf(int(value)) if hasattr(value, "__index__") else mp.mpf(float(value))


def _foreign(other) -> bool:
    return hasattr(other, "shape") and other.shape != ()


class Number:
    """A real number in the place of a float; NumPy's arrays of objects hold them."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __add__(self, other):
        return NotImplemented if _foreign(other) else made(self.value + plain(other))

    def __sub__(self, other):
        return NotImplemented if _foreign(other) else made(self.value - plain(other))

    def __rsub__(self, other):
        return made(plain(other) - self.value)

    def __mul__(self, other):
        return NotImplemented if _foreign(other) else made(self.value * plain(other))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other):
        return NotImplemented if _foreign(other) else made(self.value / plain(other))

    def __rtruediv__(self, other):
        return made(plain(other) / self.value)

    def __pow__(self, other):
        if _foreign(other):
            return NotImplemented
        exponent = int(other) if hasattr(other, "__index__") else plain(other)
        return made(self.value**exponent)

    def __rpow__(self, other):
        return made(plain(other) ** self.value)

    def __floordiv__(self, other):
        if _foreign(other):
            return NotImplemented
        return made(whole(self.value / plain(other), mp.floor))

    def __mod__(self, other):
        if _foreign(other):
            return NotImplemented
        other = plain(other)
        return made(self.value - other * whole(self.value / other, mp.floor))

    def __neg__(self):
        return Number(-self.value)

    def __pos__(self):
        return Number(self.value)

    def __abs__(self):
        decided(self.value, 0)
        return Number(abs(self.value))

    def __float__(self):
        return float(self.value)

    def __int__(self):
        return int(whole(self.value, mp.floor if self.value > 0 else mp.ceil))

    def conjugate(self):
        return self

    def _compared(self, other):
        other = plain(other)
        decided(self.value, other)
        return other

    def __lt__(self, other):
        return NotImplemented if _foreign(other) else self.value < self._compared(other)

    def __le__(self, other):
        return NotImplemented if _foreign(other) else self.value <= self._compared(other)

    def __gt__(self, other):
        return NotImplemented if _foreign(other) else self.value > self._compared(other)

    def __ge__(self, other):
        return NotImplemented if _foreign(other) else self.value >= self._compared(other)

    def __eq__(self, other):
        return NotImplemented if _foreign(other) else self.value == self._compared(other)

    def __ne__(self, other):
        return NotImplemented if _foreign(other) else self.value != self._compared(other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self):
        decided(self.value, 0)
        return self.value != 0


def whole(value, rounding):
    """Return `value` rounded to a whole number, and note how far away from a jump it is."""
    decided(value, rounding(value))
    decided(value, rounding(value) + (1 if rounding is mp.floor else -1))
    return rounding(value)
