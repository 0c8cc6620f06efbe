"""
Standard errors from Fisher information
=======================================

Before the space shuttle Challenger was lost at 31 °F, 23 flights had been made in warmer air, and seven had damaged
seals. A logistic curve gives the probability of damage for each temperature. Newton's method finds its two parameters
in a few steps: the second derivatives are exact, by numbers that carry two tangents and their product.

The matrix of second derivatives at the maximum is the Fisher information. Its inverse holds the variances of the
parameters, and so a band around the curve.
"""

import matplotlib.pyplot as plt
import numpy as np

import fgnumba as fg

temperatures = [66, 70, 69, 68, 67, 72, 73, 70, 57, 63, 70, 78, 67, 53, 67, 75, 70, 81, 76, 79, 75, 76, 58]
damaged = [0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1]
x, y = np.array(temperatures, float), np.array(damaged, float)
middle = x.mean()


@fg.differentiable
def minus_log_likelihood(theta):
    """Return -Σ log P(y_i) with P(damage) = 1 / (1 + exp(-z)), z = theta[0] + theta[1] (x - mean of x)."""
    z = theta[0] + theta[1] * (x - middle)
    return np.sum(np.log1p(np.exp(-z)) + (1.0 - y) * z)


gradient, hessian = fg.gradient(minus_log_likelihood), fg.hessian(minus_log_likelihood)
theta = np.zeros(2)
for step in range(7):
    slope, information = gradient(theta), hessian(theta)
    print(
        f"step {step}: -log likelihood {minus_log_likelihood(theta):.6f}, slope {np.linalg.norm(slope):.1e}"
    )
    theta -= np.linalg.solve(information, slope)

# %%
# Books report 15.043 for the constant (at 0 °F) and -0.232 for a degree, with standard errors 7.379 and 0.108.

covariance = np.linalg.inv(hessian(theta))
at_zero = np.array([[1.0, -middle], [0.0, 1.0]])
errors = np.sqrt(np.diag(at_zero @ covariance @ at_zero.T))
for name, value, error in zip(["constant", "a degree"], at_zero @ theta, errors, strict=True):
    print(f"{name:9} {value:8.3f} ± {error:.3f}")

axis = np.linspace(30, 85, 200)
rows = np.stack([np.ones(200), axis - middle])
z, spread = theta @ rows, np.sqrt(np.einsum("ik,ij,jk->k", rows, covariance, rows))


def probability(z):
    """Return the logistic function."""
    return 1.0 / (1.0 + np.exp(-z))


figure, axes = plt.subplots(figsize=(6.5, 3.5), layout="constrained")
axes.plot(x, y, "o", alpha=0.5, label="flights")
axes.plot(axis, probability(z), label="probability of damage")
axes.fill_between(
    axis, probability(z - 1.96 * spread), probability(z + 1.96 * spread), alpha=0.2, label="95 %"
)
axes.axvline(31, color="gray", linestyle=":")
axes.set(xlabel="temperature in °F", ylabel="damage")
axes.legend()
plt.show()
