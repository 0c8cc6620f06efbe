"""Texts as data sets: symbols (characters or bytes), windows of them, and contiguous streams for recurrent models."""

from fgnumba.datasets.texts.alphabet import Alphabet
from fgnumba.datasets.texts.dataset import TextDataset
from fgnumba.datasets.texts.loading import text

__all__ = ["Alphabet", "TextDataset", "text"]
