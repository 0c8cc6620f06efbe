"""
Derivative of a fixed point
===========================

Many programs iterate x ← g(x, θ) until x no longer changes. There are two ways to the derivative of that x by θ:

* carry the tangent through the iteration, which is what forward mode does with the loop as it stands;
* solve the equation that x' must satisfy: (I - ∂g/∂x) x' = (∂g/∂θ) θ'.

The second needs the derivatives of one evaluation of g alone, at the last x. Here g is a small recurrent network at
rest, g(x, θ) = tanh(W x + θ).
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

units, most = 30, 90
rng = np.random.default_rng(0)
W = rng.standard_normal((units, units))
W *= 1.3 / np.linalg.norm(W, 2)
theta, direction = rng.standard_normal(units), rng.standard_normal(units)


@fg.differentiable
def g(x, theta):
    """Return tanh(W x + theta)."""
    return np.tanh(np.dot(W, x) + theta)


@fg.differentiable
def iterate(theta, times):
    """Return x after a number of iterations from 0."""
    x = np.zeros(units)
    for _ in range(times):
        x = g(x, theta)
    return x


@fg.differentiable
def defect(x):
    """Return x - g(x, theta), which is zero at the fixed point."""
    return x - g(x, theta)


# %%
# Both are compared with the derivative at convergence. The implicit equation is as exact as x is; the iteration carries
# the tangents of its early, wrong x's along for a while.

x, exact = fg.jvp(iterate, (theta, 1_000), (direction, None))
counts, errors = np.arange(2, most, 3), {"x itself": [], "by iterating": [], "by the implicit equation": []}
for count in counts:
    near, carried = fg.jvp(iterate, (theta, count), (direction, None))
    _, push = fg.jvp(g, (near, theta), (None, direction))
    solved = np.linalg.solve(fg.jacobian(defect)(near), push)
    errors["x itself"].append(np.linalg.norm(near - x) / np.linalg.norm(x))
    errors["by iterating"].append(np.linalg.norm(carried - exact) / np.linalg.norm(exact))
    errors["by the implicit equation"].append(np.linalg.norm(solved - exact) / np.linalg.norm(exact))
for name, found in errors.items():
    print(f"{name:25} error {found[0]:.1e} after {counts[0]}, {found[-1]:.1e} after {counts[-1]} iterations")

figure, axes = plt.subplots(figsize=(6.5, 3.5), layout="constrained")
for (name, found), style in zip(errors.items(), [":", "o-", "s-"], strict=True):
    axes.semilogy(counts, found, style, markersize=4, label=name)
axes.set(xlabel="iterations", ylabel="relative error")
axes.legend()
plt.show()
