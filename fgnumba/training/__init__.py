"""Training along forward gradients: single steps, and runs on a data set with records, checkpoints and replay."""
