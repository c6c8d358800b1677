"""Opens an exported folder with diffusers. Copied into the folder as ``pipeline.py``; needs interp_refiner installed.

pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
"""

from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline
from torch import nn

from interp_refiner.storyboard import RefinerOutput, RefinerPipeline


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

    def to(self, *place: Any, **options: Any) -> "InterpRefiner":
        """As :meth:`RefinerPipeline.to`."""
        self.refiner.to(*place, **options)
        return self

    def set_progress_bar_config(self, **settings: Any) -> None:
        """Arguments of tqdm, such as ``disable=True``."""
        self.refiner.set_progress_bar_config(**settings)

    def __call__(self, *arguments: Any, **options: Any) -> RefinerOutput:
        """As :meth:`RefinerPipeline.__call__`."""
        return self.refiner(*arguments, **options)
