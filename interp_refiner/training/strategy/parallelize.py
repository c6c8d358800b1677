"""Shards networks over processes: a backbone block by block, so only the blocks in use are gathered."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from interp_refiner.model.backbone import Backbone

METHODS = ("clean_estimate",)  # methods besides ``forward`` by which modules other than backbones are called


def parallelize(
    network: nn.Module, mesh: DeviceMesh, gathered_dtype: torch.dtype | None = None, keeps: bool = True
) -> None:
    """Shards weights, gradients and moments over processes (Zhao et al. 2023, PyTorch FSDP; ZeRO-3), in place.

    A block's weights are gathered before its forward pass and before its backward pass, and freed afterwards. Shards,
    summed gradients and the optimizer have the precision of the weights, float32. Weights outside the blocks are also
    gathered in float32, because timesteps and modulations are computed in it.

    Args:
        network: on any device; its shards are on the device of the mesh. A network that has no weights or is already
            sharded does not change.
        mesh: one dimension of shards, or two: replicas by shards.
        gathered_dtype: of the weights that blocks compute with; None for their own.
        keeps: whether weights outside the blocks stay gathered from the forward to the backward pass. False for a
            network whose forward pass may have no backward pass: gathered weights would be out of date after the next
            step.
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
    """Gathers all weights of a sharded network until :func:`release`, so that forward passes need no collective."""
    for module in _sharded(network):
        module.set_reshard_after_forward(False, recurse=False)
        module.unshard()


def release(network: nn.Module, keeps: bool = True) -> None:
    """Undoes :func:`gather`; weights that were written in between are kept in the shards.

    Args:
        network: the gathered network.
        keeps: see :func:`parallelize`.
    """
    for module in _sharded(network):
        module.set_reshard_after_forward(not keeps or module is not network, recurse=False)
        module.reshard()


def _sharded(network: nn.Module) -> Iterator[FSDPModule]:
    return (module for module in network.modules() if isinstance(module, FSDPModule))
