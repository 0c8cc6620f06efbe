"""Kernels on this machine: compiled, cached on disk, bound to memory, and run on threads."""
