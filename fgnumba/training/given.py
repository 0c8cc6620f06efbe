"""What ``Trainer.fit`` is given, in whatever form people have their data, as a data set or as a sequence of batches."""

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.datasets.catalog import load
from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.texts import TextDataset
from fgnumba.errors import ConfigError, ShapeError, shown
from fgnumba.layers.losses import Loss
from fgnumba.model.causality import check_causal
from fgnumba.model.graph import Graph
from fgnumba.model.symbols import check_symbols
from fgnumba.training.batches import Batches
from fgnumba.training.examples import examples_of
from fgnumba.training.targets import (
    check_kind,
    classes_of,
    names_of,
    of_positions,
    positions_of,
    real_targets,
    warn_of_missing,
)
from fgnumba.validation.frames import is_frame

_POSSIBLE = (
    "arrays X and y, data frames, a fgnumba.datasets.Dataset, the name of a data set, or an iterable of batches (x, y) "
    "is required"
)


def data_of(model: Graph, loss: Loss, data: Any, y: Any) -> Dataset | Batches:
    """Return what a run trains on, checked.

    Parameters
    ----------
    model : Graph
        The model, which the data must fit.
    loss : Loss
        The loss, which decides whether targets are labels or real numbers.
    data : Dataset, str, path, array_like, data frame, or iterable
        The data; see ``Trainer.fit``.
    y : array_like or None
        The targets, if `data` are the examples.

    Raises
    ------
    ConfigError, ShapeError, DtypeError, DatasetError
        The data are of no form that is known, or do not fit the model.
    """
    if y is None and isinstance(data, tuple) and len(data) == 2 and all(map(_is_array, data)):
        data, y = data
    if y is not None:
        if isinstance(data, Dataset | str | os.PathLike):
            raise ConfigError(f"y is given beside the data set {shown(data)}, which has its own targets")
        return from_arrays(model, loss, data, y)
    if isinstance(data, str | os.PathLike):
        data = load(data)
    if isinstance(data, Dataset):
        check_fits(model, loss, data)
        return data
    if _is_array(data):
        raise ConfigError("y is missing; fit takes examples and their targets: fit(X, y)")
    if isinstance(data, Iterable) and not isinstance(data, type | bytes):
        return Batches(data, model, loss)
    raise ConfigError(f"dataset is a {type(data).__name__}, {shown(data)}; {_POSSIBLE}")


def _is_array(value: Any) -> bool:
    """Return whether a value is an array, a tensor, a data frame, or nested lists of numbers or text."""
    if is_frame(value) or hasattr(value, "__array__") or hasattr(value, "__dlpack__"):
        return True
    first = value
    while isinstance(first, list) and first:
        first = first[0]
    return isinstance(value, list) and isinstance(first, int | float | str | np.generic)


def check_fits(model: Graph, loss: Loss, dataset: Dataset) -> None:
    """Check that a data set fits a model and its loss.

    Parameters
    ----------
    model : Graph
        The model.
    loss : Loss
        The loss.
    dataset : Dataset
        The data set.

    Raises
    ------
    ShapeError
        Examples or outputs do not fit.
    ConfigError
        The loss takes targets of another kind, or a model that is to predict a text knows later symbols.
    """
    if dataset.input_shape != model.input_shape:
        raise ShapeError(
            f"{dataset.name}: examples have shape {dataset.input_shape}; the model takes {model.input_shape}"
        )
    check_kind(dataset.name, loss, dataset.classes)
    targets = model.outputs if loss.takes_labels else loss.target_layout(1, model.outputs)[0][-1]
    if dataset.classes is None and dataset.outputs != targets:
        required = "" if targets == model.outputs else f", and its loss takes {targets} of an example"
        raise ShapeError(
            f"{dataset.name}: an example has {dataset.outputs} targets; the model has {model.outputs} outputs{required}"
        )
    if dataset.classes is not None and dataset.classes > model.outputs:
        raise ShapeError(f"{dataset.name}: {dataset.classes} classes; the model has {model.outputs} outputs")
    if model.symbols is not None and not dataset.streamed:
        for part in ("x_train", "x_test"):
            check_symbols(f"{dataset.name}: {part}", getattr(dataset, part), model.symbols)
    if isinstance(dataset, TextDataset) and model.reads_windows:
        check_causal(dataset.name, model)


def from_arrays(model: Graph, loss: Loss, x: Any, y: Any) -> Dataset:
    """Return arrays, data frames or tensors as a data set without test data.

    Parameters
    ----------
    model : Graph
        The model.
    loss : Loss
        The loss, which decides whether targets are labels or real numbers.
    x : array_like or data frame
        The examples, n of them.
    y : array_like
        Their targets.

    Raises
    ------
    ShapeError, DtypeError, DatasetError
        An array does not fit the model or the loss, or holds impossible values.
    """
    examples, positions = examples_of("X", x, model.input_shape), positions_of(model)
    y, shape = of_positions("y", y, positions)
    if loss.takes_labels:
        targets, names = classes_of("y", y, model.outputs, names_of(model))
        if positions is None and len(targets) == len(examples):
            warn_of_missing("y", targets, model.outputs)
        classes = model.outputs if names is None else len(names)
        return _checked("X", examples, targets.reshape(shape), classes, names)
    return _checked(
        "X", examples, _shaped(real_targets("y", y, model.outputs, loss), shape, positions), None, None
    )


def _shaped(targets: npt.NDArray[Any], shape: tuple[int, ...], positions: int | None) -> npt.NDArray[Any]:
    """Return the targets (n L, N) of positions as (n, L, N); those of examples are returned as they are."""
    return targets if positions is None else targets.reshape(*shape[:2], targets.shape[-1])


def pair_of(
    model: Graph, loss: Loss, dataset: Dataset, x: Any, y: Any
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return further examples, and targets that are encoded as those of a data set are.

    Parameters
    ----------
    model : Graph
        The model.
    loss : Loss
        The loss.
    dataset : Dataset
        The data set, which says what each class is called.
    x : array_like or data frame
        The examples, n of them.
    y : array_like
        Their targets.

    Raises
    ------
    ShapeError, DtypeError, DatasetError
        An array does not fit the model, the loss or the data set, or holds impossible values.
    """
    examples, positions = examples_of("x", x, model.input_shape), positions_of(model)
    y, shape = of_positions("y", y, positions)
    targets: npt.NDArray[Any]
    if loss.takes_labels:
        names = dataset.labels
        # Without names, whole numbers beyond the last class are refused and not taken for names of classes.
        targets, _ = classes_of(
            "y", y, model.outputs, tuple(range(model.outputs)) if names is None else names
        )
        targets = targets.reshape(shape)
    else:
        targets = _shaped(real_targets("y", y, model.outputs, loss), shape, positions)
    part = _checked("x", examples, targets, model.outputs if loss.takes_labels else None, None)
    return part.x_train, part.y_train


def _checked(what: str, x: npt.NDArray[Any], y: npt.NDArray[Any], classes: int | None, names: Any) -> Dataset:
    if len(x) != len(y):
        raise ShapeError(
            f"{what} has {len(x)} examples and y {len(y)} targets; the two numbers must be equal"
        )
    return Dataset(f"{what}, y", x, y, classes=classes, labels=names)
