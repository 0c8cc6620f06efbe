"""The drawn directions of one parameter."""
