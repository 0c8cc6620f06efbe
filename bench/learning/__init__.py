"""Comparisons of how well gradient estimators train, and of a run's estimates with the exact gradient."""
