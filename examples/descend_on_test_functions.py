"""
Descend on Beale's and Rosenbrock's functions
=============================================

On a function of two variables a forward gradient can be watched. Gradient descent follows the slope; forward-gradient
descent follows a random direction, forwards or backwards, by as much as the slope along it says. Both end at the
minimum or near it.
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

steps = 10_000


def descend(function, start, rate, directions):
    """Return the points of a descent, (steps + 1, 2)."""
    path = [np.array(start)]
    for vectors in directions:
        point = path[-1]
        gradient = sum(function.jvp(point, v)[1] * v for v in vectors)
        path.append(point - rate * gradient)
    return np.array(path)


# %%
# Along both axes, a forward gradient is the gradient. Along one random direction, it is an unbiased estimate of it.

rng = np.random.default_rng(1)
along_axes = np.broadcast_to(np.eye(2), (steps, 2, 2))
at_random = rng.standard_normal((steps, 1, 2))
cases = {
    "Beale": (fg.functions.beale, (0.0, -1.0), 5e-3, (-0.5, 4.0), (-1.5, 1.5)),
    "Rosenbrock": (fg.functions.rosenbrock, (-1.0, 0.0), 5e-4, (-1.6, 1.6), (-0.6, 1.6)),
}
figure, panels = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
for axes, (name, (function, start, rate, x_range, y_range)) in zip(panels, cases.items(), strict=True):
    x, y = np.linspace(*x_range, 80), np.linspace(*y_range, 80)
    heights = [[function.jvp([a, b], [0.0, 0.0])[0] for a in x] for b in y]
    axes.contour(x, y, np.log1p(heights), 15, linewidths=0.5, colors="gray")
    for label, directions in (("gradient", along_axes), ("forward gradient", at_random)):
        path = descend(function, start, rate, directions)
        axes.plot(*path.T, linewidth=1, label=label)
        print(f"{name:10}  {label:16}  distance {np.linalg.norm(path[-1] - function.minimum):.4f}")
    axes.plot(*function.minimum, "k*")
    axes.set(title=name, xlim=x_range, ylim=y_range)
panels[0].legend()
plt.show()
