"""Copying batches to a device beside what it computes."""

from collections.abc import Callable

import torch
from torch import Tensor

from interp_refiner.core import Clip


def beside(device: torch.device, copy: Callable[[], Clip | None]) -> Clip | None:
    """What ``copy`` returns; on a GPU it runs on a stream of its own.

    So a result that ``copy`` waits for costs the time of its copies, and not that of the training step under way.
    """
    if device.type != "cuda":
        return copy()
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        moved = copy()
    current.wait_stream(stream)
    for value in vars(moved).values() if moved is not None else ():
        if isinstance(value, Tensor) and value.is_cuda:
            value.record_stream(current)  # else the next copy may take its memory before the step has used it
    return moved
