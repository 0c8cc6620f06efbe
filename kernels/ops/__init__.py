"""The operations: one folder each, with the launchers and kernels for the CPU (cpu.py) and for CUDA (cuda.py)."""
