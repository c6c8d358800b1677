"""Host memory for batches."""

import math

import numpy as np
import torch
from torch import Tensor


def batch_memory(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Host memory for a batch: pinned if there is a GPU to copy it to, else allocated by numpy.

    numpy asks the system for huge pages. Reading into a large new torch tensor takes up to twice as long, mostly for
    page faults.
    """
    if torch.cuda.is_available():
        return torch.empty(shape, dtype=dtype, pin_memory=True)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, np.uint8)).view(dtype).view(shape)
