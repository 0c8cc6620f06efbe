"""The parts of group normalisation that its forward and its reverse pass share."""
