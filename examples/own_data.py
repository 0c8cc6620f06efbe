"""
Your own data, from NumPy arrays
================================

A data set is four arrays and the number of classes: examples and labels to train on, examples and labels to test with.
Here the examples are points of a plane in three spirals, and the labels say to which spiral a point belongs.
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

rng = np.random.default_rng(0)


def spirals(examples):
    """Return points of the plane, (examples, 2) float32, and the numbers of their spirals, (examples,) int64."""
    labels = rng.integers(0, 3, examples)
    radius = rng.uniform(0.1, 1.0, examples)
    angle = 4.0 * radius + labels * 2.0 * np.pi / 3.0 + rng.normal(0.0, 0.1, examples)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points.astype(np.float32), labels


x_train, y_train = spirals(3000)
x_test, y_test = spirals(600)
data = fg.datasets.Dataset("spirals", x_train, y_train, x_test, y_test, classes=3)

# %%
# The input of a model for such data is a vector of two numbers, and the output has a number for each class.

layers = [fg.Dense(64, activation="tanh"), fg.Dense(64, activation="tanh"), fg.Dense(data.classes)]
model = fg.Sequential(layers, input_shape=data.input_shape, seed=0)
trainer = fg.Trainer(
    model,
    estimator=fg.ActivityPerturbation(feedback=fg.Feedback(control=0.0)),
    optimizer=fg.Adam(learning_rate=5e-3, decay=5e-4),
)
history = trainer.fit(data, epochs=80, batch_size=64)
print(f"test accuracy {history.final.test_accuracy:.3f}")

# %%
# The regions that the model has learned, and the test data.

side = np.linspace(-1.1, 1.1, 120, dtype=np.float32)
grid = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
regions = model(grid).argmax(axis=1).reshape(len(side), len(side))
figure, axes = plt.subplots(figsize=(4.5, 4.5), layout="constrained")
axes.contourf(side, side, regions, levels=[-0.5, 0.5, 1.5, 2.5], alpha=0.3)
axes.scatter(*x_test.T, c=y_test, s=6)
axes.set_aspect("equal")
plt.show()
