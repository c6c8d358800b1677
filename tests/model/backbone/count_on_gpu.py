"""Trains a Wan with and without compiled blocks under bfloat16 autocast on a GPU; prints JSON."""

import json
import sys

import torch
from torch._inductor import metrics
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from interp_refiner.model.attention import Dense, SparseLinear
from interp_refiner.model.backbone import NoRecomputation, SelectiveRecomputation
from tests.model.backbone.small_wan import SIZE as SIZE_OF
from tests.model.backbone.small_wan import clip, loss_and_gradients, small_wan

ATTENTION = {
    "dense": Dense(),
    "sparse_linear": SparseLinear(1.0, 128, 128, [2, 8, 8]),
}  # all blocks: rounding cannot change the choice
SIZE = {"num_attention_heads": 2, "attention_head_dim": 64, "ffn_dim": 256}


def main(attention: str) -> None:
    settings = {"attention": ATTENTION[attention], **SIZE}
    fast = small_wan(compile=True, recomputation=SelectiveRecomputation(), **settings).cuda()
    plain = small_wan(recomputation=NoRecomputation(), **settings).cuda()
    corrupted = on_cuda(clip(space=(40, 40)))
    graphs = []
    for _ in range(3):
        with torch.autocast("cuda", torch.bfloat16):
            (loss, gradients), (plain_loss, expected) = (loss_and_gradients(m, corrupted) for m in (fast, plain))
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    difference = torch.cat([(gradients[n] - g).flatten() for n, g in expected.items()]).norm()
    size = torch.cat([g.flatten() for g in expected.values()]).norm()
    kernels = metrics.generated_kernel_count
    launches = count_launches(plain, corrupted)
    found = {
        "graph_breaks": sum(torch._dynamo.utils.counters["graph_break"].values()),
        "graphs_after_each_step": graphs,
        "kernels_of_a_block": kernels,
        "launches_of_a_plain_block": launches / SIZE_OF["num_layers"],
        "relative_loss_error": float((loss - plain_loss).abs() / plain_loss),
        "relative_gradient_error": float(difference / size),
    }
    print(json.dumps(found))


def count_launches(model, corrupted):
    """Kernels that an uncompiled step launches."""
    with profile(activities=[ProfilerActivity.CUDA]) as recorded, torch.autocast("cuda", torch.bfloat16):
        loss_and_gradients(model, corrupted)
    return sum(event.count for event in recorded.key_averages() if event.device_type == DeviceType.CUDA)


def on_cuda(corrupted):
    """The corrupted clip with everything on the GPU."""
    for part in (corrupted, corrupted.clip, corrupted.plan):
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                object.__setattr__(part, name, value.cuda())
    return corrupted


if __name__ == "__main__":
    main(*sys.argv[1:])
