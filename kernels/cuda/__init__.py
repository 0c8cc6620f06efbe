"""What the GPU kernels of all operations are made of.

A kernel is a plain function of ``primitives``, listed by ``kernel``. ``target`` compiles it, the only module that
imports the CUDA target, and ``lowering`` says what primitives are there; ``simulator`` runs it without a GPU.
``driver`` is what a GPU is asked for, ``cuda_driver`` a real one. ``memory`` holds arrays, ``program`` launches bound
operations or replays them as one graph. ``layout`` walks over images, ``product`` is the tile of dense layers and
convolutions. Nothing of CUDA is imported before a CUDA device is asked for.
"""
