"""Feedback matrices: the response of an observed output to noise, predicted and learned."""
