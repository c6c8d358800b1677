"""Memory on the host that batches are read into."""

import math

import numpy as np
import torch
from torch import Tensor


def batch_memory(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Memory on the host for a batch: pinned where there is a GPU to copy it to.

    Otherwise numpy's, which asks the system for huge pages: reading into a large fresh tensor of torch's own takes up
    to twice as long, most of it page faults.
    """
    if torch.cuda.is_available():
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
