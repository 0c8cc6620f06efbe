"""References in plain NumPy and float64 that share no code with the library."""
