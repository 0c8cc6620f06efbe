"""Replay a run from its log; see :mod:`fgnumba.training.replay`."""

from fgnumba.training.replay import (
    begin,
    replay,
    resume,
    visits,
)

__all__ = [
    "begin",
    "replay",
    "resume",
    "visits",
]
