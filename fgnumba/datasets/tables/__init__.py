"""Tables as data sets: columns of numbers and text, and one or more of them to predict."""

from fgnumba.datasets.tables.loading import TableDataset, load_table
from fgnumba.datasets.tables.rules import TableRules

__all__ = ["TableDataset", "TableRules", "load_table"]
