"""Where files of the repository lie, and where data for checks by hand may lie."""

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
DATA = TESTS / "data"
SHARED = ROOT.parent / "shared" / "data"
"""Data sets that are no part of the repository: whoever reads them skips where they are missing."""
