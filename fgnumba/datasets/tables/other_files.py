"""Tables in Parquet files, and in ``.npz`` archives with an array for each column."""

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fgnumba.datasets.archives import check_member, opened_zip
from fgnumba.datasets.npy import read_npy
from fgnumba.datasets.tables.frame import (
    BYTES_A_CELL,
    MAX_NAMES,
    Column,
    Frame,
    Numbers,
    Texts,
    check_memory,
    check_names,
    finite,
    listed,
)
from fgnumba.errors import DatasetError, shown
from fgnumba.storage.files import open_regular, size_of

MAX_RATIO = 10_000
"""Most times that the data of a Parquet file may be larger than the file."""
THRIFT = {"thrift_string_size_limit": 1 << 24, "thrift_container_size_limit": 1 << 20}
"""Limits of the sizes that a Parquet file's own description may claim."""


def read_parquet(path: Path, texts: Mapping[str, bool] | None = None) -> Frame:
    """Return the table in a Parquet file, which pyarrow reads.

    Parameters
    ----------
    path : pathlib.Path
        The file.
    texts : mapping, optional
        For the columns whose kind is known, whether they hold text. Others are skipped.

    Raises
    ------
    DatasetError
        If pyarrow is not installed, if the file is damaged or too large, or if a column holds what is neither numbers
        nor flags nor text.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise DatasetError(f"{path}: Parquet files need pyarrow: pip install 'fgnumba[tables]'") from None
    try:
        with open_regular(path) as file:
            names, texts_in, rows = _checked(path, parquet.ParquetFile(file, **THRIFT), size_of(file))
            wanted = [name for name in names if texts is None or name in texts]
            # Text is read as the different texts and an index for each row: a small file may repeat a long one.
            opened = parquet.ParquetFile(file, read_dictionary=texts_in, **THRIFT)
            columns = {}
            for name in wanted:
                data = opened.read(columns=[name]).column(0).combine_chunks()
                columns[name] = _from_arrow(path, name, data, None if texts is None else texts[name])
    except DatasetError:
        raise
    except OSError as error:
        raise DatasetError(
            f"{path}: not a Parquet file, or a damaged one ({error.strerror or error})"
        ) from None
    except MemoryError:
        raise DatasetError(f"{path}: not enough memory for its columns") from None
    # Damaged bytes can raise any error of pyarrow's.
    except (pyarrow.ArrowException, ValueError, TypeError, LookupError, OverflowError) as error:
        raise DatasetError(f"{path}: not a Parquet file, or a damaged one ({error})") from None
    if any(len(column.missing) != rows for column in columns.values()):
        raise DatasetError(f"{path}: damaged: its columns do not have the {rows:,} rows that it claims")
    return Frame(str(path), columns, rows)


def _checked(path: Path, opened: Any, size: int) -> tuple[list[str], list[str], int]:
    """Return the columns, those of text and the number of rows, after comparing what is claimed with what is there."""
    from pyarrow import types

    about = opened.metadata
    names = list(opened.schema_arrow.names)
    check_names(str(path), names)
    claimed = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if about.num_rows < 0 or not 0 <= claimed <= size * MAX_RATIO:
        raise DatasetError(f"{path}: damaged: {size:,} bytes cannot hold the {claimed:,} that they claim")
    if about.num_rows == 0:
        raise DatasetError(f"{path}: has no rows")
    check_memory(str(path), about.num_rows, max(len(names), claimed // about.num_rows // BYTES_A_CELL))
    schema = opened.schema_arrow
    text = [one.name for one in schema if types.is_string(one.type) or types.is_large_string(one.type)]
    return names, text, about.num_rows


def _from_arrow(path: Path, name: str, data: Any, text: bool | None) -> Column:
    from pyarrow import types

    kind = data.type
    if types.is_dictionary(kind) and (
        types.is_string(kind.value_type) or types.is_large_string(kind.value_type)
    ):
        codes = data.indices.cast("int64").fill_null(-1).to_numpy(zero_copy_only=False)
        known = texts_of(
            None if value is None else value.strip() or None for value in data.dictionary.to_pylist()
        )
        # Two texts that differ in blanks are one, and the index -1 is a missing cell.
        return Texts(np.append(known.codes, np.int32(-1))[codes], known.names, known.many)
    if types.is_dictionary(kind):
        data, kind = data.dictionary_decode(), kind.value_type
    if types.is_temporal(kind):
        raise DatasetError(
            f"{path}: column {shown(name)} is {kind}, a time; numbers, such as days, are required"
        )
    if types.is_boolean(kind):
        return texts_of(None if value is None else str(value) for value in data.to_pylist())
    if not (
        types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind) or types.is_null(kind)
    ):
        raise DatasetError(f"{path}: column {shown(name)} is {kind}; numbers, flags or text are required")
    values = data.cast("float64", safe=False).to_numpy(zero_copy_only=False)
    if text:
        return texts_of(None if np.isnan(value) else _text(value) for value in values.tolist())
    return finite(str(path), name, Numbers(values.astype(np.float64), types.is_integer(kind)))


def read_npz_table(path: Path, texts: Mapping[str, bool] | None = None) -> Frame:
    """Return the table in an ``.npz`` archive: an array (n,) of numbers, flags or text for each column.

    Parameters
    ----------
    path : pathlib.Path
        The archive.
    texts : mapping, optional
        For the columns whose kind is known, whether they hold text. Others are skipped.

    Raises
    ------
    DatasetError
        If the archive is damaged, or its arrays are not (n,) with one n.
    """
    columns: dict[str, Column] = {}
    with opened_zip(path) as archive:
        members = archive.infolist()
        names = [member.filename.removesuffix(".npy") for member in members]
        check_names(str(path), names)
        if absent := [name for name in texts or () if name not in names]:
            raise DatasetError(f"{path}: no column {shown(absent[0])}; the columns are {listed(names)}")
        for name, member in zip(names, members, strict=True):
            if texts is None or name in texts:
                check_member(f"{path}: {name}", member, os.path.getsize(path))
                columns[name] = _from_array(
                    path, name, _array(path, archive, name, member), None if texts is None else texts[name]
                )
    lengths = {len(column.missing) for column in columns.values()}
    if len(lengths) != 1 or lengths == {0}:
        raise DatasetError(
            f"{path}: its columns have {sorted(lengths)} rows; one number of at least 1 is required"
        )
    return Frame(str(path), columns, lengths.pop())


def _array(path: Path, archive: zipfile.ZipFile, name: str, member: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(member) as stream:
        try:
            array = read_npy(stream, member.file_size, text=True)
            stream.read(1)
        except ValueError as error:
            raise DatasetError(f"{path}: {name} is {error}") from None
    if array.ndim != 1:
        raise DatasetError(f"{path}: {name} has shape {array.shape}; a column (n,) is required")
    return array


def _from_array(path: Path, name: str, array: np.ndarray, text: bool | None) -> Column:
    if array.dtype.kind in "USb" or text:
        values = np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array
        return texts_of(_text(value) or None for value in values.tolist())
    return finite(str(path), name, Numbers(array.astype(np.float64), array.dtype.kind in "iu"))


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def texts_of(values: Any) -> Texts:
    """Return a column of text; None is a missing cell."""
    number: dict[str, int] = {}
    codes, many = [], False
    for value in values:
        if value is None:
            codes.append(-1)
        elif value in number or len(number) < MAX_NAMES:
            codes.append(number.setdefault(value, len(number)))
        else:
            many = True
            codes.append(-1)
    return Texts(np.array(codes, np.int32), tuple(number), many)
