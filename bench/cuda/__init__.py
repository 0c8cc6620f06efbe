"""Measurements of the GPU kernels on a GPU, and the gate that compares their machine code with a table without one."""
