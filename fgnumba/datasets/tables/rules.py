"""The rules of a table: what was done to each column, learned from training rows and applied to others.

They are plain values, which a JSON file holds: a run folder keeps them as ``table.json``, so that new files are brought
to what its model was trained on.
"""

import json
import math
import os
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fgnumba.datasets.labels import MAX_CHARACTERS, MAX_CLASSES, warn
from fgnumba.datasets.tables.features import CategoryRule, NumberRule, Rule
from fgnumba.datasets.tables.frame import MAX_COLUMNS, Frame, Numbers, check_memory
from fgnumba.datasets.tables.reading import read_table
from fgnumba.datasets.tables.targets import ClassTarget, LabelTarget, RealTarget, Target
from fgnumba.errors import DatasetError, ShapeError, shown
from fgnumba.kernels.machine.memory import physical_memory, readable
from fgnumba.storage.files import read_whole
from fgnumba.validation import as_float
from fgnumba.validation.paths import path_of

MAX_RULES = 1 << 24
"""Largest size of a file of rules, in bytes."""
VERSION = 1
_KINDS = {"classes": ClassTarget, "numbers": RealTarget, "labels": LabelTarget}


@dataclass(frozen=True)
class TableRules:
    """What was done to the columns of a table.

    Parameters
    ----------
    features : tuple of NumberRule or CategoryRule
        The rule of each column that a model reads, in the order of its features: numbers are standardised, and text
        becomes one feature for each category.
    target : ClassTarget, RealTarget or LabelTarget
        What a model predicts.
    """

    features: tuple[Rule, ...]
    target: Target

    @property
    def width(self) -> int:
        """The number of features K of a row."""
        return sum(rule.width for rule in self.features)

    def apply(self, path: str | os.PathLike[str]) -> np.ndarray:
        """Return the features of another file's rows.

        Parameters
        ----------
        path : str or path
            The file, which has the columns that the rules name, in any order. Its other columns are not read.

        Returns
        -------
        ndarray, (n, K) float32
            The features, as those that a model was trained on.

        Raises
        ------
        DatasetError
            If the file cannot be read, a column is missing, or a cell is no number where one is required.

        Warns
        -----
        FgWarning
            If a text is none that the training rows have, or if a cell is missing in a column where none was.
        """
        return self.features_of(self._read(path, with_target=False))

    def labelled(self, path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
        """Return the features and the targets of another file's rows.

        Parameters
        ----------
        path : str or path
            The file, which has the target's columns, too.

        Returns
        -------
        x : ndarray, (n, K) float32
            The features.
        y : ndarray, (n,) int64 or (n, N) float32
            The classes; or the standardised targets, or 0 or 1 for each label.

        Raises
        ------
        DatasetError
            As for :meth:`apply`, or if a class is none of those that the rules know.
        """
        frame = self._read(path, with_target=True)
        return self.features_of(frame), self.target.encode(frame)

    def decode(self, predictions: np.ndarray) -> np.ndarray:
        """Return what a model's predictions mean in the table.

        Parameters
        ----------
        predictions : ndarray
            Classes, (n,) of whole numbers; or outputs, (n, N).

        Returns
        -------
        ndarray
            The name of each class, (n,) of text or numbers (of outputs, that of the largest one); or the targets in
            their columns' own units, (n, N) float64; or the value of each label, (n, N) of text or numbers.

        Raises
        ------
        ShapeError
            If there is not one output for each class or target.
        """
        predictions = np.asarray(predictions)
        if isinstance(self.target, ClassTarget):
            if predictions.ndim == 2 and predictions.shape[1] == self.target.outputs:
                predictions = predictions.argmax(axis=1)
            if predictions.ndim != 1 or predictions.dtype.kind not in "iu":
                raise ShapeError(
                    f"predictions have shape {predictions.shape}, {predictions.dtype}; (n,) whole numbers or "
                    f"(n, {self.target.outputs}) are required"
                )
            inside = (predictions >= 0) & (predictions < self.target.outputs)
            if not inside.all():
                wrong = predictions[int(np.argmin(inside))]
                raise ShapeError(f"class {wrong} is none of the table's {self.target.outputs}")
            return np.array(self.target.names)[predictions]
        if predictions.ndim != 2 or predictions.shape[1] != self.target.outputs:
            raise ShapeError(
                f"predictions have shape {predictions.shape}; (n, {self.target.outputs}) is required"
            )
        return self.target.undo(predictions)

    def features_of(self, frame: Frame) -> np.ndarray:
        """Return the features (n, K) float32 of a table that is read, and warn of what is unlike the training rows."""
        if frame.rows * self.width * 4 > physical_memory():
            raise DatasetError(
                f"{frame.where}: {frame.rows:,} rows of {self.width:,} features need "
                f"{readable(frame.rows * self.width * 4)}; this machine has {readable(physical_memory())}"
            )
        x = np.empty((frame.rows, self.width), np.float32)
        first = 0
        for rule in self.features:
            column = frame.column(rule.column)
            if isinstance(rule, NumberRule) != isinstance(column, Numbers):
                raise DatasetError(
                    f"{frame.where}: column {shown(rule.column)} holds text; numbers are required"
                )
            for line in rule.write(column, x[:, first : first + rule.width]):
                warn(f"{frame.where}: {line}")
            first += rule.width
        finite = np.isfinite(x)
        if not finite.all():
            row = int(np.argmin(finite.all(axis=1)))
            raise DatasetError(
                f"{frame.where}: row {row + 1}: a number is too far from those of the training rows"
            )
        return x

    def _read(self, path: str | os.PathLike[str], with_target: bool) -> Frame:
        texts = {rule.column: isinstance(rule, CategoryRule) for rule in self.features}
        if with_target:
            texts |= self.target.texts
        frame = read_table(path_of(path, "path", DatasetError), texts)
        for line in frame.notes:
            warn(line)
        for name in texts:
            frame.column(name)
        check_memory(frame.where, frame.rows, len(texts))
        return frame

    def to_json(self) -> str:
        """Return the rules as JSON text, which :meth:`from_json` reads back."""
        features = [
            {"kind": "number" if isinstance(rule, NumberRule) else "category", **asdict(rule)}
            for rule in self.features
        ]
        target = {
            "kind": next(kind for kind, type_ in _KINDS.items() if isinstance(self.target, type_)),
            **asdict(self.target),
        }
        return json.dumps(
            {"version": VERSION, "target": target, "features": features}, indent=1, allow_nan=False
        )

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "TableRules":
        """Return the rules in a file.

        Parameters
        ----------
        path : str or path
            The file, of at most 16 MiB.

        Raises
        ------
        DatasetError
            If the file cannot be read or is damaged.
        """
        file = path_of(path, "path", DatasetError)
        try:
            table = json.loads(read_whole(file, MAX_RULES).decode("utf-8"), object_pairs_hook=_once)
            return _rules_from(table)
        except OSError as error:
            raise DatasetError(f"{file}: cannot be read ({error.strerror or error})") from None
        except RecursionError:
            raise DatasetError(f"{file}: damaged: brackets are nested too deeply") from None
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DatasetError(f"{file}: damaged: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key occurs twice")
    return table


def _rules_from(table: Any) -> TableRules:
    _keys("the file", table, {"version", "target", "features"})
    if table["version"] != VERSION:
        raise ValueError(f"version is {shown(table['version'])}; {VERSION} is required")
    entries = table["features"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_COLUMNS:
        raise ValueError(f"features is {shown(entries)}; a list of rules is required")
    rules = tuple(_rule_from(entry) for entry in entries)
    if len({rule.column for rule in rules}) < len(rules):
        raise ValueError("a column has two rules")
    return TableRules(rules, _target_from(table["target"]))


def _rule_from(entry: Any) -> Rule:
    if isinstance(entry, dict) and entry.get("kind") == "category":
        _keys("a rule", entry, {"kind", "column", "categories", "missing"})
        return CategoryRule(
            _text("column", entry["column"]),
            _texts("categories", entry["categories"], MAX_COLUMNS),
            _flag(entry),
        )
    _keys("a rule", entry, {"kind", "column", "median", "mean", "deviation", "missing"})
    if entry["kind"] != "number":
        raise ValueError(f"kind is {shown(entry['kind'])}; number or category is required")
    median, mean, deviation = (_number(name, entry[name]) for name in ("median", "mean", "deviation"))
    return NumberRule(_text("column", entry["column"]), median, mean, _above_zero(deviation), _flag(entry))


def _above_zero(deviation: float) -> float:
    if deviation <= 0:
        raise ValueError(f"deviation is {deviation}; a number above 0 is required")
    return deviation


def _target_from(entry: Any) -> Target:
    if isinstance(entry, dict) and entry.get("kind") == "classes":
        _keys("target", entry, {"kind", "column", "names"})
        return ClassTarget(_text("column", entry["column"]), _names(entry["names"], MAX_CLASSES))
    if isinstance(entry, dict) and entry.get("kind") == "labels":
        _keys("target", entry, {"kind", "columns", "names"})
        labels, pairs = _texts("columns", entry["columns"], MAX_CLASSES), entry["names"]
        if not isinstance(pairs, list) or len(pairs) != len(labels):
            raise ValueError(f"names is {shown(pairs)}; {len(labels)} pairs of values are required")
        return LabelTarget(labels, tuple(_names(pair, 2) for pair in pairs))
    _keys("target", entry, {"kind", "columns", "mean", "deviation"})
    if entry["kind"] != "numbers":
        raise ValueError(f"kind is {shown(entry['kind'])}; classes or numbers is required")
    columns = _texts("columns", entry["columns"], MAX_CLASSES)
    moments = []
    for name in ("mean", "deviation"):
        values = entry[name]
        if not isinstance(values, list) or len(values) != len(columns):
            raise ValueError(f"{name} is {shown(values)}; {len(columns)} numbers are required")
        moments.append(tuple(_number(name, value) for value in values))
    _above_zero(min(moments[1]))
    return RealTarget(columns, *moments)


def _names(names: Any, most: int) -> tuple[str | int | float, ...]:
    if not isinstance(names, list) or not 2 <= len(names) <= most or len(set(names)) < len(names):
        raise ValueError(f"names is {shown(names)}; the different names of at least two classes are required")
    kinds = {type(name) for name in names}
    if kinds != {str} and not kinds <= {int, float}:
        raise ValueError(f"names is {shown(names)}; text or numbers are required")
    if sum(len(str(name)) for name in names) > MAX_CHARACTERS:
        raise ValueError(f"names have more than {MAX_CHARACTERS} characters")
    for name in (name for name in names if not isinstance(name, str)):
        _number("names", name)
    return tuple(names)


def _keys(what: str, table: Any, keys: set[str]) -> None:
    if not isinstance(table, dict) or set(table) != keys:
        raise ValueError(f"{what} is {shown(table)}; a table of {', '.join(sorted(keys))} is required")


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {shown(value)}; text is required")
    return value


def _texts(name: str, value: Any, most: int) -> tuple[str, ...]:
    if not isinstance(value, list) or not 1 <= len(value) <= most:
        raise ValueError(f"{name} is {shown(value)}; a list of text is required")
    found = tuple(_text(name, one) for one in value)
    if len(set(found)) < len(found):
        raise ValueError(f"{name}: a text occurs twice")
    return found


def _number(name: str, value: Any) -> float:
    number = as_float(value) if type(value) in (int, float) else None
    if number is None or not math.isfinite(number):
        raise ValueError(f"{name} is {shown(value)}; a finite number is required")
    return number


def _flag(entry: dict[str, Any]) -> bool:
    if type(entry["missing"]) is not bool:
        raise ValueError(f"missing is {shown(entry['missing'])}; true or false is required")
    return bool(entry["missing"])
