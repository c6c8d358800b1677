"""Benchmarks: time, interpolators, and upper bounds."""
