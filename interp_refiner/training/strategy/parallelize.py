"""Shards a backbone block by block, so only the blocks in use are gathered."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from interp_refiner.model.backbone import Backbone


def parallelize(backbone: Backbone, mesh: DeviceMesh, gathered_dtype: torch.dtype | None = None) -> None:
    """Shards weights, gradients and moments over processes (Zhao et al. 2023, PyTorch FSDP; ZeRO-3), in place.

    A block's weights are gathered before its forward and its backward pass and let go after it. The shards, the
    gradients that are summed into them and the optimizer stay in the precision of the weights, float32; so do, wherever
    they are gathered, the weights outside the blocks, since timesteps and modulations are computed in theirs.

    Args:
        backbone: on any device; its shards are on the mesh's. Once sharded it is left as it is.
        mesh: of one dimension to shard over; of two, the first of which are replicas and the second shards.
        gathered_dtype: of the weights that blocks compute with; None for their own.
    """
    if isinstance(backbone, FSDPModule):
        return
    whole = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)  # activations are autocast's
    for unit in backbone.units:
        fully_shard(unit, mesh=mesh, mp_policy=replace(whole, param_dtype=gathered_dtype))
    fully_shard(backbone, mesh=mesh, mp_policy=whole)


def gather(backbone: Backbone) -> None:
    """Makes all of a sharded backbone whole until :func:`release`, so that forward passes need no collective."""
    for module in _sharded(backbone):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def release(backbone: Backbone) -> None:
    """Undoes :func:`gather`; weights that were written in between are those of the shards."""
    for module in _sharded(backbone):
        module.set_reshard_after_forward(module is not backbone, recurse=False)
        module.reshard()


def _sharded(backbone: Backbone) -> Iterator[FSDPModule]:
    return (module for module in backbone.modules() if isinstance(module, FSDPModule))
