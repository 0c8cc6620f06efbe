"""Python functions from lines of text, for rules whose statements depend on the types of the arguments."""

from functools import cache
from typing import Any

import numpy as np

from fgnumba.functions.generated import generated
from fgnumba.functions.zeros import like, zeros_beside


@cache
def defined(text: str, *known: tuple[str, Any]) -> Any:
    """Return the function of a text, which may use NumPy, `zeros_beside`, `like` and what `known` names."""
    name = text[len("def ") : text.index("(")]
    return generated(name, [text], **{"np": np, "zeros_beside": zeros_beside, "like": like, **dict(known)})


def lines(*parts: str) -> str:
    """Return lines as one text."""
    return "\n".join(parts) + "\n"
