"""The benchmarks that ``pytest bench`` runs."""
