"""Callbacks, and the records that a trainer gives them; see :mod:`fgnumba.training`."""

from fgnumba.training.best_checkpoint import BestCheckpoint
from fgnumba.training.callbacks import Callback, EarlyStopping
from fgnumba.training.learning_rate_finder import LearningRateFinder
from fgnumba.training.loggers.base import Logger
from fgnumba.training.loggers.csv_file import CSVLogger
from fgnumba.training.loggers.mlflow import MLflow
from fgnumba.training.loggers.tensorboard import TensorBoard
from fgnumba.training.loggers.wandb import WeightsAndBiases
from fgnumba.training.monitors import MONITORS
from fgnumba.training.optuna_pruning import OptunaPruning
from fgnumba.training.records import History, Record, StepResult, result_of

__all__ = [
    "MONITORS",
    "BestCheckpoint",
    "CSVLogger",
    "Callback",
    "EarlyStopping",
    "History",
    "LearningRateFinder",
    "Logger",
    "MLflow",
    "OptunaPruning",
    "Record",
    "StepResult",
    "TensorBoard",
    "WeightsAndBiases",
    "result_of",
]
