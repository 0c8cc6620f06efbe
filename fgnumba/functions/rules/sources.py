"""Python functions from lines of text, for rules whose statements depend on the types of the arguments."""

from functools import cache
from typing import Any

import numpy as np

from fgnumba.functions.generated import generated
from fgnumba.functions.zeros import zeros_beside


@cache
def defined(text: str) -> Any:
    """Return the function that a text defines; NumPy and `zeros_beside` are known there."""
    name = text[len("def ") : text.index("(")]
    return generated(name, [text], np=np, zeros_beside=zeros_beside)


def lines(*parts: str) -> str:
    """Return lines as one text."""
    return "\n".join(parts) + "\n"
