"""A search for sequences of public calls that lead to a failure: ``python -m tests.state_machine``."""
