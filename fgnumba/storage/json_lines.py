"""Lines of JSON: an object a line, without NaN and infinity, which JSON lacks."""

import json
import math
from collections.abc import Mapping
from typing import Any

from fgnumba.errors import shown


def json_object(values: Mapping[str, Any]) -> str:
    """Return one line of JSON, which has no NaN and no infinity: they become null."""
    finite = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in values.items()
    }
    return json.dumps(finite, allow_nan=False)


def parsed(line: str) -> dict[str, Any]:
    """Return the JSON object that `line` holds; ValueError where it holds none."""
    try:
        found = json.loads(line)
    except RecursionError:
        raise ValueError("brackets are nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError(f"{shown(found)} is no object")
    return found
