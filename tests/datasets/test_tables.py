"""Tables as data sets: what becomes of each column and of the target, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fgnumba.datasets import TableDataset, load
from fgnumba.datasets.split import held_out
from fgnumba.datasets.tables.features import CategoryRule, NumberRule
from fgnumba.errors import ConfigError, DatasetError, FgWarning
from tests import tolerances_tables as tolerances

COLOURS = ("red", "green", "blue")


def write(path: Path, text: str, encoding="utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


def rows(count=40):
    """Return rows of a table as text: a number, a colour, a kind; and the same as arrays."""
    generator = np.random.default_rng(0)
    size = np.round(generator.uniform(-50, 900, count), 3)
    colour = [COLOURS[i % 3] for i in range(count)]
    kind = ["owl" if value > 300 else "ant" for value in size]
    return size, colour, kind


def csv(delimiter=",", count=40):
    size, colour, kind = rows(count)
    lines = [("size", "colour", "kind"), *zip(map(str, size.tolist()), colour, kind, strict=True)]
    return "".join(delimiter.join(line) + "\n" for line in lines)


def categories(data):
    rule = data.rules.features[1]
    assert isinstance(rule, CategoryRule)
    return rule.categories


def refused(match):
    return pytest.raises(DatasetError, match=match)


def test_numbers_are_standardised_and_categories_are_one_hot(tmp_path):
    data = load(write(tmp_path / "t.csv", csv()), target="kind")
    size, colour, kind = rows()
    classes = np.array([name == "owl" for name in kind], np.int64)
    test = held_out(classes, 0.2, 0)
    assert isinstance(data, TableDataset)
    assert (data.name, data.classes, data.labels, data.input_shape) == ("t.csv", 2, ("ant", "owl"), (4,))
    scaled = (size - size[~test].mean()) / size[~test].std()
    wanted = np.column_stack([scaled, *([name == one for name in colour] for one in sorted(COLOURS))])
    tolerances.FEATURES.check(data.x_train, wanted[~test])
    tolerances.FEATURES.check(data.x_test, wanted[test])
    np.testing.assert_array_equal(data.y_train, classes[~test], strict=True)
    np.testing.assert_array_equal(data.y_test, classes[test], strict=True)
    assert "'kind' holds text: classification" in data.notes[0]
    assert (
        f"{test.sum()} of 40 rows are the test data, a fifth of each class, drawn with seed 0"
        in data.notes[1]
    )


def test_the_split_is_always_the_same(tmp_path):
    path = write(tmp_path / "t.csv", csv())
    assert load(path, target="kind").digest == load(path, target=["kind"]).digest


TARGETS = {
    "text": (["a", "b"] * 10, None, ("a", "b")),
    "few whole numbers": ([3, 1] * 10, None, (1, 3)),
    "flags": (["true", "false"] * 10, None, ("false", "true")),
    "many whole numbers": (list(range(0, 60, 3)), None, None),
    "reals": ([0.5, 1.5] * 10, None, None),
    "reals as classes": ([0.5, 1.5] * 10, "classification", (0.5, 1.5)),
    "few whole numbers as numbers": ([3, 1] * 10, "regression", None),
}


@pytest.mark.parametrize(("values", "task", "labels"), TARGETS.values(), ids=TARGETS)
def test_the_target_decides_unless_somebody_says(tmp_path, values, task, labels):
    text = "x,y\n" + "".join(f"{i * i},{value}\n" for i, value in enumerate(values))
    data = load(write(tmp_path / "t.csv", text), target="y", task=task)
    assert data.labels == labels
    assert (data.classes is None) == (labels is None)
    assert ("regression" if labels is None else "classification") in data.notes[0]


def test_real_targets_are_standardised_and_returned_in_their_unit(tmp_path):
    generator = np.random.default_rng(1)
    y = generator.normal(5000, 300, (30, 2))
    text = "x,a,b\n" + "".join(f"{i * i},{a},{b}\n" for i, (a, b) in enumerate(y.tolist()))
    data = load(write(tmp_path / "t.csv", text), target=("a", "b"))
    assert (data.classes, data.outputs) == (None, 2)
    test = held_out(np.zeros(30, np.int64), 0.2, 0)
    scaled = (y - y[~test].mean(axis=0)) / y[~test].std(axis=0)
    tolerances.FEATURES.check(data.y_train, scaled[~test])
    tolerances.TARGETS.check(data.rules.decode(data.y_test), y[test])


def test_missing_cells_become_the_median_and_a_feature(tmp_path):
    lines = [
        f"{i if i % 4 else ''},{'NA' if i % 5 == 0 else 'u' if i % 2 else 'v'},{i % 2}\n" for i in range(40)
    ]
    with pytest.warns(FgWarning, match=r"18 cells are missing, in 'n', 'c': a number becomes the median"):
        data = load(write(tmp_path / "t.csv", "n,c,y\n" + "".join(lines)), target="y")
    number, category = data.rules.features
    assert isinstance(number, NumberRule)
    x = np.concatenate([data.x_train, data.x_test])
    assert (number.width, category.width, x.shape[1]) == (2, 3, 5)
    assert x[:, 1].sum() == 10
    assert x[:, 4].sum() == 8
    at = (number.median - number.mean) / number.deviation
    tolerances.FEATURES.check(x[x[:, 1] == 1, 0], np.full(10, at))
    assert not x[x[:, 4] == 1, 2:4].any()


def test_columns_that_tell_nothing_are_left_out_and_named(tmp_path):
    text = ",id,one,twin,x,empty,y\n" + "".join(
        f"{i},{i + 7},k,{i * i},{i * i},,{i % 2}\n" for i in range(30)
    )
    with pytest.warns(FgWarning) as caught:
        data = load(write(tmp_path / "t.csv", text), target="y")
    assert [rule.column for rule in data.rules.features] == ["twin"]
    said = " ".join(str(warning.message) for warning in caught)
    for part in (
        "'', 'id', which counts the rows",
        "'one', which has one value",
        "'x', which tells the same as 'twin'",
    ):
        assert part in said
    assert "'empty', which has no value in the training rows" in said


@pytest.mark.parametrize(("delimiter", "name"), [(";", "semicolons"), ("\t", "tabs"), ("|", "bars")])
def test_delimiters_are_found_and_said(tmp_path, delimiter, name):
    plain = load(write(tmp_path / "a.csv", csv()), target="kind")
    with pytest.warns(FgWarning, match=f"{name} are taken as the delimiter"):
        data = load(write(tmp_path / "b.csv", csv(delimiter)), target="kind")
    assert data.digest == plain.digest


def test_decimal_commas(tmp_path):
    plain = load(write(tmp_path / "a.csv", csv()), target="kind")
    with pytest.warns(FgWarning, match="semicolons"):
        data = load(write(tmp_path / "b.csv", csv(";").replace(".", ",")), target="kind")
    assert data.digest == plain.digest


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le-mark"])
def test_encodings_with_a_mark(tmp_path, encoding):
    text = csv().replace("red", "röd")
    content = ("\ufeff" + text).encode("utf-16-le") if encoding == "utf-16-le-mark" else text.encode(encoding)
    (tmp_path / "t.csv").write_bytes(content)
    assert categories(load(tmp_path / "t.csv", target="kind")) == ("blue", "green", "röd")


def test_windows_1252_is_said(tmp_path):
    with pytest.warns(FgWarning, match="not UTF-8 text; read as Windows-1252"):
        data = load(write(tmp_path / "t.csv", csv().replace("red", "röd"), "cp1252"), target="kind")
    assert "röd" in categories(data)


def test_quotes_and_line_ends(tmp_path):
    text = csv().replace("red", '"dark, ""red""\nor so"').replace("\n", "\r\n")
    data = load(write(tmp_path / "t.csv", text), target="kind")
    assert 'dark, "red"\r\nor so' in categories(data)


def test_thousands_of_columns(tmp_path):
    x = np.random.default_rng(0).integers(0, 1000, (20, 3000))
    lines = [",".join([*(f"c{i}" for i in range(3000)), "y"])]
    lines += [",".join([*map(str, row), str(i % 2)]) for i, row in enumerate(x.tolist())]
    data = load(write(tmp_path / "t.csv", "\n".join(lines)), target="y")
    assert data.input_shape == (3000,)


BAD = {
    "empty": ("", "y", "is empty; a line of names"),
    "names alone": ("x,y\n", "y", "has a line of names and no rows"),
    "few rows": ("x,y\n1,a\n2,b\n", "y", "2 rows; at least 5"),
    "no names": ("1,2\n3,4\n", "y", "the first line holds numbers; a line with the names"),
    "unknown target": (csv(), "species", "no column 'species'; the columns are 'size', 'colour', 'kind'"),
    "two of one name": ("x,x,y\n" + "1,2,a\n" * 9, "y", "two columns are called 'x'"),
    "ragged": (
        csv() + "1,2\n",
        "kind",
        "line 42 has 2 fields and the first line 3, with commas between them",
    ),
    "open quote": (csv() + '"1,2,3\n', "kind", "not a table of text"),
    "one class": (
        "x,y\n" + "".join(f"{i},a\n" for i in range(9)),
        "y",
        "'y' is 'a' in every row; two classes",
    ),
    "one number": (
        "x,y\n" + "".join(f"{i},2.5\n" for i in range(9)),
        "y",
        "'y' is 2.5 in every training row",
    ),
    "missing targets": (
        csv() + "1,red,\n2,red,?\n",
        "kind",
        "'kind' is missing in 2 of 42 rows, first in row 41",
    ),
    "dates": (
        "when,y\n" + "".join(f"2024-01-{i:02},{i % 2}\n" for i in range(1, 29)),
        "y",
        "'when' holds dates or times",
    ),
    "names of people": (
        "who,x,y\n" + "".join(f"n{i},{i * i},{i % 2}\n" for i in range(50)),
        "y",
        "'who' has 40 different texts",
    ),
    "target alone": (
        "y\n" + "a\nb\n" * 9,
        "y",
        "no column but the target tells anything; there is none",
    ),
    "nothing told": (
        "x,y\n" + "1,a\n1,b\n" * 9,
        "y",
        "no column but the target tells anything; 'x'",
    ),
    "infinity": ("x,y\n" + "1e999,a\n2,b\n" * 9, "y", "row 1 of column 'x' is infinite"),
    "overflow": ("x,y\n" + "1e300,a\n-1e300,b\n" * 9, "y", "the numbers of column 'x' are too large"),
    "null bytes": ("x,y\n1,\0\n", "y", "not text: it holds null bytes"),
    "text as regression": (
        csv(),
        ("kind", "size"),
        "target 'kind' holds text; several targets must be numbers",
    ),
}


@pytest.mark.filterwarnings("ignore::fgnumba.errors.FgWarning")
@pytest.mark.parametrize(("text", "target", "match"), BAD.values(), ids=BAD)
def test_bad_tables(tmp_path, text, target, match):
    with refused(match) as caught:
        load(write(tmp_path / "t.csv", text), target=target)
    assert str(tmp_path / "t.csv") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_calls(tmp_path):
    path = write(tmp_path / "t.csv", csv())
    with refused("a table: target, the name of the column that is to be predicted, is required"):
        load(path)
    with refused("target applies to tables; 'digits' has its own labels"):
        load("digits", target="y")
    with refused("a folder is no table"):
        load(tmp_path, target="y")
    with refused("no table; a file that ends in .csv"):
        load(write(tmp_path / "t.xls", ""), target="y")
    with refused("cannot be read"):
        load(tmp_path / "absent.csv", target="y")
    with refused("the target 'kind' holds text, such as '(owl|ant)'; regression needs numbers"):
        load(path, target="kind", task="regression")
    with pytest.raises(ConfigError, match="task is 'ranking'"):
        load(path, target="kind", task="ranking")
    bad: list[Any] = [(), ("kind", "kind"), (1,), ""]
    for target in bad:
        with pytest.raises(ConfigError, match="target is"):
            load(path, target=target)


def test_a_line_without_an_end(tmp_path, monkeypatch):
    monkeypatch.setattr("fgnumba.datasets.tables.csv_file.MAX_ROW", 1000)
    with refused("a row of 1,000 characters or more"):
        load(write(tmp_path / "t.csv", csv() + "x" * 2000), target="kind")


def test_tables_beyond_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("fgnumba.datasets.tables.frame.physical_memory", lambda: 1000)
    with refused("40 rows of 3 columns need .* this machine has"):
        load(write(tmp_path / "t.csv", csv()), target="kind")


def columns_of():
    size, colour, kind = rows()
    return {"size": size, "colour": np.array(colour), "kind": np.array(kind)}


def test_an_npz_of_columns_is_the_same_table(tmp_path):
    np.savez(tmp_path / "t.npz", **columns_of())
    assert (
        load(tmp_path / "t.npz", target="kind").digest
        == load(write(tmp_path / "t.csv", csv()), target="kind").digest
    )
    np.savez(tmp_path / "t.npz", **columns_of() | {"size": np.zeros((40, 2))})
    with refused(r"size has shape \(40, 2\); a column \(n,\) is required"):
        load(tmp_path / "t.npz", target="kind")
    np.savez(tmp_path / "t.npz", **columns_of() | {"size": np.zeros(39)})
    with refused("its columns have .39, 40. rows"):
        load(tmp_path / "t.npz", target="kind")


def test_a_parquet_file_is_the_same_table(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(columns_of())
    parquet.write_table(table, tmp_path / "t.parquet", row_group_size=7)
    data = load(tmp_path / "t.parquet", target="kind")
    assert data.digest == load(write(tmp_path / "t.csv", csv()), target="kind").digest
    np.testing.assert_array_equal(
        data.rules.apply(tmp_path / "t.csv"), data.rules.apply(tmp_path / "t.parquet")
    )
    content = (tmp_path / "t.parquet").read_bytes()
    for damaged in (content[:200], b"", content[:-8] + bytes(8)):
        (tmp_path / "u.parquet").write_bytes(damaged)
        with refused("not a Parquet file, or a damaged one"):
            load(tmp_path / "u.parquet", target="kind")


def test_parquet_columns_of_other_types(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    y = pyarrow.array([True, False] * 10)
    columns = {"a": pyarrow.array([None, *range(0, 190, 10)]), "d": pyarrow.array([1.5, 2.5] * 10), "y": y}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet")
    with pytest.warns(FgWarning, match="1 cells are missing, in 'a'"):
        data = load(tmp_path / "t.parquet", target="y")
    assert data.labels == ("False", "True")
    for kind in (pyarrow.timestamp("s"), pyarrow.date32()):
        when = (
            pyarrow.array(range(20))
            .cast(pyarrow.int32() if kind == pyarrow.date32() else pyarrow.int64())
            .cast(kind)
        )
        parquet.write_table(pyarrow.table({"w": when, "y": y}), tmp_path / "t.parquet")
        with refused("column 'w' is .*, a time; numbers, such as days"):
            load(tmp_path / "t.parquet", target="y")
    parquet.write_table(pyarrow.table({"w": [[1]] * 20, "y": y}), tmp_path / "t.parquet")
    with refused("column 'w' is list.*; numbers, flags or text"):
        load(tmp_path / "t.parquet", target="y")
