"""The interface of codecs between pixels and latents."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from interp_refiner.core import BadValue, ClipSpec, Reflection
from interp_refiner.data.codec.still import Still


class Codec(nn.Module, ABC):
    """Encodes video into latents of about unit variance and decodes them.

    With the transforms ``E, D`` and the per-channel statistics ``mu, s`` of raw latents,

        encode(v) = (E(v) - mu) / s          decode(z) = D(s z + mu)

    Video is ``[b, 3, t, h, w]``, RGB in 0..1. Both methods are differentiable in their input, so that an interpolator
    can work in pixels. A codec's own weights never require a gradient. Its statistics are not saved.

    Args:
        latents_mean, latents_std: one number per latent channel; None means 0 and 1.
        still: how single pictures are encoded; None: as the last frame of a short static clip.

    Attributes:
        name: name of the codec's config.
        temporal_factor: pixel frames per latent frame.
        spatial_factor: pixels per latent position along height and along width.
        first_frame_alone: latent frame 0 codes one pixel frame, whatever the temporal factor.
        latent_channels: c.
        has_statistics: whether its config or its weights provide a mean and a deviation.
        caveat: note to show beside every decoded picture; empty for a true decoder.

    Raises:
        BadValue: statistics of another length than ``latent_channels``, or a standard deviation that is not positive.
    """

    name: str
    caveat: str = ""

    def __init__(
        self,
        temporal_factor: int,
        spatial_factor: int,
        first_frame_alone: bool,
        latent_channels: int,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        still: Still | None = None,
    ):
        super().__init__()
        self.still = still or Still()
        self.temporal_factor = temporal_factor
        self.spatial_factor = spatial_factor
        self.first_frame_alone = first_frame_alone
        self.latent_channels = latent_channels
        self.latents_mean: Float[Tensor, " c"]
        self.latents_std: Float[Tensor, " c"]
        self.register_buffer("latents_mean", torch.zeros(latent_channels), persistent=False)
        self.register_buffer("latents_std", torch.ones(latent_channels), persistent=False)
        self.has_statistics = latents_mean is not None and latents_std is not None
        self.set_statistics(latents_mean, latents_std)

    @abstractmethod
    def transform(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c n y x"]:
        """Raw latents ``E(v)``."""

    @abstractmethod
    def inverse(self, latents: Float[Tensor, "b c n y x"]) -> Float[Tensor, "b 3 t h w"]:
        """Pixels ``D(l)`` from raw latents, not clamped."""

    def mirror_signs(self, axis: int) -> Float[Tensor, " c"] | None:
        """Signs that multiply the channels of raw latents when a video is mirrored along ``axis`` (-1: x, -2: y).

        The positions are mirrored as well. None if mirroring changes the latents in other ways (autoencoders).
        """
        return None

    def reflections(self) -> tuple[Reflection, ...]:
        """Mirror operations on normalised latents along x and along y; empty without :meth:`mirror_signs`."""
        signs = {axis: self.mirror_signs(axis) for axis in (-1, -2)}
        statistics = self.latents_mean.cpu(), self.latents_std.cpu()
        return tuple(Reflection(axis, s, *statistics) for axis, s in signs.items() if s is not None)

    def describe(self) -> dict[str, Any]:
        """Name and factors, for ``dataset.json``, which has separate fields for the statistics."""
        return {
            "name": self.name,
            "temporal_factor": self.temporal_factor,
            "spatial_factor": self.spatial_factor,
            "first_frame_alone": self.first_frame_alone,
        }

    def encode(self, video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b c n y x"]:
        """Latents of about unit variance.

        Raises:
            BadValue: the factors do not divide the video's size.
        """
        self.check_size(*video.shape[2:])
        return (self.transform(video) - self._per_channel(self.latents_mean)) / self._per_channel(self.latents_std)

    def encode_still(
        self, image: Float[Tensor, "b 3 h w"], slot: int, still: Still | None = None
    ) -> Float[Tensor, "b c y x"]:
        """The latent of a picture (RGB in 0..1) for use as latent frame ``slot`` of a clip.

        Args:
            image: the picture.
            slot: the latent frame that it becomes.
            still: how to encode it; None for the codec's own setting.
        """
        before = (still or self.still).before(slot)
        pixel_frames = len(self.latent_frame(before + 1))
        return self.encode(image.unsqueeze(2).expand(-1, -1, pixel_frames, -1, -1))[:, :, -1]

    def stills(self, video: Float[Tensor, "b 3 t h w"], still: Still | None = None) -> Float[Tensor, "b c n y x"]:
        """Every latent frame of a video, encoded from a still: the middle one of the pixel frames that it codes."""
        num_latent_frames = self.latent_size(*video.shape[2:])[1]
        codes = self.latent_frame(num_latent_frames)
        middle = [codes.index(slot) + codes.count(slot) // 2 for slot in range(num_latent_frames)]
        return torch.stack([self.encode_still(video[:, :, f], slot, still) for slot, f in enumerate(middle)], 2)

    def stills_at(
        self, video: Float[Tensor, "b 3 t h w"], slots: Int[Tensor, "b k"], still: Still | None = None
    ) -> Float[Tensor, "b c k y x"]:
        """:meth:`stills` at some latent frames only, which may differ from clip to clip, in one pass.

        A causal codec's latent frame ``n`` of a static clip does not depend on the clip's length. So one static clip of
        the longest context serves all slots. There is no host sync.
        """
        num_latent_frames = self.latent_size(*video.shape[2:])[1]
        codes = self.latent_frame(num_latent_frames)
        middle = [codes.index(slot) + codes.count(slot) // 2 for slot in range(num_latent_frames)]
        rows = torch.arange(len(slots), device=slots.device).unsqueeze(1)
        pictures = video.transpose(1, 2)[rows, torch.tensor(middle, device=slots.device)[slots]].flatten(0, 1)
        context = (still or self.still).before(num_latent_frames - 1)
        static = pictures.unsqueeze(2).expand(-1, -1, len(self.latent_frame(context + 1)), -1, -1)
        latents = self.encode(static)
        place = slots.clamp(max=context).flatten()
        made = latents[torch.arange(len(place), device=place.device), :, place]
        return made.unflatten(0, slots.shape).transpose(1, 2)

    def decode(self, latents: Float[Tensor, "b c n y x"]) -> Float[Tensor, "b 3 t h w"]:
        """RGB in 0..1."""
        return self.inverse(self.raw(latents)).clamp(0, 1)

    def raw(self, latents: Float[Tensor, "b c n y x"]) -> Float[Tensor, "b c n y x"]:
        """``s z + mu``."""
        return latents * self._per_channel(self.latents_std) + self._per_channel(self.latents_mean)

    def fitted_to(self, latents: Float[Tensor, "b c n y x"]) -> "Codec":
        """The codec that decodes these clips and their reconstructions: ``self``, unless it adapts to the clips."""
        return self

    def adopt(self, spec: ClipSpec) -> None:
        """Uses the statistics that a data set declares.

        Raises:
            BadValue: another codec made the latents; a preview accepts all latents.
        """
        if self.latent_channels != spec.channels:
            allowed = f"a codec of the clips' {spec.channels} latent channels"
            raise BadValue("codec", f"{self.name} with {self.latent_channels}", allowed)
        self.set_statistics(spec.latents_mean, spec.latents_std)
        made_with, own = spec.codec, self.describe()
        for key in [key for key in own if key in made_with and not self.caveat]:
            if own[key] != made_with[key]:
                fingerprint = spec.made_by.get("fingerprint")
                which = f" (fingerprint {fingerprint})" if fingerprint else ""
                raise BadValue(key, own[key], f"{made_with[key]}, which the shards were made with{which}")

    def set_statistics(self, mean: Sequence[float] | None, std: Sequence[float] | None) -> "Codec":
        """Uses these statistics; None keeps the current value."""
        for name, values in (("latents_mean", mean), ("latents_std", std)):
            if values is None:
                continue
            if len(values) != self.latent_channels:
                raise BadValue(
                    name, f"{len(values)} numbers", f"{self.latent_channels} numbers, one per latent channel"
                )
            getattr(self, name).copy_(torch.as_tensor(values, dtype=torch.float32))
        if not (self.latents_std > 0).all():
            raise BadValue("latents_std", self.latents_std.tolist(), "positive numbers")
        return self

    def check_size(self, num_frames: int, height: int, width: int) -> None:
        """Refuses a video whose size the factors do not divide.

        Raises:
            BadValue: names the actual size and the allowed sizes.
        """
        if height % self.spatial_factor or width % self.spatial_factor:
            allowed = f"a height and width divisible by {self.spatial_factor}"
            raise BadValue("video size", f"{height}x{width}", allowed)
        if (num_frames - int(self.first_frame_alone)) % self.temporal_factor:
            allowed = f"{'1 + ' if self.first_frame_alone else ''}a multiple of {self.temporal_factor} frames"
            raise BadValue("video frames", num_frames, allowed)

    def latent_size(self, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """``(c, n, y, x)`` of the latents of a video; raises as :meth:`check_size`."""
        self.check_size(num_frames, height, width)
        alone = int(self.first_frame_alone)
        latent_frames = alone + (num_frames - alone) // self.temporal_factor
        return self.latent_channels, latent_frames, height // self.spatial_factor, width // self.spatial_factor

    def latent_frame(self, num_latent_frames: int) -> list[int]:
        """The latent frame that codes each pixel frame: ``[0, 1, 1, 1, 1, 2, ...]`` for Wan."""
        spans = [self.temporal_factor] * num_latent_frames
        if self.first_frame_alone and spans:
            spans[0] = 1
        return [frame for frame, span in enumerate(spans) for _ in range(span)]

    @staticmethod
    def _per_channel(values: Float[Tensor, " c"]) -> Float[Tensor, "c 1 1 1"]:
        return values.view(-1, 1, 1, 1)
