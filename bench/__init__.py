"""Benchmarks: interleaved measurements, other frameworks to compare with, and the suites that ``pytest bench`` runs."""
