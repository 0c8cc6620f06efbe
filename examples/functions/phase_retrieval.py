"""
Phase retrieval
===============

A detector of light or of X-rays measures intensities, the squares of what arrives; signs and phases are lost. With
enough measurements y = (A x)² the signal x can be found again, up to its sign, by descending on

    f(x) = mean of ((A x)² - y)² / 4

The start is the direction in which the measurements weigh most, as in E. Candès, X. Li and M. Soltanolkotabi, Phase
Retrieval via Wirtinger Flow, arXiv 1407.1065. The descent then needs no exact gradient: forward gradients along sixteen
random directions cost two passes where the gradient of 128 unknowns costs sixteen.
"""

import os

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

n, measurements, steps = (32, 256, 600) if "FGNUMBA_SHORT" in os.environ else (128, 1_024, 1_500)
rng = np.random.default_rng(0)
t = np.linspace(0.0, 1.0, n)
signal = np.sin(6.0 * np.pi * t**2) * (t < 0.7) + 1.0 * (abs(t - 0.85) < 0.06)
A = rng.standard_normal((measurements, n))
intensities = (A @ signal) ** 2


@fg.differentiable
def misfit(x):
    """Return the mean square of the differences of intensities, divided by four."""
    return np.mean((np.dot(A, x) ** 2 - intensities) ** 2) / 4.0


# %%
# Ten products with the matrix of weighted measurements give the start.

start = rng.standard_normal(n)
for _ in range(10):
    start = A.T @ (np.minimum(intensities, 9.0 * intensities.mean()) * (A @ start))
    start *= np.sqrt(intensities.mean()) / np.linalg.norm(start)

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
left.plot(t, signal, color="gray", label="signal")
rate = fg.schedules.Cosine(0.02, steps)
for name, estimator in {"gradient": "gradient", "forward gradients": "forward"}.items():
    found = fg.minimize(misfit, start, steps=steps, estimator=estimator, learning_rate=rate)
    sign = np.sign(found.x @ signal)
    error = np.linalg.norm(sign * found.x - signal) / np.linalg.norm(signal)
    print(f"{name:18} misfit {found.value:.1e}, relative error {error:.1e}")
    left.plot(t, sign * found.x, ".", markersize=4, label=name)
    records = found.history.records
    right.semilogy([record.step for record in records], [record.loss for record in records], label=name)
left.set(xlabel="place", ylabel="signal")
right.set(xlabel="step", ylabel="misfit")
left.legend()
plt.show()
