"""Data sets: the embedded digits, MNIST and Fashion-MNIST, and your own as ``.npz`` or IDX files."""

from fgnumba.datasets.catalog import NAMES, load
from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.idx import read_idx
from fgnumba.datasets.split import validation_split

__all__ = ["NAMES", "Dataset", "load", "read_idx", "validation_split"]
