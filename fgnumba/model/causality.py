"""Whether a model's outputs depend on positions that come later, as those of a model that predicts symbols must not."""

from typing import TYPE_CHECKING

import numpy as np

from fgnumba.errors import ConfigError

if TYPE_CHECKING:
    from fgnumba.model.graph import Graph

LEAK = 1e-5
"""Largest change of an output, in units of the largest output, that is taken for a rounding. Outputs of causal layers
do not change at all on the CPU."""


def check_causal(where: str, model: "Graph") -> None:
    """Raise ConfigError if outputs at a position depend on a symbol that comes later.

    The model reads two sequences that differ in their last symbol alone, and only its last output may differ.

    Parameters
    ----------
    where : str
        Where the model comes from, or what it reads, for the message.
    model : Graph
        A model that turns symbols (L,) into outputs (L, V).

    Raises
    ------
    ConfigError
        An output depends on later symbols.
    """
    length, symbols = model.input_shape[0], model.symbols or 1
    if len(model.output_shape) != 2 or model.output_shape[0] != length:
        return
    pair = np.zeros((2, length), np.int64) + np.arange(length) % symbols
    pair[1, -1] = (pair[0, -1] + 1) % symbols
    # The outputs of a model that has diverged are not finite, and tell nothing.
    with np.errstate(invalid="ignore", over="ignore"):
        first, second = np.asarray(model(pair))[:, :-1]
        changed = bool((np.abs(first - second) > LEAK * np.abs(first).max(initial=0.0)).any())
    if changed:
        raise ConfigError(
            f"{where}: outputs of the model depend on symbols that come later, which they are to predict; causal "
            "layers are required, such as self_attention with causal = true"
        )
