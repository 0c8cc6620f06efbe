"""Tolerances of learned feedback, beside those of ``tolerances.py``, whose rules they follow."""

LEARNED = 1e-6
"""The distance of a matrix that has learned from the weight that it predicts, as a share of the weight's norm. The
noise that it learns from is exact, so that a step leaves the roundings of two products: 2e-7 were seen."""

LEARNED_SLOWLY = 1e-5
"""The same at a tenth of the rate: it stops where a step, a hundredth of what is mispredicted, is half a rounding of
the matrix. 3e-6 were seen."""

ALIGNED = 0.99
"""The cosine of a gradient from matrices that follow weights in training with that from the weights themselves. What a
step moves a weight by, matrices learn within a few; 0.999 and more were seen."""

AVERAGED = 0.05
"""The distance between a mean of matrices that learn a response which differs from position to position, and the mean
of the responses, as a share of its norm: what is left of the noise of 400 steps, of which some twenty depend on each
other. 0.013 to 0.021 were seen."""

SPEED = 0.15
"""The rate at which matrices approach their weights, of what the formula's mean square says: over forty steps, two
matrices of 2,304 and 240 entries were 4 % faster to 3 % slower with eight seeds. The logarithm of a mean is above the
mean of logarithms."""
