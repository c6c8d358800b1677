"""Compares several runs: settings, results, the best run and its lead."""

from interp_refiner.evaluation.comparison.compare import Comparison, Row, Verdict
from interp_refiner.evaluation.comparison.page import write_report
from interp_refiner.evaluation.comparison.run_folder import RunFolder, find_runs, read_run, read_runs

__all__ = [
    "Comparison",
    "Row",
    "RunFolder",
    "Verdict",
    "find_runs",
    "read_run",
    "read_runs",
    "write_report",
]
