"""Models out and in: PyTorch modules and ONNX files become models of this library, and models become them.

Elsewhere, images have their channels first: (C, H, W). ``axes`` says how values and parameters go from one order to the
other; ``inward`` makes a graph of layers that are described channels first, and ``outward`` describes a graph so.
"""
