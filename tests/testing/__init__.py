"""Checks of ``fgnumba.testing``: they pass what is right, and fail each fault that they are for."""
