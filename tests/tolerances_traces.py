"""Tolerances of gradients from traces, beside those of ``tolerances.py``, whose rules they follow."""

from tests.tolerances import U, Within

TRACES = 128 * U
"""A gradient from given gates, states and signals beside float64's, as a share of its greatest element: a sum of some
hundred terms of either sign, each a product of up to fourteen factors between two windows, rounded by U each; of
linear units 1 - |λ|² and its derivative come from exponentials that are wrong by 4 U. 4e-7 to 2e-6 were seen."""

GRADIENT = 1e-5
"""A gradient of a whole model, as a share of its norm: states that remember for a hundred steps carry the roundings of
as many. It is the bound that the project promises of derivatives; 1e-7 to 1e-6 were seen."""

LOSS = Within(1e-5, 0.0)
"""A loss of such a model, which is a mean over positions of states that carry the same roundings."""
