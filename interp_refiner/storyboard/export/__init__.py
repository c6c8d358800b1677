"""Runs as pipelines, and their publication."""
