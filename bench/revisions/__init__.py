"""Two revisions of the code in one run, interleaved."""
