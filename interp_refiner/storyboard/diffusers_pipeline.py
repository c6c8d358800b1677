"""Opens an exported folder by diffusers; it lies in the folder as ``pipeline.py``, and interp_refiner is installed.

pipe = DiffusionPipeline.from_pretrained(folder, custom_pipeline="pipeline", trust_remote_code=True)
"""

from typing import Any

from diffusers import DiffusionPipeline

from interp_refiner.storyboard import RefinerOutput, RefinerPipeline


class InterpRefiner(DiffusionPipeline):
    """A :class:`RefinerPipeline` behind diffusers' own way of opening a pipeline.

    Attributes:
        refiner: it, read when it is first asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self._opened: RefinerPipeline | None = None

    @property
    def refiner(self) -> RefinerPipeline:
        """The pipeline of the folder, or of the model of the hub, that diffusers was given."""
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
