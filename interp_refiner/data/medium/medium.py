"""The interface of media: how clips of one kind are shown and measured."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from interp_refiner.core import Clip
from interp_refiner.data.codec import side_by_side

Versions = Mapping[str, Float[Tensor, "1 c t *space"]]
"""Versions of one clip (truth, interpolation, refinement, ...) by name; the first is the truth."""


class Medium(ABC):
    """A kind of clip: how it is shown, converted for measures, and degraded in a known way (as a control).

    The constructor takes ``(codec, spec)`` and raises :class:`BadValue` for clips of another kind.

    Attributes:
        domains: the domains of measures that apply: ``latents``, and the keys of :meth:`views`.
        caveat: note to show beside every picture; may be empty.
        measured_in: the quantity that measures refer to, in words.
    """

    domains: Sequence[str]
    caveat: str = ""
    measured_in: str

    @abstractmethod
    def to(self, device: torch.device | str) -> "Medium":
        """Moves its tensors and its codec to a device."""

    @abstractmethod
    def views(self, latents: Float[Tensor, "b c t *space"]) -> dict[str, Tensor]:
        """The clips in the form that measures take, by domain."""

    def latent_frame(self, num_frames: int) -> list[int]:
        """The latent frame of each frame of a view."""
        return list(range(num_frames))

    @abstractmethod
    def blurred(
        self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b c t *space"]:
        """The truth with blurred missing frames: a control with a small squared error and little realism."""

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
        """Every version as RGB in 0..1, and which of the n frames belong to keyframes."""

    def film(self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip, title: str) -> Tensor:
        """All versions side by side as a video ``[n, h, w, 3]`` for ``write_mp4``; arguments as for :meth:`sheet`."""
        videos, keyframes = self.videos(versions, known, clip)
        return side_by_side(videos, list(versions), keyframes, self.titled(title))

    def titled(self, title: str) -> str:
        """The caveat, then the title: a sheet cuts what is too long at its end."""
        return "  ".join(filter(None, [self.caveat, title]))
