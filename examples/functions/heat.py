"""
Find a conductivity from temperatures
=====================================

Heat spreads through a rod whose conductivity differs from place to place:

    ∂u/∂t = ∂/∂x (k(x) ∂u/∂x)

The temperature is measured at eight times; the conductivity, a number for each cell of the rod, is to be found. The
function is the whole simulation, and its 40 derivatives come in five passes of eight tangents.
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

cells, steps, records = 40, 640, 8
h = 1.0 / cells
step = 0.2 * h**2  # explicit steps are stable while k * step / h² is below a half
x = (np.arange(cells) + 0.5) * h
initial = np.exp(-((x - 0.3) ** 2) / 0.01) + 0.6 * np.exp(-((x - 0.75) ** 2) / 0.005)


@fg.differentiable
def temperatures(log_k):
    """Return the temperature at eight times, (records, cells), for the logarithm of the conductivity in each cell."""
    k = np.exp(log_k)
    u = initial.copy()
    flow = np.zeros(cells + 1)  # through the walls of the cells; none at the ends
    measured = np.empty((records, cells))
    for i in range(steps):
        for c in range(1, cells):
            flow[c] = 0.5 * (k[c - 1] + k[c]) * (u[c] - u[c - 1]) / h
        for c in range(cells):
            u[c] += step / h * (flow[c + 1] - flow[c])
        if (i + 1) % (steps // records) == 0:
            measured[(i + 1) // (steps // records) - 1] = u
    return measured


true = 0.3 + 0.7 / (1.0 + np.exp(40.0 * (x - 0.5))) + 0.4 * np.exp(-((x - 0.8) ** 2) / 0.004)
noise = 1e-3 * np.random.default_rng(0).standard_normal((records, cells))
measured = temperatures(np.log(true)) + noise


@fg.differentiable
def misfit(log_k):
    """Return the mean squared misfit in units of the noise, and a little for roughness."""
    rough = log_k[1:] - log_k[:-1]
    return np.mean((temperatures(log_k) - measured) ** 2) / 1e-6 + 0.1 * np.sum(rough**2)


# %%
# The descent begins with the same conductivity everywhere.

start = np.full(cells, np.log(0.5))
found = fg.minimize(misfit, start, steps=300, learning_rate=fg.schedules.Cosine(0.1, 300))
print(f"misfit {misfit(start):.1f} at first, {found.value:.2f} at last; 1 is the noise")
print(
    f"conductivity: largest error {np.abs(np.exp(found.x) - true).max():.3f}, from {true.min():.2f} to {true.max():.2f}"
)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
for k, row in enumerate(measured):
    left.plot(x, row, color=plt.cm.inferno(0.9 - 0.1 * k), linewidth=1)
left.plot(x, initial, "k:", linewidth=1)
left.set(xlabel="place", ylabel="temperature, measured")
right.plot(x, true, color="gray", label="true")
right.plot(x, np.exp(found.x), "o", markersize=4, label="found")
right.set(xlabel="place", ylabel="conductivity", ylim=(0, 1.2))
right.legend()
plt.show()
