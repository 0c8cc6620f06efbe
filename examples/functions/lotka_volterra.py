"""
Fit an ODE to hares and lynxes
==============================

The Hudson's Bay Company counted pelts of hares and of lynxes from 1900 to 1920. The equations of Lotka and Volterra
describe two such populations by four rates:

    hares' = (a - b lynxes) hares,    lynxes' = (c hares - d) lynxes

The distance between the solution and the counts is a function of the rates and of both populations in 1900. Forward
mode differentiates the solver itself, step by step. All six derivatives come from one pass over the simulation, and
nothing is stored on the way.
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

steps_a_year = 50
hares = [30, 47.2, 70.2, 77.4, 36.3, 20.6, 18.1, 21.4, 22, 25.4, 27.1]
hares += [40.3, 57, 76.6, 52.3, 19.5, 11.2, 7.6, 14.6, 16.2, 24.7]
lynxes = [4, 6.1, 9.8, 35.2, 59.4, 41.7, 19, 13, 8.3, 9.1, 7.4]
lynxes += [8, 12.3, 19.5, 45.7, 51.1, 29.7, 15.8, 9.7, 10.1, 8.6]
counts = np.array([hares, lynxes]).T  # thousands of pelts


@fg.differentiable
def simulate(theta):
    """Return both populations in each year, (21, 2), by the classical method of Runge and Kutta."""
    a, b, c, d = np.exp(theta[0]), np.exp(theta[1]), np.exp(theta[2]), np.exp(theta[3])
    x, y = np.exp(theta[4]), np.exp(theta[5])
    h = 1.0 / steps_a_year
    populations = np.empty((21, 2))
    for year in range(21):
        populations[year, 0] = x
        populations[year, 1] = y
        for _ in range(steps_a_year):
            kx1, ky1 = (a - b * y) * x, (c * x - d) * y
            u, v = x + 0.5 * h * kx1, y + 0.5 * h * ky1
            kx2, ky2 = (a - b * v) * u, (c * u - d) * v
            u, v = x + 0.5 * h * kx2, y + 0.5 * h * ky2
            kx3, ky3 = (a - b * v) * u, (c * u - d) * v
            u, v = x + h * kx3, y + h * ky3
            kx4, ky4 = (a - b * v) * u, (c * u - d) * v
            x += h / 6.0 * (kx1 + 2.0 * kx2 + 2.0 * kx3 + kx4)
            y += h / 6.0 * (ky1 + 2.0 * ky2 + 2.0 * ky3 + ky4)
    return populations


@fg.differentiable
def distance(theta):
    """Return the mean square of the differences of logarithms."""
    return np.mean((np.log(simulate(theta)) - np.log(counts)) ** 2)


# %%
# The logarithms of rates and populations are fitted, so that none can become negative.

start = np.log([0.5, 0.02, 0.02, 0.8, 30.0, 4.0])
found = fg.minimize(distance, start, steps=400, learning_rate=fg.schedules.Cosine(0.03, 400))
for name, value in zip(["a", "b", "c", "d", "hares 1900", "lynxes 1900"], np.exp(found.x), strict=True):
    print(f"{name:12} {value:8.3f}")
print(f"distance     {distance(start):8.3f} at first, {found.value:.3f} at last")

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
years, populations = np.arange(1900, 1921), simulate(found.x)
for k, (name, color) in enumerate([("hares", "#1f5f99"), ("lynxes", "#c1440e")]):
    axes.plot(years, counts[:, k], "o", color=color, label=f"{name}, counted")
    axes.plot(years, populations[:, k], color=color, label=f"{name}, fitted")
axes.set(xlabel="year", ylabel="thousands of pelts", xticks=years[::4])
axes.legend()
plt.show()
