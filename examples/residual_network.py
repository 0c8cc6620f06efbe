"""
A residual network as a graph
=============================

``fg.Sequential`` is a row of layers. ``fg.Graph`` wires layers by name: a node says which nodes it reads. Here two
convolutions are bridged by a sum, which is a residual block.
"""

import matplotlib.pyplot as plt

import fgnumba as fg

data = fg.datasets.load("digits")
nodes = [
    fg.Node("stem", fg.Conv2d(16, 3, padding="same", activation="relu")),
    # The block: two convolutions, and a sum of their output with their input.
    fg.Node("first", fg.Conv2d(16, 3, padding="same", activation="relu"), ("stem",)),
    fg.Node("second", fg.Conv2d(16, 3, padding="same"), ("first",)),
    fg.Node("sum", fg.Add(activation="relu"), ("stem", "second")),
    fg.Node("pool", fg.MaxPool2d(2)),
    fg.Node("flat", fg.Flatten()),
    fg.Node("head", fg.Dense(data.classes)),
]
model = fg.Graph(nodes, input_shape=data.input_shape, seed=0)
print(f"{model.parameter_count:,} parameters")

# %%
# A plan is what a pass runs: the operations in their order, and the buffers that they share. Nothing is kept for a
# reverse pass, so that a few buffers serve all layers.

print(model.plan(64))

# %%
# For convolutions ``fg.LocalLosses`` is a good estimator: each block learns by a small linear classifier of its own.

estimator = fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0), local=fg.LocalLosses())
trainer = fg.Trainer(model, estimator=estimator, optimizer=fg.Adam(learning_rate=3e-3, decay=1e-3))
history = trainer.fit(data, epochs=20, batch_size=64)
history.plot()
plt.show()
print(f"test accuracy {history.final.test_accuracy:.3f}")
