"""What kinds of clips have in common where people look at them and metrics judge them."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor

from interp_refiner.core import Clip, Corrupted
from interp_refiner.data.codec import side_by_side
from interp_refiner.evaluation.measures import Bootstrap

Versions = Mapping[str, Float[Tensor, "1 c t *space"]]
"""One clip as several methods have it, by name; the first is the truth."""
Table = Callable[..., Any]
"""``(methods=, baselines=, bootstrap=)`` -> a metric with the update of a ``FrameTable``, beside the medium's own."""
Figures = dict[str, Any]
"""Records of metrics by the name of their field in an ``Evaluation``."""


class Tables(ABC):
    """Measures of several methods' clips, beside their squared error."""

    @abstractmethod
    def update(
        self,
        clips: Mapping[str, Float[Tensor, "n c t *space"]],
        corrupted: Corrupted,
        level: int,
        sample: Int[Tensor, " n"],
    ) -> None:
        """Adds a batch of one level.

        Args:
            clips: of every method, the truth among them.
            corrupted: what they were made of; it may have more clips than the first n.
            level: that all of them have.
            sample: index of each clip in its data set.
        """

    @abstractmethod
    def compute(self) -> Figures:
        """The figures so far."""


class Medium(ABC):
    """What clips are: how they are measured, made worse in a known way, and shown.

    Attributes:
        caveat: what must be written beside a picture; empty where nothing has to.
        measured_in: what the figures of :meth:`tables` are measured in, in words.
    """

    caveat: str = ""
    measured_in: str

    @abstractmethod
    def check(self, latent_shape: Sequence[int], context_shape: Sequence[int] | None) -> None:
        """Refuses, with :class:`BadValue`, clips ``[c, t, *space]`` of another kind."""

    @abstractmethod
    def to(self, device: torch.device | str) -> "Medium":
        """Moves what it computes with."""

    @abstractmethod
    def blurred(
        self, clean: Float[Tensor, "b c t *space"], known: Bool[Tensor, "b t"]
    ) -> Float[Tensor, "b c t *space"]:
        """The truth with soft missing frames: a control that squared error likes and realism must not."""

    @abstractmethod
    def tables(
        self, methods: list[str], baselines: list[str], bootstrap: Bootstrap, chosen: Mapping[str, Table]
    ) -> Tables:
        """What is measured of such clips.

        Args:
            methods: that every update brings.
            baselines: those among them that the others are compared with.
            bootstrap: of the intervals.
            chosen: more tables, by name.

        Raises:
            BadValue: a chosen one is not for such clips.
        """

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
