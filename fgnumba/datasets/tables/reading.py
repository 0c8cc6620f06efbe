"""Read a table from a file: text, Parquet, or an ``.npz`` archive of columns."""

from collections.abc import Mapping
from pathlib import Path

from fgnumba.datasets.tables.csv_file import read_csv
from fgnumba.datasets.tables.frame import Frame
from fgnumba.datasets.tables.other_files import read_npz_table, read_parquet
from fgnumba.errors import DatasetError

TEXT = (".csv", ".tsv", ".txt", ".data")
ENDINGS = (*TEXT, ".parquet", ".pq", ".npz")


def is_table(path: str) -> bool:
    """Return whether the name of a file ends as those of tables do, an ``.npz`` archive apart."""
    return path.lower().endswith(tuple(ending for ending in ENDINGS if ending != ".npz"))


def read_table(path: Path, texts: Mapping[str, bool] | None = None) -> Frame:
    """Return the table in a file.

    Parameters
    ----------
    path : pathlib.Path
        The file: ``.csv``, ``.tsv``, ``.txt`` or ``.data`` of text; ``.parquet`` or ``.pq``; or ``.npz``.
    texts : mapping, optional
        For the columns whose kind is known, whether they hold text. Others are skipped. By default all are read, and
        a column holds numbers if all its cells are numbers.

    Raises
    ------
    DatasetError
        If the file is none of these, or is damaged, or too large, or a cell of a known column is no number.
    """
    name = path.name.lower()
    if name.endswith(TEXT):
        return read_csv(path, texts)
    if name.endswith((".parquet", ".pq")):
        return read_parquet(path, texts)
    if name.endswith(".npz"):
        return read_npz_table(path, texts)
    raise DatasetError(f"{path}: no table; a file that ends in {', '.join(ENDINGS)} is required")
