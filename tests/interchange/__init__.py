"""Models out and in."""
