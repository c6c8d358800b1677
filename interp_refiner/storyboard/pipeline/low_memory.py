"""Options that reduce a pipeline's memory: precision, offloading, tiling and slicing of the autoencoder, int8."""

from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import nn

from interp_refiner.core import BadValue, MissingExtra, choice
from interp_refiner.data.codec import Codec
from interp_refiner.model.backbone import Backbone
from interp_refiner.storyboard.conditioning.phase1 import Phase1

Precision = Literal["float32", "bfloat16", "float16"]
Quantised = Literal["int8"]
Made = TypeVar("Made", bound="LowMemory")


class LowMemory:
    """Methods of a pipeline that save memory, with diffusers' names.

    Attributes:
        backbone, objective, codec, phase1: of the pipeline.
        device: the device on which the networks run.
        hooks: accelerate's hooks of offloaded networks.
        quantised: format of the blocks' matrices; None for numbers of ``torch_dtype``.
    """

    backbone: Backbone
    objective: nn.Module
    codec: Codec
    phase1: Phase1 | None
    device: torch.device
    hooks: tuple[Any, ...] = ()
    quantised: Quantised | None = None

    def to(self: Made, *place: torch.device | str | int | torch.dtype, **named: Any) -> Made:
        """Moves the networks, or converts weight matrices to another precision; returns itself.

        Args:
            place: a device, a dtype, or both, in any order.
            named: ``device`` and ``dtype`` by name.

        Raises:
            BadValue: a precision that the backbone does not support, or another device while networks are offloaded.
        """
        kinds = [part for part in (*place, named.get("dtype")) if isinstance(part, torch.dtype)]
        places = [part for part in (*place, named.get("device")) if isinstance(part, torch.device | str | int)]
        for dtype in kinds:
            self.backbone.cast(dtype)
            if isinstance(vae := self._vae(), nn.Module):
                vae.to(dtype)
        for where in map(torch.device, places):
            if self.hooks and where != self.device:
                raise BadValue("device", where, f"{self.device}, where offloaded networks run")
            self._move(where)
        return self

    def enable_model_cpu_offload(self: Made, device: torch.device | str = "cuda") -> Made:
        """Keeps autoencoder and backbone on the device only while they run, by accelerate's hooks; returns itself.

        The order for a video is: the autoencoder encodes keyframes, the backbone refines, the autoencoder decodes. The
        text encoder stays on its device (``text.device``).
        """
        from accelerate import cpu_offload_with_hook

        if self.hooks:
            return self
        self.device = torch.device(device)
        self.objective.to(self.device)
        self.codec._apply(lambda tensor: tensor.to(self.device), recurse=self._vae() is None)
        if self.phase1 is not None:
            self.phase1.source.to(self.device)
        before, hooks = None, []
        for network in filter(None, (self._vae(), self.backbone)):
            _, before = cpu_offload_with_hook(network, self.device, before)
            hooks.append(before)
        self.hooks = tuple(hooks)
        return self

    def free_hooks(self) -> None:
        """Moves offloaded networks off the device."""
        for hook in self.hooks:
            hook.offload()

    def before_decoding(self) -> None:
        """Moves the backbone off the device: accelerate's chain of hooks runs once, but the autoencoder runs twice."""
        if self.hooks:
            self.hooks[-1].offload()

    def enable_vae_tiling(self: Made) -> Made:
        """Encodes and decodes in overlapping tiles; raises :class:`BadValue` for a codec without an autoencoder."""
        self._autoencoder("vae_tiling").enable_tiling()
        return self

    def enable_vae_slicing(self: Made) -> Made:
        """Encodes and decodes clip by clip; raises :class:`BadValue` for a codec without an autoencoder."""
        self._autoencoder("vae_slicing").enable_slicing()
        return self

    def quantize(self: Made, kind: Quantised) -> Made:
        """Keeps the weight matrices of the backbone's blocks in int8 with a scale per row (torchao); returns itself.

        Raises:
            BadValue: an unknown kind, or a backbone without blocks.
            MissingExtra: torchao is not installed.
        """
        choice("quantised", kind, get_args(Quantised))
        if not self.backbone.units:
            raise BadValue("quantised", kind, f"null: a {type(self.backbone).__name__} has no blocks")
        try:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_
        except ImportError as error:
            raise MissingExtra(f"quantised={kind}", "torchao", "quantised") from error
        for block in self.backbone.units:
            quantize_(block, Int8WeightOnlyConfig())
        self.quantised = kind
        return self

    def _move(self, device: torch.device) -> None:
        self.device = device
        for module in (self.backbone, self.objective, self.codec):
            module.to(device)
        if self.phase1 is not None:
            self.phase1.source.to(device)

    def _vae(self) -> Any:
        return getattr(self.codec, "vae", None)

    def _autoencoder(self, name: str) -> Any:
        if (vae := self._vae()) is None:
            raise BadValue(name, True, f"false: {self.codec.name} has no autoencoder")
        return vae


@dataclass(frozen=True)
class Inference:
    """A program's memory settings for a pipeline.

    Attributes:
        torch_dtype: of the backbone's matrices and of the autoencoder; clips and keyframes stay in float32.
        offload: whether networks are on the GPU only while they run.
        vae_tiling, vae_slicing: whether the autoencoder works tile by tile, clip by clip.
        quantised: format of the block matrices: ``int8``; None for ``torch_dtype``.
    """

    torch_dtype: Precision = "float32"
    offload: bool = False
    vae_tiling: bool = False
    vae_slicing: bool = False
    quantised: Quantised | None = None

    def __post_init__(self) -> None:
        choice("torch_dtype", self.torch_dtype, get_args(Precision))
        if self.quantised is not None:
            choice("quantised", self.quantised, get_args(Quantised))

    def apply(self, pipeline: Made, device: torch.device | str) -> Made:
        """Applies the settings and moves the pipeline to its device; raises as the methods of :class:`LowMemory`."""
        if self.torch_dtype != "float32":
            pipeline.to(getattr(torch, self.torch_dtype))
        if self.quantised is not None:
            pipeline.quantize(self.quantised)
        if self.vae_tiling:
            pipeline.enable_vae_tiling()
        if self.vae_slicing:
            pipeline.enable_vae_slicing()
        return pipeline.enable_model_cpu_offload(device) if self.offload else pipeline.to(device)
