"""The tools of the measurements: timing, the machine's properties, networks, and other frameworks to compare with."""
