"""
Solve Poisson's equation by a network
=====================================

A membrane is stretched over a square frame and pushed down by a weight. Its height u obeys Poisson's equation

    ∂²u/∂x² + ∂²u/∂y² = push(x, y),    u = 0 on the frame

and a network shall be that function u. Its Laplacian comes from one collapsed pass of forward mode, and the loss is
what the network leaves of the equation, at points within the square and on its frame. That loss is differentiated once
more, along directions of the weights; a step solves for the best move among them.

The same equation on a grid of 63 × 63 points, solved by sines, says how good the network has become.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

steps = 15 if "FGNUMBA_SHORT" in os.environ else 40
width, weight = 0.12, 20.0


def residual(x, u, du, lap):
    """Return what is left of the equation at a point, or of the frame's condition."""
    if x[0] == 0.0 or x[0] == 1.0 or x[1] == 0.0 or x[1] == 1.0:
        return 10.0 * u
    square = (x[0] - 0.35) ** 2 + (x[1] - 0.6) ** 2
    return lap - weight * np.exp(-0.5 * square / width**2)


model = fg.Sequential([fg.Dense(32, "tanh"), fg.Dense(32, "tanh"), fg.Dense(1)], input_shape=2, device="cpu")
loss = fg.PhysicsLoss(model, residual)

# %%
# A fifth of the points lies on the frame.

rng = np.random.default_rng(0)
points = rng.random((1_000, 2))
frame = np.arange(200)
points[frame, frame % 2] = frame // 2 % 2
losses = [loss.gauss_newton_step(points, directions=256, step=step) for step in range(steps)]
losses.append(loss(points))
print(f"loss {losses[0]:.2f} at first, {losses[-1]:.5f} after {steps} steps")

# %%
# Sines are the eigenfunctions of the Laplacian: in them, the equation on the grid is a division.

n = 63
grid = np.arange(1, n + 1) / (n + 1)
sines = np.sin(np.pi * np.outer(np.arange(1, n + 1), grid)) * np.sqrt(2.0 / (n + 1))
eigenvalues = (2.0 - 2.0 * np.cos(np.pi * grid)) * (n + 1) ** 2
push = weight * np.exp(-0.5 * ((grid[:, None] - 0.35) ** 2 + (grid[None] - 0.6) ** 2) / width**2)
exact = -sines @ ((sines @ push @ sines) / (eigenvalues[:, None] + eigenvalues[None])) @ sines
inside = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 2)
network = model(inside).reshape(n, n)
print(f"deepest point {exact.min():.4f} by sines, {network.min():.4f} by the network")
print(f"largest error {np.abs(network - exact).max():.1e}")

figure, panels = plt.subplots(1, 3, figsize=(10, 3), layout="constrained")
for axes, (title, values) in zip(
    panels, {"network": network, "error": network - exact}.items(), strict=False
):
    image = axes.imshow(values.T, origin="lower", extent=(0, 1, 0, 1), cmap="viridis")
    figure.colorbar(image, ax=axes)
    axes.set(title=title, xlabel="x", ylabel="y")
panels[2].semilogy(losses)
panels[2].set(xlabel="step", ylabel="mean squared residual")
plt.show()
