"""Replay a run from its log; see :mod:`fgnumba.training.replay`."""

from fgnumba.training.replay import (
    begin,
    replay,
    resume,
    visits,
)
from fgnumba.training.replay_log import read

__all__ = [
    "begin",
    "read",
    "replay",
    "resume",
    "visits",
]
