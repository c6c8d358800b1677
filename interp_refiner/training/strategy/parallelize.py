"""Shards networks over processes: a backbone block by block, so only the blocks in use are gathered."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from interp_refiner.model.backbone import Backbone

METHODS = ("clean_estimate",)  # by which modules run that are no backbones, besides ``forward``


def parallelize(
    network: nn.Module, mesh: DeviceMesh, gathered_dtype: torch.dtype | None = None, keeps: bool = True
) -> None:
    """Shards weights, gradients and moments over processes (Zhao et al. 2023, PyTorch FSDP; ZeRO-3), in place.

    A block's weights are gathered before its forward and its backward pass and let go after it. The shards, the
    gradients that are summed into them and the optimizer stay in the precision of the weights, float32; so do, wherever
    they are gathered, the weights outside the blocks, since timesteps and modulations are computed in theirs.

    Args:
        network: on any device; its shards are on the mesh's. Once sharded it is left as it is, as is one without
            weights.
        mesh: of one dimension to shard over; of two, the first of which are replicas and the second shards.
        gathered_dtype: of the weights that blocks compute with; None for their own.
        keeps: the weights outside the blocks stay whole from the forward pass to the backward pass. False for a network
            whose forward passes may have no backward pass: its weights would stay whole, and would be out of date
            after the next step.
    """
    if isinstance(network, FSDPModule) or not any(True for _ in network.parameters()):
        return
    whole = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)  # activations are autocast's
    units: Sequence[nn.Module] = network.units if isinstance(network, Backbone) else ()
    for unit in units:
        fully_shard(unit, mesh=mesh, mp_policy=replace(whole, param_dtype=gathered_dtype))
    fully_shard(network, mesh=mesh, mp_policy=whole, reshard_after_forward=not keeps)
    for method in METHODS:
        if hasattr(network, method):
            register_fsdp_forward_method(network, method)


def gather(network: nn.Module) -> None:
    """Makes all of a sharded network whole until :func:`release`, so that forward passes need no collective."""
    for module in _sharded(network):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def release(network: nn.Module, keeps: bool = True) -> None:
    """Undoes :func:`gather`; weights that were written in between are those of the shards.

    Args:
        network: that was gathered.
        keeps: as it was sharded with, see :func:`parallelize`.
    """
    for module in _sharded(network):
        module.set_reshard_after_forward(not keeps or module is not network, recurse=False)
        module.reshard()


def _sharded(network: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in network.modules() if isinstance(module, FSDPModule))
