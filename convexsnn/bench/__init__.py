"""Benchmarks: sets of problems with targets, every solver on each of them, one table and one plot."""
