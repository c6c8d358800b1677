"""The evaluation of runs."""
