"""Set up before any test module is imported: shapes in signatures are checked in every test."""

import torch
from jaxtyping import install_import_hook

install_import_hook("interp_refiner", "beartype.beartype")
torch.set_num_threads(1)
