"""Composites: several layers under one name, which a model writes out as nodes of its graph."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from fgnumba.layers.base import Element, Layer, Shape

SOURCE = "input"
"""What a part calls the input of its composite."""


class Part(NamedTuple):
    """One layer of a composite.

    Parameters
    ----------
    name : str
        What is added to the composite's name, after ``_``. The last part is called "": its node has the name itself.
    layer : Layer
        The layer.
    inputs : tuple of str
        The names of the earlier parts that it reads, and :data:`SOURCE` for the composite's own input.
    """

    name: str
    layer: Layer
    inputs: tuple[str, ...]


class Composite(Element, ABC):
    """The base class of composites. A composite is an immutable value, as a layer is.

    A model replaces a node of a composite by nodes of its parts: a composite called ``block`` with the parts ``norm``
    and "" becomes ``block_norm`` and ``block``, so that another node reads its output by its name. It has one input.
    """

    @abstractmethod
    def parts(self, shape: Shape) -> tuple[Part, ...]:
        """Return the parts in an order in which each reads only earlier ones; the last is called "".

        Parameters
        ----------
        shape : tuple of int
            The shape of one example of the input.

        Raises
        ------
        ShapeError
            If the composite cannot take an input of that shape.
        """
