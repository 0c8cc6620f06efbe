"""Tests of the checks of users' input: numbers, arrays and paths."""
