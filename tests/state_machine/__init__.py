"""A search for sequences of public calls after which anything is wrong: ``python -m tests.state_machine``."""
