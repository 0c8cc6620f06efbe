"""
A cluster of atoms at rest
==========================

Noble gases attract each other from afar and repel each other nearby. Lennard and Jones put that into one formula for
the energy of two atoms at a distance r: 4 (1/r¹² - 1/r⁶). The force on an atom is minus the gradient of the energy by
its place, so that a function of the places is all that a program has to state.

Thirteen atoms rest with the lowest energy as an icosahedron, one of them in the middle, at -44.3268. Several descents
from random places find it, or other arrangements at rest.
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

atoms, starts, steps = 13, 8, 2_000


@fg.differentiable
def energy(places):
    """Return the energy of atoms at `places`, (atoms, 3)."""
    total = 0.0
    for i in range(len(places)):
        for j in range(i):
            square = 0.0
            for axis in range(3):
                square += (places[i, axis] - places[j, axis]) ** 2
            inverse = 1.0 / square**3
            total += 4.0 * (inverse * inverse - inverse)
    return total


# %%
# The 39 derivatives come in chunks, several in one pass. Forces sum to zero.

grid = np.array([(x, y, z) for x in range(3) for y in range(3) for z in range(3)], float)
rng = np.random.default_rng(0)
runs = []
for _ in range(starts):
    places = 1.2 * grid[rng.permutation(27)[:atoms]] + 0.05 * rng.standard_normal((atoms, 3))
    runs.append(fg.minimize(energy, places, steps=steps, learning_rate=fg.schedules.Cosine(0.05, steps)))
energies = [run.value for run in runs]
best = runs[int(np.argmin(energies))]
print("energies at rest", np.sort(energies).round(4))
forces = -fg.gradient(energy)(best.x)
print(f"largest force {np.abs(forces).max():.1e}, sum of forces {np.abs(forces.sum(axis=0)).max():.1e}")

# %%
# A network has weights; a cluster has places. The picture joins atoms that touch.

figure = plt.figure(figsize=(9, 3.8), layout="constrained")
axes = figure.add_subplot(1, 2, 1)
for run in runs:
    records = run.history.records
    axes.plot([record.step for record in records], [record.loss for record in records], linewidth=1)
axes.axhline(-44.3268, color="gray", linestyle=":")
axes.set(xlabel="step", ylabel="energy", ylim=(-46, -20))
axes = figure.add_subplot(1, 2, 2, projection="3d")
distances = np.linalg.norm(best.x[:, None] - best.x[None], axis=2)
for i, j in zip(*np.nonzero(np.triu((distances < 1.3) & (distances > 0))), strict=True):
    axes.plot(*best.x[[i, j]].T, color="gray", linewidth=0.8)
axes.scatter(*best.x.T, s=120, depthshade=True)
axes.set_axis_off()
plt.show()
