"""What losses share: each example reduced to its loss and tangents, and the mean of them."""
