"""Set up before any test module is imported: shapes in signatures are checked."""

import os
import tempfile

import pytest
import torch
from jaxtyping import install_import_hook

torch.set_num_threads(1)
os.environ["INTERP_REFINER_EXPERIMENTS"] = tempfile.mkdtemp(prefix="experiments_")  # the log book is for real runs


def pytest_configure(config: pytest.Config) -> None:
    """Checks shapes in every test, except under ``-m gpu``: compiled kernels cannot hold the checks."""
    if config.option.markexpr != "gpu":
        install_import_hook("interp_refiner", "beartype.beartype")
