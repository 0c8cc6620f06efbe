"""
Derivatives through a hundred thousand training steps
=====================================================

How fast to learn, and how much to shrink the weights, is usually searched by training again and again. Both are
arguments of a function, too: it trains, and returns the loss on held-out data. Its derivatives by the hyperparameters
are tangents that are carried through all steps of the training.

Reverse mode would store the weights of every step. Here the memory does not depend on the number of steps.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

steps = 5_000 if "FGNUMBA_SHORT" in os.environ else 100_000
features, examples = 50, 60
rng = np.random.default_rng(1)
true = rng.standard_normal(features)
x = rng.standard_normal((2 * examples, features))
y = x @ true + 3.0 * rng.standard_normal(2 * examples)
order = rng.integers(0, examples, steps)


@fg.differentiable
def held_out_loss(theta):
    """Train a linear model by single examples, and return its mean squared error on the second half of the data.

    `theta` holds the logarithms of the learning rate at the first step and of the weight decay.
    """
    first, decay = np.exp(theta[0]), np.exp(theta[1])
    w = np.zeros(features)
    for step in range(steps):
        rate = first * (1.0 - step / steps)
        row = x[order[step]]
        error = np.dot(row, w) - y[order[step]]
        for k in range(features):
            w[k] -= rate * (error * row[k] + decay * w[k])
    return np.mean((np.dot(x[examples:], w) - y[examples:]) ** 2)


# %%
# Forty steps of the hyperparameters train forty times.

start = np.log([1e-3, 1e-2])
found = fg.minimize(held_out_loss, start, steps=40, learning_rate=fg.schedules.Cosine(0.5, 40))
rate, decay = np.exp(found.x)
print(f"held-out loss {held_out_loss(start):.3f} at first, {found.value:.3f} at last")
print(f"learning rate {rate:.2e}, weight decay {decay:.3f}, found through {steps:,} training steps each")

# %%
# The derivative is that of the program: it agrees with a difference of two trainings.

direction = np.array([0.6, 0.8])
_, derivative = fg.jvp(held_out_loss, (found.x,), (direction,))
difference = (held_out_loss(found.x + 1e-5 * direction) - held_out_loss(found.x - 1e-5 * direction)) / 2e-5
print(f"derivative {derivative:.8f}, difference {difference:.8f}")

decays = np.linspace(-8.0, 1.0, 30)
curve = [held_out_loss(np.array([found.x[0], one])) for one in decays]
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
found.plot(left)
left.set(xlabel="step of the hyperparameters", ylabel="held-out loss")
right.semilogx(np.exp(decays), curve)
right.plot(decay, found.value, "o", color="#c1440e")
right.set(xlabel="weight decay", ylabel="held-out loss")
plt.show()
