"""What is written to an array through one name is read through all others, tangents included."""

from collections import namedtuple

import numpy as np
import pytest
from numba import njit, typed, types
from numba.core.extending import overload
from numba.experimental import jitclass

import fgnumba as fg

Pair = namedtuple("Pair", "first second")


@njit
def write_first(a, b, x):
    a[0] = x
    return b[0]


@njit
def tail(a):
    return a[1:]


@njit
def in_tuple(a, b):
    return (b, a)


def names_and_views(x):
    a = np.zeros(6)
    b = a
    rows = a.reshape(2, 3)
    turned = rows.T
    turned[2, 1] = x  # a[5]
    b[1:3][0] = 2.0 * x  # a[1]
    rows[0] += x * x  # a[0:3]
    return a.copy()


def members_of_tuples(x):
    a, b = np.zeros(2), np.zeros(2)
    both = (a, b)
    both[1][0] = x
    named = Pair(a, b)
    named.first[1] = x * x
    for one in (a, b):
        one[0] += x
    return (a, b)


def through_callees(x):
    a, b, c = np.zeros(3), np.zeros(3), np.zeros(3)
    seen = write_first(a, a, x)
    tail(b)[0] = 3.0 * x
    in_tuple(b, c)[0][2] = x * x
    return np.array([seen, a[0], b[1], c[2]])


def swapped_buffers(x, steps):
    a, b = np.zeros(2), np.ones(2)
    for _ in range(steps):
        for j in range(2):
            b[j] = 0.5 * a[j] + x
        a, b = b, a
    return a + 0.0


def late_activity(x, n):
    a = np.zeros(3)
    b = np.ones(3)
    chosen = a
    for k in range(n):
        if k == 1:
            chosen = b
        if k > 1:
            chosen[k] = x * k
    return a + b


def rows_of_a_matrix(x):
    a = np.zeros((3, 2))
    for row in a:
        row[1] = x
    for k, row in enumerate(a):
        row[0] = k * x
    for row, other in zip(a[:1], a[2:]):  # noqa: B905 (Numba's zip has no strict)
        other[0] += row[1]
    return a


@pytest.mark.parametrize(
    ("function", "arguments", "derivative"),
    [
        (names_and_views, (), [6.0, 8.0, 6.0, 0.0, 0.0, 1.0]),
        (members_of_tuples, (), ([1.0, 6.0], [2.0, 0.0])),
        (through_callees, (), [1.0, 1.0, 3.0, 6.0]),
        (swapped_buffers, (4,), [1.875, 1.875]),
        (late_activity, (3,), [0.0, 0.0, 2.0]),
        (rows_of_a_matrix, (), [[0.0, 1.0], [1.0, 1.0], [3.0, 1.0]]),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_writes_are_seen_through_all_names(function, arguments, derivative):
    _, found = fg.jvp(function, (3.0, *arguments), (1.0, *(None for _ in arguments)))
    for one, right in zip(
        found if isinstance(found, tuple) else (found,),
        derivative if isinstance(derivative, tuple) else (derivative,),
        strict=True,
    ):
        np.testing.assert_array_equal(one, right)


def unknown(a):
    raise NotImplementedError


@overload(unknown)
def _unknown(a):
    return lambda a: a[1:]


@jitclass([("values", types.float64[:])])
class Holder:
    def __init__(self, values):
        self.values = values


def by_method(x):
    a = np.zeros(4)
    a.view(np.float64)[0] = x
    return a[0]


def by_iterator(x):
    a = np.zeros(4)
    for one in np.nditer(a):
        one[()] = x  # type: ignore[index]
    return a[0]


def by_dictionary(x):
    a = np.zeros(4)
    kept = {0: a}
    kept[0][0] = x
    return a[0]


def by_later_entry(x):
    a = np.zeros(4)
    kept = {0: np.zeros(4)}
    kept[1] = a
    kept[1][0] = x
    return a[0]


def by_list(x):
    a = np.zeros(4)
    kept = [np.zeros(4)]
    kept.append(a)
    kept[1][0] = x
    return a[0]


def by_typed_list(x):
    a = np.zeros(4)
    kept = typed.List()
    kept.append(a)
    kept[0][0] = x
    return a[0]


def by_object(x):
    a = np.zeros(4)
    Holder(a).values[0] = x
    return a[0]


def by_foreign_function(x):
    a = np.zeros(4)
    unknown(a)[0] = x
    return a[1]


FORMS = [
    by_method,
    by_iterator,
    by_dictionary,
    by_later_entry,
    by_list,
    by_typed_list,
    by_object,
    by_foreign_function,
]


@pytest.mark.parametrize("function", FORMS, ids=lambda one: one.__name__)
def test_memory_that_an_unknown_operation_shares_drops_no_tangent(function):
    """Either the tangent is right, or the function is refused in a line that names function, file and line."""
    try:
        _, derivative = fg.jvp(function, (3.0,), (1.0,))
    except fg.DifferentiationError as error:
        line = str(error)
        assert "\n" not in line
        assert line.startswith(f"{function.__name__}: ")
        assert __file__ in line
    else:
        assert derivative == 1.0
