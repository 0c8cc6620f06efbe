"""Comparison of two revisions of the code: their steps are timed in turn within one run."""
