"""What noise says of a loss's gradient, from the response of the outputs that the loss reads."""
