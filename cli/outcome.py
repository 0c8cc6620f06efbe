"""The result of a training run: the line and the JSON object that the command prints, and doubts about it."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fgnumba.cli.figures import metric_of, number, of_text
from fgnumba.runs.configuration import RunConfig
from fgnumba.runs.verdict import doubts
from fgnumba.storage.json_lines import json_object
from fgnumba.training.callbacks import Callback
from fgnumba.training.records import History, Record

if TYPE_CHECKING:
    from fgnumba.datasets import Dataset
    from fgnumba.runs.assembly import Assembled


class FirstLoss(Callback):
    """Keeps the loss of a run's first step, NaN before it and in a run that is resumed."""

    def __init__(self) -> None:
        self.value = math.nan

    def on_step(self, step: int, result: Any) -> None:
        """Keep the loss of step 1."""
        if step == 1:
            self.value = result.loss


def learned(records: Sequence[Record], first: FirstLoss, dataset: "Dataset", config: RunConfig) -> list[str]:
    """Return what is wrong with the end of a run, as :func:`fgnumba.runs.verdict.doubts` does.

    Parameters
    ----------
    records : sequence of Record
        The run's records, at least one.
    first : FirstLoss
        The loss of its first step; that of its first record is taken where it is not known.
    dataset : Dataset
        Its data.
    config : RunConfig
        Its settings, with the learning rate written out.
    """
    loss = records[0].loss if math.isnan(first.value) else first.value
    labels = dataset.y_test.ravel() if dataset.streamed else dataset.y_test
    return doubts(records[-1], loss, labels, config.learning_rate or math.nan)


def summary(final: Record) -> str:
    """Return the result of a run as text: accuracy or another metric, loss, steps and seconds.

    Parameters
    ----------
    final : Record
        The last record of the run.
    """
    text = of_text(final.metrics, "test_")
    if text is not None:
        return f"test {text}, after {final.step} steps in {final.seconds:.1f} s"
    metric = metric_of(final, ("test",))
    measured = "" if metric is None else f"test {' '.join(metric)}, "
    # Without test data, there is the training loss alone.
    untested = math.isnan(final.test_loss) and metric is None
    loss = f"loss {number(final.loss)}" if untested else f"test loss {number(final.test_loss)}"
    return f"{measured}{loss} after {final.step} steps in {final.seconds:.1f} s"


def outcome(
    folder: Path, ready: "Assembled", records: Sequence[Record], history: History, warnings: Sequence[str]
) -> str:
    """Return the result of a run as a JSON object on one line; a number that is not finite is null.

    Parameters
    ----------
    folder : Path
        The run folder.
    ready : Assembled
        The run.
    records : sequence of Record
        Its records, among them those from before it was resumed.
    history : History
        What ``Trainer.fit`` returned.
    warnings : sequence of str
        Doubts about the result.
    """
    config, final = ready.config, records[-1] if records else None
    precision, tangent_precision = ready.model.processor.precisions
    figures = ("loss", "validation_loss", "validation_accuracy", "test_loss", "test_accuracy")
    return json_object(
        {
            "run_folder": str(folder),
            "data": config.data,
            "model": config.model,
            "estimator": config.estimator,
            "parameters": ready.model.parameter_count,
            "device": ready.model.device,
            "precision": precision,
            "tangent_precision": tangent_precision,
            "steps": 0 if final is None else final.step,
            "seconds": None if final is None else final.seconds,
            **{name: None if final is None else getattr(final, name) for name in figures},
            **({} if final is None else final.metrics),
            "ended_by": history.ended_by,
            "restored_step": history.restored_step,
            "warnings": list(warnings),
        }
    )
