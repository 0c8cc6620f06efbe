"""Kernels of reverse mode. Forward and backward share register tiles, threads and programs."""
