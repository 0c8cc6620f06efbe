"""Tests of what users give: numbers, arrays, names of files."""
