"""Imported by the server of clean processes, so that the config of their runs is composed and its files are read."""

from pathlib import Path

from tests.config.small import small_config
from tests.training.checkpoint.runs import TINY

small_config(Path("nowhere"), *TINY)
