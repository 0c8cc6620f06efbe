"""Targets as people have them, such as labels that are text, in the form in which a loss takes them."""

import logging
import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.dataset import Labels
from fgnumba.errors import ConfigError, DatasetError, DtypeError, FgWarning, ShapeError, shown
from fgnumba.layers.losses import FunctionLoss, Loss
from fgnumba.model.described import checked_classes
from fgnumba.model.graph import Graph
from fgnumba.validation import plain
from fgnumba.validation.arrays import REAL, as_array, as_tensor, check_finite
from fgnumba.validation.frames import is_frame, is_series, of_frame, of_series, only_column

LOG = logging.getLogger("fgnumba")


def encoded(loss: Loss, model: Graph, y: Any) -> Any:
    """Return targets in which the labels in ``model.classes`` are replaced by their numbers.

    Targets that are class numbers or real numbers already are returned as they are.

    Parameters
    ----------
    loss : Loss
        The loss that will take them.
    model : Graph
        The model.
    y : array_like
        The targets of n examples.

    Raises
    ------
    DatasetError
        A label is none of the model's classes.
    DtypeError
        The labels are text, and ``model.classes`` is None.
    """
    if loss.takes_labels:
        names = names_of(model)
        if names is None and not (is_series(y) or is_frame(y) or _may_be_text(y)):
            return y
        labels = as_labels("y", y)
        if positions_of(model) is None:
            labels = _flat(labels)
        if names is not None:
            return numbers_of("y", labels.reshape(-1), names).reshape(labels.shape)
        if labels.dtype.kind == "O" and labels.size:
            raise DtypeError(
                f"y is text, such as {shown(labels.flat[0])}, and the model has no names of classes: set model.classes "
                "to them, in the order of the outputs"
            )
        return labels
    if is_frame(y):
        y = of_frame("y", y)
    elif is_series(y):
        y = of_series("y", y)
    if model.outputs == 1 and getattr(y, "ndim", None) == 1:
        y = y.reshape(-1, 1)
    return y


def _may_be_text(y: Any) -> bool:
    if isinstance(y, np.ndarray):
        return y.dtype.kind in "UTO"
    return isinstance(y, list | tuple) and len(y) > 0 and isinstance(y[0], str)


def names_of(model: Graph) -> Labels | None:
    """Return what each class is called, or None if the classes of a model have no names.

    Parameters
    ----------
    model : Graph
        The model, whose ``classes`` a user may have set to any sequence.

    Raises
    ------
    ConfigError
        ``model.classes`` is no sequence of names.
    ShapeError
        It has more names than the model has outputs.
    """
    if model.classes is None:
        return None
    names = checked_classes(model.classes)
    if len(names) > model.outputs:
        raise ShapeError(
            f"model.classes has {len(names)} names, {shown(list(names))}; the model has {model.outputs} outputs"
        )
    return names


def as_labels(what: str, y: Any) -> npt.NDArray[Any]:
    """Return labels as an array of whole numbers, flags or objects such as text.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    y : array_like
        The labels: an array, a list, a tensor, or a column or frame of one column.

    Raises
    ------
    DtypeError
        They are of no kind that labels can have.
    DatasetError
        One is missing.
    """
    if is_frame(y):
        y = only_column(what, y)
    if is_series(y):
        labels = of_series(what, y)
    elif isinstance(y, np.ndarray):
        labels = y
    elif isinstance(y, list | tuple):
        # NumPy would make text of numbers among text.
        objects = any(label is None or isinstance(label, str) for label in y)
        labels = np.array(y, object) if objects else as_array(what, y)
    else:
        labels = as_array(what, as_tensor(y))
    if labels.dtype.kind == "U":
        return labels.astype(object)
    # NumPy's text of any length may have gaps.
    if labels.dtype.kind in "OT":
        return _objects(what, labels.astype(object))
    if labels.dtype.kind not in REAL:
        raise DtypeError(f"{what} has dtype {labels.dtype}; labels are whole numbers or text")
    return labels


def _objects(what: str, labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return an array of objects as numbers if all are, and unchanged if all are text."""
    if all(isinstance(label, str) for label in labels.flat):
        return labels
    text = other = None
    for index, label in np.ndenumerate(labels):
        if _is_missing(label):
            raise DatasetError(
                f"{what}[{', '.join(map(str, index))}] is {shown(label)}; every label is required"
            )
        if isinstance(label, str):
            text = label if text is None else text
        elif other is None:
            other = label
    if text is not None:
        raise DtypeError(
            f"{what} has labels of two kinds, such as {shown(text)} and {shown(other)}; all text or all whole numbers "
            "are required"
        )
    return as_array(what, labels)


def _is_missing(label: Any) -> bool:
    try:
        return label is None or bool(label != label)
    except (TypeError, ValueError):
        # The truth of a comparison with pandas' NA is not known, and neither is that of arrays.
        return type(label).__name__ == "NAType"


def _flat(labels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return labels (n, 1) as (n,), and others unchanged."""
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels


def classes_of(
    what: str, y: Any, outputs: int, known: Labels | None
) -> tuple[npt.NDArray[np.int64], Labels | None]:
    """Return labels as class numbers, and the labels of the classes, or None if they are the numbers.

    Whole numbers from 0 to C - 1, for C outputs, are class numbers. Other labels (text, 1, 5 and 9) are numbered in
    sorted order.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    y : array_like
        The labels of n examples.
    outputs : int
        The number of outputs C.
    known : tuple or None
        The labels of the classes, where they are known already.

    Raises
    ------
    ShapeError
        There are more classes than outputs, or the labels are no (n,) array.
    DtypeError, DatasetError
        A label is of no kind that labels can have, is missing, or is none of `known`.
    """
    labels = _flat(as_labels(what, y))
    if labels.ndim != 1:
        raise ShapeError(
            f"{what} has shape {labels.shape}; labels (n,) are required"
            + (
                "; for one-hot rows, y.argmax(axis=1)"
                if labels.ndim == 2 and labels.shape[1] == outputs
                else ""
            )
        )
    if labels.dtype.kind == "f":
        labels = _whole(what, labels)
    if known is not None:
        return numbers_of(what, labels, known), known
    if labels.dtype.kind == "b":
        labels = labels.astype(np.int64)
    if labels.dtype.kind in "iu" and labels.size and int(labels.min()) >= 0 and int(labels.max()) < outputs:
        return labels.astype(np.int64), None
    names = tuple(sorted({plain(label) for label in labels.tolist()}))
    if len(names) > outputs:
        raise ShapeError(
            f"{what} has {len(names)} classes, {shown(list(names[:6]))}{' and so on' if len(names) > 6 else ''}; "
            f"the model has {outputs} outputs"
        )
    LOG.info("%s: the labels %s are classes 0 to %d", what, shown(list(names)), len(names) - 1)
    return numbers_of(what, labels, names), names


def positions_of(model: Graph) -> int | None:
    """Return the number of positions L of a model that returns sequences (L, N), or None if it returns others."""
    return model.positions if len(model.output_shape) == 2 else None


def of_positions(what: str, y: Any, positions: int | None) -> tuple[Any, Any]:
    """Return the targets of sequences one position after the other, and the shape that they had.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    y : array_like
        The targets: (n, L), or (n, L, N), of n sequences.
    positions : int or None
        The number of positions L. None: the examples are no sequences, and the targets are returned as they are, with
        the shape -1.

    Raises
    ------
    ShapeError
        They are not those of L positions.
    """
    if positions is None:
        return y, -1
    array = as_array(what, as_tensor(y))
    if array.ndim not in (2, 3) or array.shape[1] != positions:
        raise ShapeError(
            f"{what} has shape {array.shape}; targets of each position, (n, {positions}) or (n, {positions}, N), "
            "are required"
        )
    return array.reshape(-1, *array.shape[2:]), array.shape


def warn_of_missing(what: str, classes: npt.NDArray[np.int64], outputs: int) -> None:
    """Warn of classes that have no example.

    Parameters
    ----------
    what : str
        The name of the argument, for the message.
    classes : ndarray, (n,) int64
        The class of each example.
    outputs : int
        The number of classes of the model.
    """
    missing = np.flatnonzero(np.bincount(classes, minlength=outputs) == 0).tolist()
    if missing:
        warnings.warn(
            f"{what}: no example of class{'es' if len(missing) > 1 else ''} {', '.join(map(str, missing[:20]))}"
            f"{' and so on' if len(missing) > 20 else ''}; the model has {outputs} outputs",
            FgWarning,
            stacklevel=4,
        )


def numbers_of(what: str, labels: npt.NDArray[Any], names: Labels) -> npt.NDArray[np.int64]:
    """Return the number of each label in `names`.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    labels : ndarray, (n,)
        The labels.
    names : tuple
        The labels of the classes.

    Raises
    ------
    DatasetError
        A label is not in `names`.
    """
    numbers = {name: number for number, name in enumerate(names)}
    result = np.empty(len(labels), np.int64)
    for i, label in enumerate(labels.tolist()):
        number = numbers.get(label)
        if number is None:
            raise DatasetError(f"{what}[{i}] is {shown(label)}; the model's classes are {shown(list(names))}")
        result[i] = number
    return result


def _whole(what: str, labels: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    wrong = np.flatnonzero(~(np.isfinite(labels) & (labels == np.rint(labels)) & (np.abs(labels) < 2**53)))
    if wrong.size:
        raise DtypeError(
            f"{what}[{wrong[0]}] is {labels[wrong[0]]}, which is no class label; for regression, "
            'make the trainer with loss="mse"'
        )
    return labels.astype(np.int64)


def real_targets(what: str, y: Any, outputs: int, loss: Loss) -> npt.NDArray[np.float32]:
    """Return targets as (n, K) float32: K is the number of outputs N, unless the loss takes one number, whatever N is.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    y : array_like
        (n, K) real numbers, or (n,) where K is 1.
    outputs : int
        The number of outputs N.
    loss : Loss
        The loss.

    Raises
    ------
    ShapeError, DtypeError
        They are no such array.
    DatasetError
        One is not finite, or too large for float32.
    """
    name = type(loss).__name__
    array = (
        of_frame(what, y)
        if is_frame(y)
        else of_series(what, y)
        if is_series(y)
        else as_array(what, as_tensor(y))
    )
    if array.dtype.kind not in REAL:
        raise DtypeError(
            f"{what} has dtype {array.dtype}; {name} takes real numbers. For class labels, make the trainer with "
            'loss="cross-entropy"'
        )
    width = loss.target_layout(1, outputs)[0][-1]
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != width:
        hint = ""
        if array.ndim == 2 and array.shape[1] == 1 and outputs > 1:
            hint = '; for class labels, make the trainer with loss="cross-entropy"'
        raise ShapeError(
            f"{what} has shape {np.shape(y)}; (n, {width}) is required for {outputs} outputs{hint}"
        )
    with np.errstate(over="ignore"):
        targets = np.ascontiguousarray(array, np.float32)
    check_finite(what, targets, array)
    return targets


def check_kind(where: str, loss: Loss, classes: int | None) -> None:
    """Raise ConfigError unless a data set's targets are of the kind that the loss takes.

    Parameters
    ----------
    where : str
        The name of the data set, for messages.
    loss : Loss
        The loss.
    classes : int or None
        The data set's number of classes; None: its targets are real numbers.
    """
    if loss.takes_labels == (classes is not None):
        return
    if isinstance(loss, FunctionLoss):
        given, kind = ("class labels", "label") if classes is not None else ("real numbers", "array")
        raise ConfigError(
            f"{where}: targets are {given}; {loss} takes targets of kind {loss.targets!r}: "
            f"Loss.from_function(f, targets={kind!r}) makes a loss of such targets"
        )
    if classes is None:
        raise ConfigError(
            f"{where}: targets are real numbers; {type(loss).__name__} takes class labels: make the trainer with "
            'loss="mse" for regression'
        )
    raise ConfigError(
        f"{where}: targets are class labels; {type(loss).__name__} takes real numbers: make the trainer with "
        'loss="cross-entropy" for classification'
    )
