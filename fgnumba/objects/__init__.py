"""Tools for objects: their attributes, a value by which two can be compared, and a base of those without copies."""
