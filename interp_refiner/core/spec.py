"""The description of a data set that all other parts get."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

SUPPLIED = "supplied by the program"
NumLevels = Annotated[int, SUPPLIED]
"""S, the sparsest level: the schedule and the length of the clips determine it, so no config sets it."""


@dataclass(frozen=True)
class ClipSpec:
    """The clips of a data set, read once from its metadata. Other parts get nothing else about the data.

    Attributes:
        latent_shape: ``(c, t, *space)`` of a clip; of the largest clips where there are several sizes.
        text_shape: ``(L, D)`` of a prompt embedding; None where there are none.
        context_shape: ``(k, *grid)`` of the maps that come with a clip; None where there are none.
        latents_mean, latents_std: per channel, of the codec's own output; None where they are not declared.
        fps: pixel frames per second; None where it is not declared.
        codec: the codec that made the latents: its name, its factors and its other settings.
        text: the encoder that made the prompt embeddings, as it describes itself.
        made_by: how the data set was made.
        other_shapes: the latent shapes of the smaller clips, where there are several sizes.
    """

    latent_shape: tuple[int, ...]
    text_shape: tuple[int, int] | None = None
    context_shape: tuple[int, ...] | None = None
    latents_mean: Sequence[float] | None = None
    latents_std: Sequence[float] | None = None
    fps: float | None = None
    codec: Mapping[str, Any] = field(default_factory=dict)
    text: Mapping[str, Any] = field(default_factory=dict)
    made_by: Mapping[str, Any] = field(default_factory=dict)
    other_shapes: Sequence[tuple[int, ...]] = ()

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> "ClipSpec":
        """A spec from its JSON form, where shapes are lists."""
        shapes = {name: tuple(value) for name, value in values.items() if name.endswith("_shape") and value is not None}
        others = tuple(tuple(shape) for shape in values.get("other_shapes", ()))
        return cls(**{**values, **shapes, "other_shapes": others})

    @property
    def latent_shapes(self) -> list[tuple[int, ...]]:
        """The latent shapes of all sizes of clips, the largest first."""
        return [self.latent_shape, *self.other_shapes]

    @property
    def channels(self) -> int:
        """c."""
        return self.latent_shape[0]

    @property
    def num_frames(self) -> int:
        """t."""
        return self.latent_shape[1]

    @property
    def text_dim(self) -> int:
        """D; 1 where there are no prompts."""
        return self.text_shape[1] if self.text_shape is not None else 1
