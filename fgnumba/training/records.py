"""What a training run returns: results of steps, records (evaluations after some steps), and their history."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, shown
from fgnumba.objects.table import of_records

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FRAMES = ("pandas", "polars")
"""Libraries of data frames that :meth:`History.to_frame` can use, in the order in which it looks for them."""


class StepResult(NamedTuple):
    """The result of a training step.

    Parameters
    ----------
    loss : float
        Mean loss of the batch before the step.
    directional_derivative : float or ndarray
        The directional derivative along the step's direction, or a (T,) float64 array of them for T > 1 directions.
    """

    loss: float
    directional_derivative: float | npt.NDArray[np.float64]


def result_of(values: npt.NDArray[np.float64]) -> StepResult:
    """Return the result of a step from the values that its estimate left.

    Parameters
    ----------
    values : ndarray
        (1 + T,) float64: the loss, then the T directional derivatives.
    """
    return StepResult(float(values[0]), float(values[1]) if len(values) == 2 else values[1:].copy())


@dataclass(frozen=True)
class Record:
    """An evaluation of the model during a run, and the run's progress at that moment.

    A quantity that was not measured is NaN: the validation loss and accuracy if there are no validation data, and the
    test loss and accuracy in every record but the last one of a run. Such a quantity is left out of the record's line
    in ``metrics.jsonl``.

    Parameters
    ----------
    step : int
        Number of steps taken.
    epoch : float
        Number of passes over the training data.
    loss : float
        Mean training loss of the steps since the previous record.
    test_loss : float
        Mean loss on the test data, in the last record of a run that has ended. It belongs to the parameters that the
        run keeps (see :attr:`History.restored_step`). If such a run is continued with more steps, this record keeps it.
    test_accuracy : float
        Accuracy on the test data, from 0 to 1, under the same conditions.
    learning_rate : float
        Learning rate of the last step.
    seconds : float
        Seconds since training began, without interruptions.
    validation_loss : float
        Mean loss on the validation data after the step.
    validation_accuracy : float
        Accuracy on the validation data after the step, from 0 to 1. NaN also where targets are real numbers.
    metrics : mapping of str to float
        The metrics other than loss and accuracy: ``validation_<name>`` and, in the last record, ``test_<name>``, such
        as ``validation_r2``. Default: none.
    """

    step: int
    epoch: float
    loss: float
    test_loss: float = math.nan
    test_accuracy: float = math.nan
    learning_rate: float = math.nan
    seconds: float = math.nan
    validation_loss: float = math.nan
    validation_accuracy: float = math.nan
    metrics: Mapping[str, float] = field(default_factory=dict)

    def value(self, name: str) -> float:
        """Return a quantity of the record, or NaN if it has none of this name.

        Parameters
        ----------
        name : str
            The name of a field, such as ``validation_loss``, or of one of the `metrics`.
        """
        return float(self.metrics.get(name, getattr(self, name, math.nan)))


@dataclass
class History:
    """The records of a training run and the reason for its end, which is `ended_by`.

    Parameters
    ----------
    records : list of Record
        The records in the order of their steps. Those made before a resumed run was interrupted are included.
    stopped : bool
        Whether ``Trainer.stop`` interrupted the run before its last step. Such a run can be resumed, and has no test
        loss and accuracy.
    ended_early : bool
        Whether a callback ended the run before its last step.
    restored_step : int or None
        The step whose parameters the model got back at the end, by :class:`EarlyStopping` with ``restore_best``. None:
        the model keeps the parameters of the last step.
    ended_by : str or None
        What ended the run, or None while it goes on: ``"steps"`` (it took all of them), ``"callback"`` (see
        :meth:`Callback.ends`), ``"stop"`` (see ``Trainer.stop``), ``"divergence"``, ``"interrupt"`` (such as Ctrl-C),
        ``"data"`` (an iterator of batches came to its end), or ``"error"`` (any other exception).
    """

    records: list[Record] = field(default_factory=list)
    stopped: bool = False
    ended_early: bool = False
    restored_step: int | None = None
    ended_by: str | None = None

    def __copy__(self) -> "History":
        return replace(self, records=list(self.records))

    def _repr_html_(self) -> str:
        return of_records(self.records, f"History, ended by {self.ended_by}" if self.ended_by else "History")

    @property
    def final(self) -> Record:
        """The last record."""
        return self.records[-1]

    def plot(self, ax: "Axes | Sequence[Axes] | None" = None) -> "list[Axes]":
        """Draw the curves of the run with matplotlib, and return the axes.

        The first panel has the loss. The second one has the error in per cent, or the metric of a regression; it is
        left out if neither was measured on validation data. A ring marks the best record on the validation data.

        Parameters
        ----------
        ax : Axes or sequence of Axes, optional
            Where to draw: one for the loss alone, or two for both. None (the default): a new figure of
            ``matplotlib.pyplot``.

        Returns
        -------
        list of Axes
            The axes that were drawn on.

        Raises
        ------
        ConfigError
            The history has no records, or `ax` is neither one nor two axes.
        """
        from fgnumba.training.curves import draw

        return draw(self.records, ax)

    def to_frame(self, backend: str | None = None) -> Any:
        """Return the records as a data frame with a row for each of them and a column for each quantity.

        The columns are the fields of :class:`Record`. Quantities that no record has are left out, and those that some
        records lack are NaN there. The frame is a copy.

        Parameters
        ----------
        backend : str, optional
            ``"pandas"`` or ``"polars"``. None (the default): pandas if it is installed, or else polars.

        Returns
        -------
        pandas.DataFrame or polars.DataFrame
            The frame, with int64 steps and float64 numbers.

        Raises
        ------
        ConfigError
            `backend` is unknown, or the library is not installed.
        """
        from importlib import import_module

        if backend is not None and (not isinstance(backend, str) or backend not in FRAMES):
            raise ConfigError(f"backend is {shown(backend)}; {' or '.join(map(repr, FRAMES))} is required")
        wanted = FRAMES if backend is None else (backend,)
        name = next((name for name in wanted if find_spec(name) is not None), None)
        if name is None:
            raise ConfigError(f"to_frame needs {' or '.join(wanted)}: pip install {wanted[0]}")
        return import_module(name).DataFrame(_columns(self.records))


def _columns(records: Sequence[Record]) -> dict[str, npt.NDArray[Any]]:
    """Return the quantities of records as columns, without those that no record has."""
    rows = []
    for record in records:
        row = asdict(record)
        metrics = row.pop("metrics")
        rows.append({**row, **metrics})
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {
        name: np.array([row.get(name, math.nan) for row in rows], np.int64 if name == "step" else np.float64)
        for name in names or ("step", "epoch", "loss")
    }
    kept = ("step", "epoch", "loss")
    return {name: column for name, column in columns.items() if name in kept or not np.isnan(column).all()}
