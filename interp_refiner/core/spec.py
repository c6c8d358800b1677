"""The description of a data set that all other parts get."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Annotated, Any

from interp_refiner.core.errors import BadValue, choice

LARGEST = 2**31  # numbers in one tensor of a sample; a larger shape is a mistake, because a batch of it fits no memory
SUPPLIED = "supplied by the program"
UNBOUNDED = "may be infinite"
NumLevels = Annotated[int, SUPPLIED]
"""S, the sparsest level: the schedule and the length of the clips determine it, so no config sets it."""


@dataclass(frozen=True)
class ClipSpec:
    """The clips of a data set, read once from its metadata. Other parts get nothing else about the data.

    Attributes:
        latent_shape: ``(c, t, *space)`` of a clip; of the largest clips if there are several sizes.
        text_shape: ``(L, D)`` of a prompt embedding; None without prompts.
        context_shape: ``(k, *grid)`` of the maps that come with a clip; None without maps.
        latents_mean, latents_std: per channel, of the codec's output before normalisation; None if not declared.
        fps: pixel frames per second; None if not declared.
        codec: the codec that made the latents: its name, its factors and its other settings.
        text: the encoder that made the prompt embeddings: its name and its settings.
        made_by: how the data set was made.
        other_shapes: the latent shapes of the smaller clips, if there are several sizes.
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
        """A spec from its JSON form, where shapes are lists; raises :class:`BadValue` naming the first wrong field."""
        for name in values:
            choice("field", name, [f.name for f in fields(cls)])
        shapes = {"latent_shape": shape("latent_shape", values.get("latent_shape"))}
        for name in ("text_shape", "context_shape"):
            if (found := values.get(name)) is not None:
                shapes[name] = shape(name, found)
        others = values.get("other_shapes", ())
        if not isinstance(others, list | tuple):
            raise BadValue("other_shapes", others, "a list of shapes")
        for name in ("codec", "text", "made_by"):
            mapping(name, values.get(name, {}))
        frame_rate(values.get("fps"))
        for name in ("latents_mean", "latents_std"):
            if (found := values.get(name)) is not None:
                numbers(name, found, shapes["latent_shape"][0])
        return cls(**{**values, **shapes, "other_shapes": tuple(shape("other_shapes", value) for value in others)})

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
        """D; 1 without prompts."""
        return self.text_shape[1] if self.text_shape is not None else 1


def shape(name: str, value: object) -> tuple[int, ...]:
    """``value`` as a tuple if it is a list of positive integers, else raises :class:`BadValue`."""
    if not isinstance(value, list | tuple) or not value or not all(type(n) is int and n > 0 for n in value):
        raise BadValue(name, value, "a list of positive integers")
    if name == "text_shape" and len(value) != 2:
        raise BadValue(name, value, "[length, width]")
    if math.prod(value) > LARGEST:
        raise BadValue(name, value, f"a shape of at most {LARGEST} numbers")
    return tuple(value)


def mapping(name: str, value: object) -> dict[str, Any]:
    """A copy of ``value`` if it is a mapping, else raises :class:`BadValue`."""
    if not isinstance(value, Mapping):
        raise BadValue(name, value, "a mapping")
    return dict(value)


def numbers(name: str, value: object, count: int) -> list[float]:
    """``value`` if it is a list of ``count`` finite numbers, one per channel, else raises :class:`BadValue`."""
    if not isinstance(value, list | tuple) or len(value) != count or not all(map(_finite, value)):
        raise BadValue(name, value, f"{count} finite numbers, one per channel")
    found = [float(number) for number in value]
    if name == "latents_std" and min(found) <= 0:
        raise BadValue(name, value, "positive numbers")
    return found


def frame_rate(value: object) -> None:
    """Raises :class:`BadValue` unless ``fps`` is a positive number, or None for an unknown one."""
    if value is not None and (not _finite(value) or value <= 0):  # type: ignore[operator]
        raise BadValue("fps", value, "a positive number of frames per second, or null")


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
