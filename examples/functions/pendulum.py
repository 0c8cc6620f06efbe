"""
Control a pendulum through a million steps
==========================================

A pendulum hangs, and a motor whose torque is too weak to lift it shall swing it up in eight seconds, so that it stands
at the end. The torque is held for a second at a time, so there are eight numbers to find.

The eight seconds are simulated in a million steps. Reverse mode would keep the state of every step, or compute it
again. Forward mode carries eight tangents beside the state, in registers: its memory is the same for any number of
steps.
"""

import os
import time

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

steps = 10_000 if "FGNUMBA_SHORT" in os.environ else 1_000_000
pieces, seconds, gravity, friction = 8, 8.0, 9.81, 0.05


@fg.differentiable
def swing(torque):
    """Return angle and speed at the end; the pendulum, of one metre and one kilogramme, hangs at angle 0."""
    h, each = seconds / steps, steps // pieces
    angle, speed = 0.0, 0.0
    for piece in range(pieces):
        push = 4.0 * np.tanh(torque[piece])  # at most 4 newton metres; 9.81 would hold it up sideways
        for _ in range(each):
            speed += h * (push - gravity * np.sin(angle) - friction * speed)
            angle += h * speed
    return angle, speed


@fg.differentiable
def cost(torque):
    """Return how far the end is from standing still upright, and a little for the torque."""
    angle, speed = swing(torque)
    return 2.0 * (1.0 + np.cos(angle)) + 0.1 * speed**2 + 1e-3 * np.sum(torque**2)


# %%
# The start pushes with the swing, to and fro.

start = 0.5 * np.array([1.0, -1.0] * 4)
began = time.perf_counter()
found = fg.minimize(cost, start, steps=80, learning_rate=fg.schedules.Cosine(0.1, 80))
print(f"{found.steps} gradients through {steps:,} steps each in {time.perf_counter() - began:.1f} s")
print(f"cost {cost(start):.4f} at first, {found.value:.4f} at last")
print("height at the end", round(float(-np.cos(swing(found.x)[0])), 4), "metres")

# %%
# The same simulation with 10,000 steps draws the path.

h, each = seconds / 10_000, 10_000 // pieces
angles, speed = [0.0], 0.0
for i in range(10_000):
    push = 4.0 * np.tanh(found.x[i // each])
    speed += h * (push - gravity * np.sin(angles[-1]) - friction * speed)
    angles.append(angles[-1] + h * speed)

figure, (above, below) = plt.subplots(2, 1, sharex=True, figsize=(7, 4.5), layout="constrained")
above.plot(np.linspace(0, seconds, 10_001), -np.cos(angles))
above.axhline(1.0, color="gray", linestyle=":")
above.set(ylabel="height in metres")
below.stairs(4.0 * np.tanh(found.x), np.linspace(0, seconds, pieces + 1), baseline=None)
below.set(xlabel="time in seconds", ylabel="torque in N m")
plt.show()
