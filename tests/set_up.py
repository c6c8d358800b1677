"""Before any test module is imported: most shapes in signatures are checked, except under ``-m gpu``."""

import importlib.util
import os
import sys
import tempfile

import torch
from jaxtyping import install_import_hook

from tests.quick_compose import install as compose_quickly

SHAPED = (
    "core",
    "forward",
    "model",
    "data.codec",
    "data.medium",
    "data.text",
    "data.world",
    "evaluation.measures",
    "training.distill",
    "training.missing_frame",
    "training.perceptual",
    "training.st_lpips",
    "training.tangent",
)  # six sevenths of all annotated shapes; to decorate the rest as well takes every worker five more seconds

torch.set_num_threads(1)
compose_quickly()
os.environ["INTERP_REFINER_EXPERIMENTS"] = tempfile.mkdtemp(prefix="experiments_")  # the log book is for real runs

# Here and not in pytest_configure, which runs after the conftest files of the folders that pytest was given: what these
# import of the package would go unchecked. Compiled kernels cannot hold the checks.
if "-m gpu" not in " ".join(sys.argv):
    install_import_hook([f"interp_refiner.{place}" for place in SHAPED], "beartype.beartype")

if importlib.util.find_spec("hypothesis"):  # not on every machine that runs the GPU suite
    from hypothesis import settings

    settings.register_profile("unhurried", deadline=None)  # examples are judged by what they show, not by the clock
    settings.load_profile("unhurried")
