"""Copies batches to a device while it computes."""

from collections.abc import Callable

import torch
from torch import Tensor

from interp_refiner.core import Clip


def beside(device: torch.device, copy: Callable[[], Clip | None]) -> Clip | None:
    """The result of ``copy``, which on a GPU runs on a separate stream.

    So if ``copy`` waits for a result, it waits for its own copies only, not for the running training step.
    """
    if device.type != "cuda":
        return copy()
    stream, current = torch.cuda.Stream(device), torch.cuda.current_stream(device)
    with torch.cuda.stream(stream):
        moved = copy()
    current.wait_stream(stream)
    for value in vars(moved).values() if moved is not None else ():
        if isinstance(value, Tensor) and value.is_cuda:
            value.record_stream(current)  # else the next copy may reuse its memory before the step has read it
    return moved
