"""Second derivatives of each example's loss in the outputs of a model, as a diagonal and a term of rank 1.

    ∂²f_i/∂z_i² = diag(h_i) - c h_i h_iᵀ / Σ_n h_in

With w_i the weight of example i, times that of its class, and N outputs,

    softmax    h_i = w_i softmax(z_i)                    c = 1
    binary     h_i = w_i sigmoid'(z_i) / N               c = 0
    squared    h_i = 2 w_i / N                           c = 0
    huber      h_i = w_i / N where |z - y| ≤ δ, else 0   c = 0

All are positive semidefinite. Cross-entropies do not depend on the targets except through the weights of classes.
"""

COUPLED = frozenset({"softmax"})
"""The losses for which c is 1: their outputs are not independent of each other."""
