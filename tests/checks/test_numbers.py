"""Numbers of every type: they are stored as Python's own, or an error says what is required."""

import copy
import dataclasses
import pickle
from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fgnumba
from fgnumba.validation import as_float
from tests import number_calls, number_cases

# What is given here is not what annotations ask for.
fg: Any = fgnumba
cases: Any = number_cases
calls: Any = number_calls

WHOLE = (np.uint8, np.int8, np.int16, np.uint16, np.int64, np.uint64)
REAL = (np.float16, np.float32, np.float64, np.longdouble)
PUBLIC = cases.public()


def as_whole(value):
    """Return what stands for a whole number as well as Python's does."""
    return [
        *(kind(value) for kind in WHOLE),
        *(np.array(value, kind) for kind in WHOLE),
        np.array(value, ">i4"),
    ]


def as_real(value):
    """Return what stands for a real number."""
    found = [*(kind(value) for kind in REAL), *(np.array(value, kind) for kind in REAL), Fraction(value)]
    return found + (as_whole(int(value)) if value == int(value) else [])


def as_flag(value):
    """Return what stands for true or false."""
    return [np.bool_(value), np.array(value)]


def as_several(values, one):
    """Return what stands for several numbers, each like `one` of them."""
    each = [one(value) for value in values]
    return [list(values), np.array(values), *(tuple(kinds) for kinds in zip(*each, strict=False))]


def likes(value):
    """Return what is as good as `value`."""
    if isinstance(value, bool):
        return as_flag(value)
    if isinstance(value, dict):
        return [{name: like} for name, one in value.items() for like in likes(one)]
    if isinstance(value, tuple):
        return as_several(value, as_real if isinstance(value[0], float) else as_whole)
    return as_real(value) if isinstance(value, float) else as_whole(value)


NO_NUMBER: tuple[Any, ...] = (
    *(True, np.True_, np.array(True), "3", b"3", np.nan, np.inf, -np.inf, 1j, np.timedelta64(3), Decimal(3)),
    *(np.array([[3.0]]), np.array("3"), object(), np.datetime64("2020"), 10**400, -(10**400)),
)
NO_WHOLE = (
    *NO_NUMBER,
    2.5,
    3.0,
    np.float32(3),
    np.array(3.0),
    Fraction(5, 2),
    np.array([]),
    1 << 70,
    -(1 << 70),
)
NO_REAL = (*NO_NUMBER, np.longdouble("inf"), np.array([0.5, 0.5]))
NO_FLAG = (0, 1, np.int8(1), 1.0, "yes", "True", np.array([True]), np.array(1))


def unlike(value):
    """Return what is not possible where `value` is."""
    if isinstance(value, bool):
        return NO_FLAG
    if isinstance(value, dict):
        return [{name: bad} for name, one in value.items() for bad in unlike(one)]
    if isinstance(value, tuple):
        return [(bad,) for bad in unlike(value[0])]
    return NO_REAL if isinstance(value, float) else NO_WHOLE


def assert_plain(value):
    """Hold what is stored to Python's own types, all the way down."""
    if isinstance(value, tuple | list):
        for one in value:
            assert_plain(one)
    elif isinstance(value, dict):
        assert_plain(list(value.values()))
    else:
        assert type(value) in (int, float, bool, str, type(None)), repr(value)


def assert_bits(found, expected):
    """Hold results to the same types and bits."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_bits(one, other)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        assert_bits(list(found.values()), list(expected.values()))
    elif isinstance(expected, np.ndarray):
        assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
        assert found.tobytes() == expected.tobytes()
    else:
        assert type(found) is type(expected)
        # NaN is like itself.
        assert repr(found) == repr(expected)


def refused(make):
    """Hold a call to a line that says what is required."""
    with pytest.raises(fg.FgError) as caught:
        make()
    assert "\n" not in str(caught.value)
    assert "required" in str(caught.value) or "is" in str(caught.value)


def test_everything_that_takes_a_number_is_in_the_table():
    listed = {*cases.NAMES, *calls.CALLS, *cases.EXEMPT}
    assert listed == PUBLIC.keys(), listed ^ PUBLIC.keys()
    for name, kind in cases.NAMES.items():
        assert dataclasses.is_dataclass(kind)
        given = {key for key in cases.numbers_of(kind) if key not in cases.OTHERS.get(kind, ())}
        assert given == cases.VALUES[kind].keys(), name
    for name, call in calls.CALLS.items():
        # Functions of numbers are no numbers, and neither are arrays by number.
        given = set(cases.numbers_of(PUBLIC[name])) - {"initial", "reference", "targets", "states"}
        assert given == call.arguments.keys(), name


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, values in cases.VALUES.items() for name in values]
)
def test_what_a_dataclass_stores_is_what_its_check_returned(kind, name):
    others = {**cases.OTHERS.get(kind, {}), **cases.VALUES[kind]}
    others |= cases.EXCLUDED_PAIRS.get(kind, {}).get(name, {"steps": None} if "epochs" in others else {})
    value = cases.VALUES[kind][name]

    def made(given):
        return kind(**{**others, name: given})

    expected = made(value)
    for like in likes(value):
        found = made(like)
        assert_plain(getattr(found, name))
        assert getattr(found, name) == getattr(expected, name)
        if kind not in (
            fg.datasets.Dataset,
            fg.datasets.TableDataset,
            cases.estimators.Setting,
            cases.layers.Site,
            cases.layers.Perturbation,
        ):
            assert found == expected
            assert repr(found) == repr(expected)
            assert (
                pickle.loads(pickle.dumps(found))
                == dataclasses.replace(found)
                == copy.deepcopy(found)
                == found
            )
        if kind in (*cases.LAYER, *cases.ESTIMATOR, *cases.OPTIMIZER, *cases.DIRECTION):
            assert hash(found) == hash(expected)
    for bad in unlike(value):
        refused(lambda bad=bad: made(bad))


@pytest.mark.parametrize(
    ("name", "argument"), [(name, key) for name, call in calls.CALLS.items() for key in call.arguments]
)
def test_a_call_does_the_same_with_every_kind_of_number(name, argument):
    run, arguments = calls.CALLS[name]
    arguments = dict(arguments)
    if name.endswith(".fit"):
        del arguments["epochs" if argument != "epochs" else "steps"]
        if argument == "epochs":
            arguments["steps"] = None
    value = arguments[argument]
    expected = run(**arguments)
    for like in likes(value):
        assert_bits(run(**{**arguments, argument: like}), expected)
    for bad in unlike(value):
        if argument != "factor" or as_float(bad) is None:
            refused(lambda bad=bad: run(**{**arguments, argument: bad}))
