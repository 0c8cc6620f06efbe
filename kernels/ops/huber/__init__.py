"""Huber's loss and its directional derivatives."""
