"""
A derivative along a direction
==============================

``fg.jvp`` gives the loss of a batch and its derivative along a direction, from one forward pass.
``fg.forward_gradient`` multiplies the direction by that derivative. This script checks both against reverse mode, which
fgnumba has for comparison alone.
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg
from fgnumba.bench import reverse

data = fg.datasets.load("digits")
x, y = data.x_train[:256], data.y_train[:256]
model = fg.Sequential([fg.Flatten(), fg.Dense(10)], input_shape=data.input_shape, seed=0)
loss = fg.SoftmaxCrossEntropy()
value, gradient = reverse.value_and_grad(model, loss, x, y)


def flat(arrays):
    """Return all entries of arrays by name as one vector."""
    return np.concatenate([array.ravel() for array in arrays.values()]).astype(np.float64)


# %%
# The derivative along v is the inner product of v with the gradient. It is exact: there is no finite difference.

v = fg.directions.RankOne(seed=0)
forward_value, derivative = fg.jvp(model, loss, x, y, v)
print(f"loss        forward {forward_value:.6f}  reverse {value:.6f}")
print(f"derivative  forward {derivative:.6f}  reverse {flat(v.materialize(model)) @ flat(gradient):.6f}")

# %%
# One forward gradient is a poor estimate of the gradient. It is right on average: the mean of n estimates has 1/n of
# the squared error, as the straight line says.

P = flat(gradient).size
exact, total, errors = flat(gradient), np.zeros(P), []
counts = range(1, 1001)
for n in counts:
    _, estimate = fg.forward_gradient(model, loss, x, y, fg.directions.RankOne(seed=0, step=n))
    total += flat(estimate)
    errors.append(np.sum((total / n - exact) ** 2) / np.sum(exact**2))
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
axes.loglog(counts, errors, label="measured")
axes.loglog(counts, [(P - 1) / n for n in counts], "--", label="(P - 1) / n")
axes.set(xlabel="number of forward gradients n", ylabel="relative squared error")
axes.legend()
plt.show()
