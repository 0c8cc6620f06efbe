"""Data sets: the embedded digits, published ones, your own as ``.npz``, IDX files or tables; augmentation."""

from fgnumba.datasets.augmentation import Compose, RandomCrop, RandomFlip
from fgnumba.datasets.catalog import NAMES, load
from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.idx import read_idx
from fgnumba.datasets.split import validation_split
from fgnumba.datasets.tables import TableDataset, TableRules

__all__ = [
    "NAMES",
    "Compose",
    "Dataset",
    "RandomCrop",
    "RandomFlip",
    "TableDataset",
    "TableRules",
    "load",
    "read_idx",
    "validation_split",
]
