"""Refuses networks whose weights do not fit into the machine's memory."""

import os
from collections.abc import Sequence

from torch import nn

from interp_refiner.core import BadValue, free_memory
from interp_refiner.model.objective import Consistency, Objective


def beside_student(objective: Objective) -> list[str]:
    """The networks that distillation keeps beside its student, all of the student's size."""
    fake = isinstance(objective, Consistency) and objective.matching is not None
    return ["its teacher", "its fake network"] if fake else ["its teacher"]


def check_weight_memory(network: nn.Module, beside: Sequence[str] = ()) -> None:
    """Refuses networks whose weights do not fit into the machine's free memory, before they are built.

    Args:
        network: on the device ``meta``, so without values.
        beside: names of further networks of the same size in every process of this machine, for the error.

    Raises:
        BadValue: they do not fit; names the networks and the free memory.
    """
    if (free := free_memory()) is None:
        return
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))  # of this machine: each of them draws the weights
    one = sum(weight.nbytes for weight in network.parameters())
    if (needed := processes * (1 + len(beside)) * one) > free:
        whose = f" of {' and '.join(['the student', *beside])}" if beside else ""
        allowed = f"at most the {free / 1e9:.1f} GB of memory that are free here"
        raise BadValue("backbone", f"{needed / 1e9:.1f} GB of weights{whose}", allowed)
