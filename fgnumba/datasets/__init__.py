"""Data sets: the embedded digits, MNIST and Fashion-MNIST, and your own as ``.npz`` or IDX files; augmentation."""

from fgnumba.datasets.augmentation import Compose, RandomCrop, RandomFlip
from fgnumba.datasets.catalog import NAMES, load
from fgnumba.datasets.dataset import Dataset
from fgnumba.datasets.idx import read_idx
from fgnumba.datasets.split import validation_split

__all__ = ["NAMES", "Compose", "Dataset", "RandomCrop", "RandomFlip", "load", "read_idx", "validation_split"]
