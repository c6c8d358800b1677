"""Measurements of a forward process."""
