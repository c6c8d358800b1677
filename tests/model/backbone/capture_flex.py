"""Captures a training step of a Wan with FlexAttention and selective recomputation, and prints its graphs as JSON.

On a CPU FlexAttention has no kernels with gradients. So the graphs are captured and differentiated as for a GPU and
then run by torch, whose attention is dense there: the test is about the graphs, not their results. It is a process of
its own, because compiled code cannot contain the shape checks of the tests' import hook.
"""

import functools
import json
from typing import Any

import torch
from torch._dynamo.backends.common import aot_autograd
from torch.nn.attention import flex_attention

import interp_refiner.model.backbone.wan
from interp_refiner.model.attention import SparseLinear, Workload
from interp_refiner.model.attention.sparse_linear import SparseLinearLayer
from interp_refiner.model.backbone import SelectiveRecomputation
from tests.model.backbone.small_wan import clip, loss_and_gradients, small_wan

COUNTED = ("flex_attention", "flex_attention_backward", "topk", "index_add", "scatter_add")


def run_flex_anywhere() -> None:
    """Takes away the refusals of CPUs."""

    def prepare(layer: SparseLinearLayer, work: Workload) -> None:
        layer.chosen = "flex"

    SparseLinearLayer.prepare = prepare
    flex_attention._validate_device = lambda *_: None


def count_operators(graph: torch.fx.GraphModule) -> dict[str, int]:
    targets = [str(node.target).split(".") for node in graph.graph.nodes if node.op == "call_function"]
    names = [parts[1] if parts[0] == "aten" else parts[0] for parts in targets]
    return {name: names.count(name) for name in COUNTED}


def main() -> None:
    passes: dict[str, list[dict[str, int]]] = {"forward": [], "backward": []}

    def keep(name: str, graph: torch.fx.GraphModule, inputs: Any) -> torch.fx.GraphModule:
        passes[name].append(count_operators(graph))
        return graph

    backend = aot_autograd(
        fw_compiler=functools.partial(keep, "forward"), bw_compiler=functools.partial(keep, "backward")
    )
    interp_refiner.model.backbone.wan.torch.compile = functools.partial(torch.compile, backend=backend)
    run_flex_anywhere()
    model = small_wan(
        attention=SparseLinear(0.4, 16, 16, [2, 4, 4]), recomputation=SelectiveRecomputation(), compile=True
    )
    corrupted = clip(space=(16, 12))
    for _ in range(2):
        loss_and_gradients(model, corrupted)
    counters = torch._dynamo.utils.counters
    print(json.dumps({"graph_breaks": sum(counters["graph_break"].values()), **passes}))


if __name__ == "__main__":
    main()
