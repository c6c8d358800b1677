"""Strategies that shard the backbone: over all processes, inside each node, and together with the clips."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, final

import lightning as L
import torch
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint import load as load_shards
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import distribute_tensor

from interp_refiner.core import AVERAGED, BadValue, Stopped, choice
from interp_refiner.model.backbone import Backbone
from interp_refiner.training.checkpoint import (
    OPTIMIZER,
    REST,
    by_name,
    read_checkpoint,
    size_of,
    stored_names,
    write_sharded,
)
from interp_refiner.training.strategy.parallelize import gather, parallelize, release
from interp_refiner.training.strategy.ulysses import Ulysses

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Sharded(ModelParallelStrategy, ABC):
    """Every process has a shard of all weights, gradients and moments, in float32, and its own samples.

    For a LightningModule whose ``configure_model`` passes all networks to :meth:`parallelize`. During validation every
    process has the whole networks, so processes may have different numbers of batches. A checkpoint is a folder, which
    any strategy can read and resume with any number of processes. This strategy also resumes from checkpoint files.

    Args:
        gathered_dtype: dtype of the weights that blocks compute with; ``bfloat16`` halves the traffic of ``float32``.
        timeout: timeout of a collective.

    Raises:
        BadValue: another dtype, or bfloat16 with float32 activations.
    """

    def __init__(self, gathered_dtype: str = "float32", timeout: timedelta = timedelta(minutes=30)):
        super().__init__(timeout=timeout)
        self.gathered_dtype = DTYPES[choice("gathered_dtype", gathered_dtype, tuple(DTYPES))]
        self.networks: dict[nn.Module, bool] = {}  # networks used in validation; `keeps` of :func:`parallelize`

    @property
    def sharing(self) -> int:
        """The number of processes that have the same samples."""
        return 1

    @abstractmethod
    def mesh(self, device_type: str) -> DeviceMesh:
        """The processes: one dimension of shards, or replicas by shards."""

    def parallelize(self, backbone: Backbone, *others: nn.Module, beside: Sequence[nn.Module] = ()) -> None:
        """Shards all networks, once; a LightningModule calls it whenever its processes are connected.

        Args:
            backbone: the network that is trained.
            others: other networks with weights that training and validation use.
            beside: networks, frozen or trained, that only training uses. They are never gathered as a whole.
        """
        if backbone in self.networks:
            return
        mesh = self.mesh(self.root_device.type)
        self.networks = {backbone: not beside, **dict.fromkeys(others, False)}
        for network in (*self.networks, *beside):
            if isinstance(network, Backbone):
                self.spread(network, mesh)
            parallelize(network, mesh, self.gathered_dtype, self.networks.get(network, False))

    def spread(self, backbone: Backbone, mesh: DeviceMesh) -> None:
        """Also distributes the tokens of the clips; by default does nothing."""

    def setup_environment(self) -> None:
        self._data_parallel_size, self._tensor_parallel_size = self.num_nodes * self.num_processes, 1
        super().setup_environment()

    def setup(self, trainer: L.Trainer) -> None:
        if not self.networks:
            name = type(self.lightning_module).__name__
            raise BadValue("trainer.strategy", type(self).__name__, f"strategy=ddp or auto with {name}")
        if self.gathered_dtype != torch.float32 and not self.precision_plugin.precision.startswith("bf16"):
            allowed = (
                f"float32 with trainer.precision={self.precision_plugin.precision}, or trainer.precision=bf16-mixed"
            )
            raise BadValue("trainer.strategy.gathered_dtype", "bfloat16", allowed)
        super().setup(trainer)

    def on_validation_start(self) -> None:
        self._gather()

    def on_validation_end(self) -> None:
        self._release()

    def on_predict_start(self) -> None:
        self._gather()

    def on_predict_end(self) -> None:
        self._release()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        path = Path(self.broadcast(filepath))
        shards = {name: checkpoint.pop(name) for name in ("state_dict", AVERAGED) if name in checkpoint}
        for number, state in enumerate(checkpoint.pop("optimizer_states", [])):
            shards[OPTIMIZER.format(number)] = state
        try:
            write_sharded(shards, checkpoint, path)
        except OSError as error:
            raise Stopped(f"checkpoint {path}: {error.strerror or error}; earlier checkpoints are intact") from error
        if self.is_global_zero:
            log.info("checkpoint %s: %.1f MB", path, size_of(path) / 1e6)

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        path = Path(self.broadcast(checkpoint_path))
        return self._load_shards(path) if path.is_dir() else self._load_whole(path)

    def _load_shards(self, path: Path) -> dict[str, Any]:
        """Loads a sharded checkpoint of any number of processes: each process reads what its own shards need."""
        assert self.model is not None
        weights = dict(self.model.named_parameters())
        average = {name: torch.empty_like(weights[name]).detach() for name in stored_names(path, AVERAGED)}
        kept = set(stored_names(path, "state_dict")) | (weights.keys() - self._left_out())
        state = {name: value for name, value in get_model_state_dict(self.model).items() if name in kept}
        parts: dict[str, Any] = {"state_dict": state, **({AVERAGED: average} if average else {})}
        names = [OPTIMIZER.format(number) for number in range(len(self.optimizers))]
        stored = {name: o for name, o in zip(names, self.optimizers, strict=True) if stored_names(path, name)}
        parts |= {name: get_optimizer_state_dict(self.model, optimizer) for name, optimizer in stored.items()}
        load_shards(parts, checkpoint_id=path)
        set_model_state_dict(self.model, parts["state_dict"], options=StateDictOptions(strict=False))
        for name, optimizer in stored.items():
            set_optimizer_state_dict(self.model, optimizer, parts[name])
        rest = torch.load(path / REST, map_location="cpu", weights_only=True)
        return {**rest, AVERAGED: average, "optimizer_states": [parts[name] for name in stored]}

    def _load_whole(self, path: Path) -> dict[str, Any]:
        """Loads a checkpoint file of another strategy: each process reads it and takes its shards."""
        assert self.model is not None
        checkpoint, whole = read_checkpoint(path), StateDictOptions(full_state_dict=True, strict=False)
        weights = dict(self.model.named_parameters())
        if missing := weights.keys() - checkpoint["state_dict"].keys() - self._left_out():
            raise BadValue("ckpt_path", path, f"the weights of this model: {min(missing)} is missing")
        names = {id(weight): name for name, weight in weights.items()}
        set_model_state_dict(self.model, checkpoint["state_dict"], options=whole)
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=False):
            order = [names[id(weight)] for group in optimizer.param_groups for weight in group["params"]]
            set_optimizer_state_dict(self.model, optimizer, by_name(state, order), options=whole)
        average = {name: _shard_like(weights[name], value) for name, value in checkpoint.get(AVERAGED, {}).items()}
        return {**checkpoint, AVERAGED: average}

    def _left_out(self) -> set[str]:
        """The names of the weights that checkpoints need not hold."""
        backbone = next(iter(self.networks))
        assert isinstance(backbone, Backbone)
        return {f"backbone.{name}" for name in backbone.unchanged}

    def _gather(self) -> None:
        for network in self.networks:
            gather(network)

    def _release(self) -> None:
        for network, keeps in self.networks.items():
            release(network, keeps)


def _shard_like(weight: Tensor, value: Tensor) -> Tensor:
    """This process's shard of a whole tensor, placed as a sharded weight is."""
    return distribute_tensor(value.to(weight.device), weight.device_mesh, weight.placements)  # type: ignore[attr-defined]


@final
class FSDP2(Sharded):
    """Shards over all processes. This needs the least memory, but every gathering involves all nodes.

    Args:
        gathered_dtype, timeout: see :class:`Sharded`.
    """

    def mesh(self, device_type: str) -> DeviceMesh:
        return init_device_mesh(device_type, (self.world_size,), mesh_dim_names=("shard",))


@final
class HSDP(Sharded):
    """Shards inside a node and replicates across nodes.

    Weights are gathered over NVLink, and only the gradients of the shards cross the network.

    Args:
        replicas: processes that hold the same shard; None for the number of nodes.
        gathered_dtype, timeout: see :class:`Sharded`.

    Raises:
        BadValue: replicas that do not divide the number of processes.
    """

    def __init__(
        self,
        replicas: int | None = None,
        gathered_dtype: str = "float32",
        timeout: timedelta = timedelta(minutes=30),
    ):
        super().__init__(gathered_dtype, timeout)
        if replicas is not None and replicas < 1:
            raise BadValue("replicas", replicas, "a number of replicas >= 1, or null for the number of nodes")
        self.replicas = replicas

    def mesh(self, device_type: str) -> DeviceMesh:
        replicas = self.num_nodes if self.replicas is None else self.replicas
        if self.world_size % replicas:
            raise BadValue("trainer.strategy.replicas", replicas, f"a divisor of the {self.world_size} processes")
        sizes = (replicas, self.world_size // replicas)
        return init_device_mesh(device_type, sizes, mesh_dim_names=("replicate", "shard"))


@final
class SequenceParallel(Sharded):
    """Every clip is shared by several processes, each with a part of its tokens; see :class:`Ulysses`.

    Weights are sharded over the processes that share a clip and replicated across such groups. All processes of a group
    have the same samples: ``data.batch_size`` is the batch size of a group.

    Args:
        size: processes that share a clip; None for all of a node, so that tokens are exchanged over NVLink.
        gathered_dtype, timeout: see :class:`Sharded`.

    Raises:
        BadValue: a size that does not divide the number of processes, the tokens of a clip or the heads.
    """

    def __init__(
        self,
        size: int | None = None,
        gathered_dtype: str = "float32",
        timeout: timedelta = timedelta(minutes=30),
    ):
        super().__init__(gathered_dtype, timeout)
        if size is not None and size < 1:
            raise BadValue("size", size, "a number of processes >= 1, or null for all of a node")
        self.size = size

    @property
    def sharing(self) -> int:
        size = self.num_processes if self.size is None else self.size
        if self.world_size % size:
            raise BadValue("trainer.strategy.size", size, f"a divisor of the {self.world_size} processes")
        return size

    @property
    def distributed_sampler_kwargs(self) -> dict[str, Any]:
        return {"num_replicas": self.world_size // self.sharing, "rank": self.global_rank // self.sharing}

    def mesh(self, device_type: str) -> DeviceMesh:
        sizes = (self.world_size // self.sharing, self.sharing)
        return init_device_mesh(device_type, sizes, mesh_dim_names=("replicate", "shard"))

    def spread(self, backbone: Backbone, mesh: DeviceMesh) -> None:
        backbone.spread_tokens(Ulysses(mesh["shard"].get_group()))
