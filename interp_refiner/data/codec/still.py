"""A still is not a video latent.

A causal video codec codes its first frame alone and every later latent frame as the change over several pixel frames,
so that the latent of a picture coded by itself is off the distribution of the later latents of a video. It is closer to
them when it is the end of a static clip.
"""

from dataclasses import dataclass
from typing import final

from interp_refiner.core import BadValue


@final
@dataclass(frozen=True)
class Still:
    """How a picture is encoded for its place in a clip: as the last latent frame of a static clip of it.

    Attributes:
        context: latent frames of the static clip before the one that is taken, at most, and never more than there are
            before its place: 0 codes the picture alone, None lets the static clip begin where the clip does.

    Raises:
        BadValue: a negative context.
    """

    context: int | None = 2

    def __post_init__(self) -> None:
        if self.context is not None and self.context < 0:
            raise BadValue("context", self.context, "latent frames >= 0, or null for all before the position")

    def before(self, slot: int) -> int:
        """Latent frames of the static clip before the one that becomes latent frame ``slot``."""
        return slot if self.context is None else min(slot, self.context)


MODES = {"frame_zero": Still(0), "static_clip": Still(2), "slot": Still(None)}
