"""
Resume a run, and replay it
===========================

A run with checkpoints can be continued after an interruption, and ends with the same bits as if it had not been
interrupted. A run of weight perturbation also leaves a log of a few bytes a step, from which its parameters follow for
any step, without data.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg
from fgnumba import replay

data = fg.datasets.load("digits")


def new_trainer():
    """Return a trainer at step 0, the same one every time."""
    model = fg.Sequential([fg.Flatten(), fg.Dense(10)], input_shape=data.input_shape, seed=0)
    return fg.Trainer(model, estimator=fg.WeightPerturbation(directions=4), optimizer=fg.SGD(1e-2), seed=0)


def parameters(trainer):
    """Return all parameters as one vector."""
    return np.concatenate([array.ravel() for array in trainer.model.parameters().values()])


undisturbed = new_trainer()
undisturbed.fit(data, steps=400)

# %%
# The first trainer stops after 150 steps. The second one knows nothing but the folder, and goes on from there.

with tempfile.TemporaryDirectory() as folder:
    new_trainer().fit(data, steps=150, checkpoints=fg.Checkpoints(folder, every=50))
    second = new_trainer()
    history = second.fit(data, steps=400, checkpoints=fg.Checkpoints(folder), resume=True)
    print("resumed, the same bits:", np.array_equal(parameters(second), parameters(undisturbed)))
    print("records:", len(history.records))

    # %%
    # The log has the learning rate and one number for each direction of each step.
    log = replay.read(Path(folder) / "replay.log")
    third = new_trainer()
    replay.replay(third, log)
    print("replayed, the same bits:", np.array_equal(parameters(third), parameters(undisturbed)))

# %%
# The losses of the resumed run, of both parts.

axes = history.plot()
axes[0].axvline(150, linestyle="--", color="gray")
plt.show()
