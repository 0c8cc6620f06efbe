"""Loggers: callbacks that write a run's settings and figures where other tools read them."""
