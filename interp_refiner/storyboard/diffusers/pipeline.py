"""Opens an exported folder with diffusers. Copied into the folder as ``pipeline.py``; needs interp_refiner installed.

pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from torch import nn

from interp_refiner.storyboard import RefinerOutput, RefinerPipeline


def _forwarded(name: str) -> Callable[..., "InterpRefiner"]:
    """A method of the pipeline inside; it returns the outer pipeline."""

    def method(self: "InterpRefiner", *arguments: Any, **options: Any) -> "InterpRefiner":
        getattr(self.refiner, name)(*arguments, **options)
        return self

    method.__doc__ = f"As :meth:`RefinerPipeline.{name}`."
    return method


class InterpRefiner(DiffusionPipeline):
    """A :class:`RefinerPipeline` that diffusers can open.

    Attributes:
        refiner: the pipeline, loaded on first access.

    Args:
        precision: a ``Precision`` with the dtype that diffusers was asked for; None for float32.
    """

    _optional_components: ClassVar[list[str]] = ["precision"]

    def __init__(self, precision: nn.Module | None = None) -> None:
        super().__init__()
        self.register_modules(precision=precision)
        self._asked: Any = precision.asked if precision is not None else torch.float32
        self._opened: RefinerPipeline | None = None

    @property
    def refiner(self) -> RefinerPipeline:
        """The pipeline of the folder or hub model that was passed to diffusers, in the precision asked for.

        Raises:
            BadValue: on first access, a precision that the backbone does not support.
        """
        if self._opened is None:
            self._opened = RefinerPipeline.from_pretrained(self.config._name_or_path, torch_dtype=self._asked)
        return self._opened

    @property
    def device(self) -> torch.device:
        """Where the networks run."""
        return self.refiner.device

    @property
    def dtype(self) -> torch.dtype:
        """That of the largest matrix of the backbone's blocks: other layers may stay in float32."""
        blocks = self.refiner.backbone.units or [self.refiner.backbone]
        return max((weight for block in blocks for weight in block.parameters()), key=torch.Tensor.numel).dtype

    to = _forwarded("to")
    enable_vae_tiling = _forwarded("enable_vae_tiling")
    enable_vae_slicing = _forwarded("enable_vae_slicing")
    quantize = _forwarded("quantize")

    def enable_model_cpu_offload(self, gpu_id: int = 0, device: torch.device | str | None = None) -> "InterpRefiner":
        """As :meth:`RefinerPipeline.enable_model_cpu_offload`, on a device or on the GPU of this number."""
        self.refiner.enable_model_cpu_offload(f"cuda:{gpu_id}" if device is None else device)
        return self

    def save_pretrained(self, save_directory: str | Path) -> None:
        """As :meth:`RefinerPipeline.save_pretrained`; diffusers opens the new folder, too."""
        self.refiner.save_pretrained(save_directory)

    def set_progress_bar_config(self, **settings: Any) -> None:
        """Arguments of tqdm, such as ``disable=True``."""
        self.refiner.set_progress_bar_config(**settings)

    def __call__(self, *arguments: Any, **options: Any) -> RefinerOutput:
        """As :meth:`RefinerPipeline.__call__`."""
        return self.refiner(*arguments, **options)
