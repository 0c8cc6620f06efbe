"""States of callbacks in checkpoints, so that a run that is resumed goes on with callbacks that know what they knew.

A callback with a property ``state`` (values that JSON can hold) and a line of text ``statement`` (its settings) has its
state kept. A run that is resumed gives a state back to the callback of the same class with the same statement.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fgnumba.errors import ConfigError, FgError, RunError, shown

MOST = 1000
"""Largest number of states in a checkpoint that are read."""
_KEYS = {"callback", "statement", "state"}


def stateful(callbacks: Sequence[Any]) -> list[Any]:
    """Return the callbacks whose state a checkpoint keeps.

    Parameters
    ----------
    callbacks : sequence of Callback
        All callbacks of a run.
    """
    return [
        one for one in callbacks if isinstance(getattr(one, "statement", None), str) and hasattr(one, "state")
    ]


def states_of(callbacks: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the states of a run's callbacks, as a checkpoint holds them.

    Parameters
    ----------
    callbacks : sequence of Callback
        All callbacks of the run.

    Raises
    ------
    ConfigError
        A state holds something that JSON cannot.
    """
    kept = []
    for one in stateful(callbacks):
        name, state = type(one).__name__, one.state
        try:
            json.dumps(state)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(
                f"callbacks: the state of {name} is {shown(state)}; values that JSON can hold are required: {error}"
            ) from None
        kept.append({"callback": name, "statement": one.statement, "state": state})
    return kept


def matched(path: Path, found: Any, callbacks: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return the callbacks to which a checkpoint gives a state back, each with its state.

    A callback of which the checkpoint knows nothing gets none, and begins anew.

    Parameters
    ----------
    path : Path
        The checkpoint, for messages.
    found : object
        What it holds of callbacks; None if it was written by a version that kept no states.
    callbacks : sequence of Callback
        All callbacks of the run that continues.

    Raises
    ------
    RunError
        The checkpoint holds something impossible, or the state of a callback with other settings.
    """
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MOST or not all(map(_possible, found)):
        raise RunError(
            f"{path}: the states of callbacks are {shown(found)}; {', '.join(sorted(_KEYS))} are required"
        )
    left, pairs = list(found), []
    for one in stateful(callbacks):
        name = type(one).__name__
        same = [kept for kept in left if kept["callback"] == name]
        equal = [kept for kept in same if kept["statement"] == one.statement]
        if same and not equal:
            raise RunError(
                f"{path}: {name} is {shown(same[0]['statement'])}; the run that continues has "
                f"{shown(one.statement)}"
            )
        if equal:
            left.remove(equal[0])
            pairs.append((one, equal[0]["state"]))
    return pairs


def give_back(path: Path, pairs: Sequence[tuple[Any, Any]]) -> None:
    """Give callbacks the states that :func:`matched` returned.

    Parameters
    ----------
    path : Path
        The checkpoint, for messages.
    pairs : sequence of tuple
        The callbacks, each with its state.

    Raises
    ------
    RunError
        A callback refuses its state.
    """
    for one, state in pairs:
        try:
            one.state = state
        except (FgError, LookupError, TypeError, ValueError, AttributeError) as error:
            why = f": {error}" if isinstance(error, FgError) else ""
            raise RunError(
                f"{path}: the state of {type(one).__name__} is {shown(state)}, which is impossible{why}"
            ) from None


def checked(what: str, state: Any, kinds: dict[str, tuple[type, ...]]) -> dict[str, Any]:
    """Return a state that was read from a file, after checking that it has these entries of these types.

    Parameters
    ----------
    what : str
        What it is the state of, for messages.
    state : object
        The state.
    kinds : dict
        The types that each entry may have. A whole number must be 0 or above.

    Raises
    ------
    ConfigError
        An entry is missing, unknown or of another type.
    """
    if not isinstance(state, dict) or state.keys() != kinds.keys():
        raise ConfigError(f"{what}: {', '.join(kinds)} are required")
    for name, allowed in kinds.items():
        value = state[name]
        if type(value) not in allowed or (type(value) is int and not 0 <= value < 1 << 63):
            raise ConfigError(f"{what}: {name} is {shown(value)}, which is impossible")
    return state


def _possible(kept: Any) -> bool:
    return (
        isinstance(kept, dict)
        and kept.keys() == _KEYS
        and isinstance(kept["callback"], str)
        and isinstance(kept["statement"], str)
    )
