"""Trains a compiled Wan for a few steps and prints what was compiled, as JSON; the argument is the attention.

It is a process of its own, because compiled code cannot contain the shape checks of the tests' import hook. Graphs are
captured and differentiated as always and then run by torch, because generating C++ for them would take minutes.
"""

import functools
import json
import sys
from typing import Any

import torch

import interp_refiner.model.backbone.wan
from interp_refiner.model.attention import Dense, SparseLinear
from interp_refiner.model.backbone import SelectiveRecomputation
from tests.model.backbone.small_wan import clip, loss_and_gradients, small_wan

SETTINGS = {
    "dense": {"attention": Dense()},
    "sparse_linear": {
        "attention": SparseLinear(0.5, 8, 4, [2, 2, 2]),
        "recomputation": SelectiveRecomputation(),
    },
}


def train(settings: dict[str, Any]) -> dict[str, Any]:
    """Three steps of a compiled model beside an uncompiled one, then two passes without gradients."""
    torch._dynamo.reset()
    counters, graphs, errors = torch._dynamo.utils.counters, [], []
    counters.clear()
    corrupted = clip()
    compiled, plain = (small_wan(compile=compile, **settings) for compile in (True, False))
    for _ in range(3):
        (loss, gradients), (loss_again, plain_gradients) = (loss_and_gradients(m, corrupted) for m in (compiled, plain))
        graphs.append(counters["stats"]["unique_graphs"])
        errors.append(float((loss - loss_again).abs()))
    worst = max(float((gradients[name] - value).abs().max()) for name, value in plain_gradients.items())
    with torch.no_grad():
        compiled(corrupted)
        compiled(corrupted)
    validated = counters["stats"]["unique_graphs"]
    sizes = [clip(frames, space) for frames, space in ((5, (8, 6)), (5, (6, 8)), (3, (8, 6)))]
    for _ in range(3):  # buckets take turns
        for other in sizes:
            loss_and_gradients(compiled, other)
    return {
        "graphs_of_two_more_sizes": counters["stats"]["unique_graphs"] - validated,
        "graph_breaks": sum(counters["graph_break"].values()),
        "graphs_after_each_step": graphs,
        "graphs_after_validation": validated,
        "loss_error": max(errors),
        "gradient_error": worst,
        "same_names": list(compiled.state_dict()) == list(plain.state_dict()),
    }


if __name__ == "__main__":
    interp_refiner.model.backbone.wan.torch.compile = functools.partial(torch.compile, backend="aot_eager")
    print(json.dumps(train(SETTINGS[sys.argv[1]])))
