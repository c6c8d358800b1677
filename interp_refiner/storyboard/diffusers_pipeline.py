"""Opens an exported folder with diffusers. Copied into the folder as ``pipeline.py``; needs interp_refiner installed.

pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
"""

from typing import Any

from diffusers import DiffusionPipeline

from interp_refiner.storyboard import RefinerOutput, RefinerPipeline


class InterpRefiner(DiffusionPipeline):
    """A :class:`RefinerPipeline` that diffusers can open.

    Attributes:
        refiner: the pipeline, loaded on first access.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened: RefinerPipeline | None = None

    @property
    def refiner(self) -> RefinerPipeline:
        """The pipeline of the folder or hub model that was passed to diffusers."""
        if self._opened is None:
            self._opened = RefinerPipeline.from_pretrained(self.config._name_or_path)
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
