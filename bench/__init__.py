"""Benchmarks: interleaved measurements, peers, and the suites that ``pytest bench`` runs."""
