"""Confidence intervals and rank correlation."""
