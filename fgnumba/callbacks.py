"""Callbacks, and the records that a trainer gives them; see :mod:`fgnumba.training`."""

from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.monitors import MONITORS
from fgnumba.training.records import History, Record, StepResult, result_of

__all__ = ["MONITORS", "Callback", "EarlyStopping", "History", "Record", "StepResult", "result_of"]
