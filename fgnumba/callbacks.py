"""What a trainer reports while it runs, and what may end it early: the public names of :mod:`fgnumba.training`."""

from fgnumba.training.callbacks import MONITORS, Callback, EarlyStopping
from fgnumba.training.records import History, Record, StepResult, result_of

__all__ = ["MONITORS", "Callback", "EarlyStopping", "History", "Record", "StepResult", "result_of"]
