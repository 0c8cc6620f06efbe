"""Files of JSON lines: each line is an object. JSON has no NaN and no infinity, so they are written as null."""

import json
import math
from collections.abc import Mapping
from typing import Any

from fgnumba.errors import shown


def json_object(values: Mapping[str, Any]) -> str:
    """Return `values` as one line of JSON; a float that is NaN or infinite becomes null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps(finite, allow_nan=False)


def parsed(line: str) -> dict[str, Any]:
    """Return the JSON object that `line` holds.

    Raises
    ------
    ValueError
        If the line is no JSON, or holds something other than an object.
    """
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError(f"{shown(value)} is no JSON object")
    return value
