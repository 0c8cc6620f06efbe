"""Optimisers: updates of a parameter and its moments by a stored gradient."""

import numpy as np

SGD, MOMENTUM, NESTEROV, ADAM, AVERAGE, CORRECT, BALL_L2, BALL_LINF = range(8)

RATES = np.dtype(
    [
        (name, np.float64)
        for name in (
            *("learning_rate", "momentum", "beta2", "epsilon", "weight_decay", "decoupled_decay"),
            *("correction", "correction2", "radius", "clip_norm", "factor", "norm"),
        )
    ]
)
"""Numbers that may change from step to step, read when the operations run. The operations write `factor` and `norm`."""
