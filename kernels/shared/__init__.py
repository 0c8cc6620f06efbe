"""Parts of kernels that several operations share, for the CPU and for CUDA."""
