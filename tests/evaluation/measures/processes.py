"""Runs a function on several gloo processes and returns what each of them returned."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist

from tests.training.strategy.groups import together


def run_on_processes(world_size: int, function: Callable[[int, int], Any]) -> list[Any]:
    """``[function(rank, world_size) for rank in ...]``, each in its own process of one gloo group."""

    def work(rank: int) -> Any:
        dist.init_process_group("gloo")
        found = function(rank, world_size)
        dist.barrier()  # whoever leaves earlier takes unread messages away
        return found

    with tempfile.TemporaryDirectory() as folder:
        return together(work, Path(folder), world_size)
