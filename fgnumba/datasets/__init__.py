"""Data sets: the embedded digits, published ones, your own as ``.npz``, IDX files, tables or texts; augmentation."""

from fgnumba.datasets.augmentation import Compose, RandomCrop, RandomFlip
from fgnumba.datasets.catalog import NAMES, load
from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.idx import read_idx
from fgnumba.datasets.split import validation_split
from fgnumba.datasets.tables import TableDataset, TableRules
from fgnumba.datasets.texts import Alphabet, TextDataset, text

__all__ = [
    "NAMES",
    "Alphabet",
    "Compose",
    "Dataset",
    "RandomCrop",
    "RandomFlip",
    "TableDataset",
    "TableRules",
    "TextDataset",
    "load",
    "read_idx",
    "text",
    "validation_split",
]
