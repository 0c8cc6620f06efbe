"""``--telemetry``: comparisons of a run's estimated gradients with the exact ones, by reverse mode."""

from typing import TYPE_CHECKING, Any

from fgnumba.errors import ConfigError
from fgnumba.validation import whole_number

if TYPE_CHECKING:
    import fgnumba as fg


def check_telemetry(every: Any, model: "fg.Graph", dataset: "fg.datasets.Dataset") -> None:
    """Raise ConfigError unless gradients can be compared every so many steps of a model's training.

    Parameters
    ----------
    every : int
        Number of steps between comparisons.
    model : Graph
        The run's model, which must be on the CPU.
    dataset : Dataset
        The run's data, whose examples must be independent.
    """
    whole_number("telemetry", every)
    if dataset.streamed and not model.reads_windows:
        raise ConfigError(
            f"telemetry compares gradients of batches, and {dataset.name} is a text, whose gradient depends on the past"
        )
    if not model.processor.by_parts:
        raise ConfigError(
            "telemetry compares with reverse mode, which runs on the CPU alone: --device cpu is required"
        )


def telemetry_of(
    every: Any, dataset: "fg.datasets.Dataset", batch_size: int, saved: "fg.Checkpoints"
) -> "fg.Callback":
    """Return the callback that compares gradients.

    Parameters
    ----------
    every : int
        Number of steps between comparisons.
    dataset : Dataset
        The run's data set.
    batch_size : int
        Number of examples in each comparison.
    saved : Checkpoints
        The run's checkpoints, beside which the comparisons are written.
    """
    from fgnumba.bench.learning.telemetry import Telemetry

    return Telemetry(whole_number("telemetry", every), dataset, batch_size, saved)
