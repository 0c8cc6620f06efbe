"""Softmax cross-entropy with smoothed labels and with weights of classes and examples, and its derivatives."""
