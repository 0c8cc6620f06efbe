"""What the GPU kernels of all operations are built on.

A kernel is a plain Python function that calls ``primitives``; ``kernel`` lists it. ``target`` compiles kernels and is
the only module that imports the CUDA target; ``lowering`` gives each primitive its instructions. ``simulator`` runs
kernels without a GPU. ``driver`` declares what the library asks of a GPU, and ``cuda_driver`` asks it of a real one.
``memory`` holds arrays. ``program`` launches bound operations, or replays them as one graph. ``layout`` says how
kernels walk over images, ``sums`` adds up over threads, and ``copies`` copies rows. Nothing of CUDA is imported before
a CUDA device is asked for.
"""
