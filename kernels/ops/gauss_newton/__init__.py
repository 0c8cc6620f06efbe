"""Gauss-Newton steps in the span of T directions: the matrix of the quadratic model, its solution, and its damping.

    G_ts = (1/B) Σ_i dz_tiᵀ H_i dz_si          H_i: the second derivative of example i's loss in its outputs
    c    = (G + λ I)⁻¹ d                       d_t: the derivative of the loss along direction t

G is exact: the tangents dz of the outputs come from the pass that computes d. H is that of ``ops.output_curvature``.
"""

import numpy as np

STATE = 5
LAMBDA, SLOPE, CURVATURE, RATE, HIGHEST = range(STATE)
"""What is kept from step to step, float32: λ (0: there was no step yet), the running means of slope and curvature along
the last step, its learning rate, and the highest learning rate so far."""

MEMORY = np.float64(0.02)
"""Share of the newest step in the running means: they remember about fifty steps."""

DEPENDENT = np.float64(1e-6)
"""Without damping, a direction is left out if only this share of its square is left once those before it are taken
away. G is a sum of products in float32, each rounded by 6e-8 of the squares."""
