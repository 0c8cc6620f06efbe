"""``Trainer.fit`` on what libraries of data frames have beside plain frames and series."""

import numpy as np
import pytest

import fgnumba as fg
from tests.training.test_class_names import NUMBERS, TEXT, X, bits, classifier


def test_arrays_and_indices_of_the_libraries_of_frames():
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    pytest.importorskip("narwhals")
    expected = classifier()
    expected.fit(X, TEXT, steps=2)
    categories = pandas.CategoricalDtype(["eel", "cat", "dog", "fox"])
    for labels in (
        pandas.Series(TEXT, dtype=categories),
        pandas.Series(TEXT, dtype=categories).array,
        pandas.Series(TEXT, dtype="string").array,
        pandas.Index(TEXT),
        pyarrow.array(TEXT.tolist()),
    ):
        trainer = classifier()
        trainer.fit(X, labels, steps=2)
        assert trainer.model.classes == ("cat", "dog", "eel")
        assert bits(trainer) == bits(expected)
    for labels in (pandas.array([*TEXT[1:], None]), np.array([*TEXT[1:], pandas.NA], object)):
        with pytest.raises(fg.DatasetError, match=r"y\[29\] is .*; every label is required"):
            classifier().fit(X, labels, steps=2)
    numbers = pandas.array(NUMBERS.tolist(), dtype="Int64")
    whole = classifier()
    whole.fit(X, numbers, steps=2)
    assert bits(whole) == bits(expected)


def test_frames_that_cannot_be_read_are_refused_in_a_line():
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("narwhals")
    table = pandas.DataFrame(X, columns=list("abcd"))
    for frame, message in (
        (
            polars.DataFrame(X).lazy(),
            "X is a LazyFrame that cannot be read .*; .* a lazy one must be collected first",
        ),
        (pyarrow.RecordBatch.from_pandas(table), "X is a RecordBatch that cannot be read"),
        (pandas.DataFrame(X, columns=list("aabc")), "X is a DataFrame that cannot be read .*'a' 2 times"),
    ):
        with pytest.raises(fg.DtypeError, match=message) as caught:
            classifier().fit(frame, TEXT, steps=1)
        assert "\n" not in str(caught.value)
