"""The operations: a folder each, with its kernels for the CPU (cpu.py) and for CUDA (cuda.py)."""
