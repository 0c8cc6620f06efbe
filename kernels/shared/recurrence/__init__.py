"""What scans over the positions of sequences share: parameters that are vectors, states, and parts."""
