"""Tolerances of attention on a GPU, in float32; see ``tests.tolerances``."""

from tests.tolerances import U, Within

ATTENDED = Within(absolute=16 * U)
"""Means of values of up to 4 with weights p. A score of up to 8, a sum of up to 40 products of either sign, is wrong by
a few U, and each p by as much relatively; p of either direction cancel in the mean."""
ATTENDED_TANGENT = Within(absolute=80 * U)
"""Their tangents: p times dS of up to 10, a sum of two such products, times values of up to 4, less the mean of dS."""
ATTENDED_SIGNALS = Within(absolute=80 * U)
"""Error signals: p (dp - D) with dp of up to 20, a sum of up to 65 products, times queries or keys of up to 4."""
LOG_SUM_EXP = Within(absolute=16 * U)
"""A score of up to 8, wrong by a few U, plus a logarithm."""
ATTENDED_LONG = Within(absolute=500 * U)
"""All of these with 1,030 keys, and 2,060 queries that read a key: error signals of up to 6 are sums of so many
terms of either sign. On the CPU, where sums are shorter, they are wrong by up to 140 U."""
