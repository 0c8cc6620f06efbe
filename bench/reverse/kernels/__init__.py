"""Kernels of reverse mode. They use the same register tiles, threads and programs as forward mode."""
