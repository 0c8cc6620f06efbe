"""Rules that every device compiles: activations, directions, random numbers, means."""
