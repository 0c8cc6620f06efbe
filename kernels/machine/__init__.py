"""Compiles kernels for this machine's CPU, caches them on disk, binds them to memory, and runs them on threads."""
