"""Objects: what they hold, how two of them compare, and which of them may be copied."""
