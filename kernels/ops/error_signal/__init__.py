"""Signals: what each pre-activation is told of the loss's gradient, from noise and feedback."""
