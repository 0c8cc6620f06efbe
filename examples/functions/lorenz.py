"""
Sensitivity of the Lorenz system
================================

Lorenz's three equations are the model of chaos: two solutions that begin close to each other separate exponentially.
The tangent of the solution along a change of the starting point says how fast, without a second solution and without
a small number to choose. It grows by 0.906 a unit of time on average, which is the system's largest Lyapunov exponent.

Over a short time, the same function can be fitted: its three parameters are found from the path alone.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

h = 0.005
steps = 2_000 if "FGNUMBA_SHORT" in os.environ else 20_000


@fg.differentiable
def slope(point, theta):
    """Return the velocity at a point for theta = (σ, ρ, β)."""
    x, y, z = point[0], point[1], point[2]
    return np.array([theta[0] * (y - x), x * (theta[1] - z) - y, x * y - theta[2] * z])


@fg.differentiable
def path(start, theta, steps):
    """Return the solution, (steps + 1, 3), by the classical method of Runge and Kutta."""
    points = np.empty((steps + 1, 3))
    points[0] = start
    for i in range(steps):
        point = points[i]
        k1 = slope(point, theta)
        k2 = slope(point + 0.5 * h * k1, theta)
        k3 = slope(point + 0.5 * h * k2, theta)
        k4 = slope(point + h * k3, theta)
        points[i + 1] = point + h / 6.0 * (k1 + 2.0 * k2 + 2.0 * k3 + k4)
    return points


# %%
# The tangent is that of a change of the first coordinate. Parameters and the number of steps have no tangent: None.

theta, start = np.array([10.0, 28.0, 8.0 / 3.0]), np.array([1.0, 1.0, 25.0])
points, tangents = fg.jvp(path, (start, theta, steps), (np.array([1.0, 0.0, 0.0]), None, None))
time, size = h * np.arange(steps + 1), np.linalg.norm(tangents, axis=1)
exponent = np.polyfit(time, np.log(size), 1)[0]
print(f"Lyapunov exponent {exponent:.3f} from {steps:,} steps; 0.906 in the literature")

# %%
# A path of 200 steps is observed at every tenth point. The fit begins with other parameters.

observed = path(start, theta, 200)[::10]


@fg.differentiable
def distance(theta):
    """Return the mean squared distance from the observed points."""
    return np.mean((path(start, theta, 200)[::10] - observed) ** 2)


fit = fg.minimize(distance, [8.0, 25.0, 2.0], steps=400, learning_rate=fg.schedules.Cosine(0.3, 400))
print("fitted parameters", fit.x.round(4))

figure = plt.figure(figsize=(9, 3.5), layout="constrained")
axes = figure.add_subplot(1, 2, 1, projection="3d")
axes.plot(*points.T, linewidth=0.4)
axes.set(xlabel="x", ylabel="y", zlabel="z")
axes = figure.add_subplot(1, 2, 2)
axes.semilogy(time, size, label="tangent")
axes.semilogy(time, np.exp(0.906 * time), "--", label="exp(0.906 t)")
axes.set(xlabel="time", ylabel="size of the tangent")
axes.legend()
plt.show()
