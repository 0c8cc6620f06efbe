"""Training: steps along forward gradients, and runs of them on data, with records, checkpoints and replay."""
