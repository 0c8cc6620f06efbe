"""Tests of the repository as a whole: its packages, its documentation, its tolerances."""
