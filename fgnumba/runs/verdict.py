"""Whether a run has learned anything: what its last record says, compared with guessing and with its first loss."""

import math

import numpy as np
import numpy.typing as npt

from fgnumba.training.records import Record

ERRORS = 2.0
"""Standard errors of the accuracy by which it must exceed that of guessing: 97.7 % of guessing models stay below."""
RISE = 1.1
"""Factor by which the last training loss may exceed the first: the losses of two batches of one model differ, too."""


def doubts(
    final: Record, first_loss: float, labels: npt.NDArray[np.generic], learning_rate: float
) -> list[str]:
    """Return what is wrong with the end of a run, each with what to try: an empty list for a run that has learned.

    A model that always answers with the most frequent class is right in a share p of n test examples. An accuracy of at
    most p + 2 √(p (1 - p) / n) may come from such a model, or from one that guesses. Of a regression, an R² of at most
    0 says the same.

    Parameters
    ----------
    final : Record
        The last record of the run.
    first_loss : float
        Training loss of the first step, or of the first record where that is not known; NaN if neither is.
    labels : ndarray
        (n,) integer labels of the test examples. Other targets, which have no classes, are not judged by accuracy.
    learning_rate : float
        Learning rate of the first step; NaN where it was measured in the run.
    """
    found = []
    rose = final.loss > RISE * abs(first_loss)
    if rose:
        lower = "" if math.isnan(learning_rate) else f", such as {learning_rate / 10:.3g}"
        found.append(
            f"the training loss rose from {first_loss:.4g} to {final.loss:.4g}; try a lower --learning-rate{lower}"
        )
    chance = chance_level(labels)
    if chance is not None and final.test_accuracy <= chance[1]:
        hint = (
            ""
            if rose
            else "; try more --steps, a --learning-rate that fgtrain search finds, or another --estimator"
        )
        found.append(
            f"test accuracy {final.test_accuracy:.4f} is no better than guessing: one class has a share of "
            f"{chance[0]:.4f} of the {len(labels)} test examples, and up to {chance[1]:.4f} may be luck{hint}"
        )
    r2 = final.value("test_r2")
    if r2 <= 0:
        found.append(f"test R² {r2:.4f} is no better than always predicting the mean of the targets")
    return found


def chance_level(labels: npt.NDArray[np.generic]) -> tuple[float, float] | None:
    """Return the share p of the most frequent class and the largest accuracy that may be luck.

    Parameters
    ----------
    labels : ndarray
        (n,) integer labels.

    Returns
    -------
    tuple of float or None
        p and p + 2 √(p (1 - p) / n); None if there are no classes, or only one.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or not len(labels):
        return None
    share = float(np.unique(labels, return_counts=True)[1].max()) / len(labels)
    if share == 1.0:
        return None
    return share, min(1.0, share + ERRORS * math.sqrt(share * (1.0 - share) / len(labels)))
