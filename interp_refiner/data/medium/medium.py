"""What kinds of clips have in common where people look at them."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from interp_refiner.core import Clip
from interp_refiner.data.codec import side_by_side

Versions = Mapping[str, Float[Tensor, "1 c t *space"]]
"""One clip as several methods have it, by name; the first is the truth."""


class Medium(ABC):
    """What clips are to people: how they are shown, and made worse in a known way.

    Every medium is made of ``(codec, spec)`` and refuses, with :class:`BadValue`, clips of another kind.

    Attributes:
        domains: what can be measured of its clips: ``latents``, and what :meth:`views` gives.
        caveat: what must be written beside a picture; empty where nothing has to.
        measured_in: what figures are measured in, in words.
    """

    domains: Sequence[str]
    caveat: str = ""
    measured_in: str

    @abstractmethod
    def to(self, device: torch.device | str) -> "Medium":
        """Moves what it computes with."""

    @abstractmethod
    def views(self, latents: Float[Tensor, "b c t *space"]) -> dict[str, Tensor]:
        """Clips as they are measured, by domain."""

    def latent_frame(self, num_frames: int) -> list[int]:
        """The latent frame that each frame of a view belongs to."""
        return list(range(num_frames))

    @abstractmethod
    def blurred(
        self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b c t *space"]:
        """The truth with soft missing frames: a control that squared error likes and realism must not."""

    @abstractmethod
    def sheet(self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip, title: str) -> Image.Image:
        """All versions of one clip in one picture.

        Args:
            versions: what is compared.
            known: the keyframes.
            clip: a batch of the one clip, for its context.
            title: above the picture; the caveat is added.
        """

    @abstractmethod
    def videos(
        self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip
    ) -> tuple[list[Float[Tensor, "3 _n h w"]], Bool[Tensor, " _n"]]:
        """Every version as RGB in 0..1, and which of their n frames are of keyframes."""

    def film(self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip, title: str) -> Tensor:
        """All versions beside each other, frame by frame: ``[n, h, w, 3]`` for ``write_mp4``; as for :meth:`sheet`."""
        videos, keyframes = self.videos(versions, known, clip)
        return side_by_side(videos, list(versions), keyframes, self.titled(title))

    def titled(self, title: str) -> str:
        """A title with the caveat behind it."""
        return "  ".join(filter(None, [title, self.caveat]))
