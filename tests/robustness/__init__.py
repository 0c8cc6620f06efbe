"""Tests of faults: hostile and damaged files, kills, full disks, threads, processes, environments."""
