"""Data frames of any library (pandas, polars, PyArrow, ...) as NumPy arrays, by way of narwhals."""

from typing import Any

import numpy as np
import numpy.typing as npt

from fgnumba.errors import ConfigError, DatasetError, DtypeError, ShapeError, shown
from fgnumba.validation.arrays import as_array


def is_frame(value: Any) -> bool:
    """Return whether `value` is a table with named columns, of whatever library."""
    # Their class is asked, because a lazy frame would compute the names of its columns.
    kind = type(value)
    return not isinstance(value, np.ndarray) and any(
        hasattr(kind, name) for name in ("columns", "column_names", "__dataframe__")
    )


def is_series(value: Any) -> bool:
    """Return whether `value` is one column of a table, or an index or array of such a library."""
    library = type(value).__module__.partition(".")[0]
    return library in ("pandas", "polars", "pyarrow", "modin", "cudf") and not is_frame(value)


def of_frame(what: str, frame: Any) -> npt.NDArray[Any]:
    """Return the columns of a frame, which must be numbers or flags without gaps, as an array.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    frame : data frame
        n rows and K columns.

    Returns
    -------
    ndarray, (n, K)
        The values: float32 if every column is float32, else float64.

    Raises
    ------
    DtypeError
        The frame cannot be read, such as one that is not in memory; or a column is text, a category, a date or anything
        else that is no number.
    DatasetError
        A value is missing.
    ConfigError
        narwhals is not installed.
    """
    narwhals = _narwhals()
    columns = _columns(what, frame)
    for column in columns:
        if not (column.dtype.is_numeric() or column.dtype == narwhals.Boolean):
            raise DtypeError(
                f"{what}: column {shown(column.name)} is {column.dtype}; numbers are required: leave it out, or turn "
                f"it into numbers, one column for each of its values"
            )
        missing = column.null_count()
        if missing:
            raise DatasetError(
                f"{what}: column {shown(column.name)} has {missing} missing values; fill them or leave out their rows"
            )
    if not columns:
        raise DatasetError(f"{what} has no columns; at least one is required")
    dtype = np.float32 if all(column.dtype == narwhals.Float32 for column in columns) else np.float64
    return np.stack([np.asarray(column.to_numpy(), dtype) for column in columns], axis=1)


def of_series(what: str, series: Any) -> npt.NDArray[Any]:
    """Return a column as an array: of numbers, or of objects where it holds text or categories.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    series : series
        n values.

    Raises
    ------
    DatasetError
        A value is missing.
    ConfigError
        narwhals is not installed.
    """
    try:
        column = _narwhals().from_native(series, series_only=True)
    except TypeError:
        # It is an array or an index of such a library, which NumPy reads.
        array = np.asarray(series)
        text = array.dtype.kind == "O" and any(isinstance(value, str) for value in array.flat)
        return array if text else as_array(what, array)
    missing = column.null_count()
    if missing:
        raise DatasetError(f"{what} has {missing} missing values; leave out their rows")
    if column.dtype.is_numeric() or column.dtype == _narwhals().Boolean:
        return np.asarray(column.to_numpy())
    return np.array(column.to_list(), object)


def only_column(what: str, frame: Any) -> Any:
    """Return the column of a frame that has one, as a series of its library.

    Parameters
    ----------
    what : str
        The name of the argument, for messages.
    frame : data frame
        n rows and one column.

    Raises
    ------
    ShapeError
        It has several columns, or none.
    ConfigError
        narwhals is not installed.
    """
    columns = _columns(what, frame)
    if len(columns) != 1:
        raise ShapeError(f"{what} has {len(columns)} columns; one column of labels is required")
    return columns[0].to_native()


def _columns(what: str, frame: Any) -> list[Any]:
    """Return the columns of a frame as narwhals has them."""
    narwhals = _narwhals()
    try:
        return list(narwhals.from_native(frame, eager_only=True).iter_columns())
    except (TypeError, narwhals.exceptions.NarwhalsError) as error:
        raise DtypeError(
            f"{what} is a {type(frame).__name__} that cannot be read ({' '.join(str(error).split())}); a data frame in "
            "memory is required: a lazy one must be collected first"
        ) from None


def _narwhals() -> Any:
    try:
        import narwhals
    except ImportError:
        raise ConfigError(
            "data frames are read by narwhals, which is not installed: pip install 'fgnumba[frames]', or pass arrays"
        ) from None
    return narwhals
