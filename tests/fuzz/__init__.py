"""Coverage-guided fuzzing of every parser of files: ``python -m tests.fuzz TARGET --minutes 30``."""
