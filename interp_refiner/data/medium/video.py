"""Videos, shown as decoded pixels."""

from typing import final

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor

from interp_refiner.core import BadValue, Clip, ClipSpec, per_frame
from interp_refiner.data.codec import Codec, contact_sheet
from interp_refiner.data.medium.medium import Medium, Versions
from interp_refiner.data.medium.soft import blurred


@final
class Video(Medium):
    """Latents ``[c, t, h, w]`` of a codec.

    If the codec is not a true decoder, realism and Frechet distance are measured on latents, there are no pixel scores,
    and pictures show the codec's caveat.

    Args:
        codec: of the latents.
        spec: of the clips.

    Raises:
        BadValue: the clips are not videos.
    """

    def __init__(self, codec: Codec, spec: ClipSpec):
        if len(spec.latent_shape) != 4:
            raise BadValue("medium", "video", f"a medium for clips {list(spec.latent_shape)}, such as medium=maze")
        self.codec, self.caveat, self.decodes = codec, codec.caveat, not codec.caveat
        self.domains = ("latents", "videos", *["pixels"] * self.decodes)
        self.measured_in = "pixels" if self.decodes else "latents (their codec has no decoder here)"

    def to(self, device: torch.device | str) -> "Video":
        self.codec.to(device)
        return self

    def views(self, latents: Float[Tensor, "b c t h w"]) -> dict[str, Tensor]:
        if not self.decodes:
            return {"videos": latents}
        pixels = self.codec.decode(latents)
        return {"videos": pixels, "pixels": pixels}

    def latent_frame(self, num_frames: int) -> list[int]:
        return self.codec.latent_frame(num_frames) if self.decodes else super().latent_frame(num_frames)

    def blurred(self, clean: Float[Tensor, "b c t h w"], known: Bool[Tensor, "b t"]) -> Float[Tensor, "b c t h w"]:
        """Averaged over 3x3 pixels, or over 3x3 latent positions without a true decoder."""
        if not self.decodes:
            return blurred(clean, known)
        video = self.codec.decode(clean)
        nowhere = torch.zeros(video.shape[0], video.shape[2], dtype=torch.bool, device=known.device)
        return torch.where(per_frame(known, clean), clean, self.codec.encode(blurred(video, nowhere)))

    def sheet(self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip, title: str) -> Image.Image:
        videos, keyframes = self.videos(versions, known, clip)
        return contact_sheet(videos, list(versions), keyframes, self.titled(title))

    @torch.no_grad()
    def videos(
        self, versions: Versions, known: Bool[Tensor, " t"], clip: Clip
    ) -> tuple[list[Float[Tensor, "3 _n h w"]], Bool[Tensor, " _n"]]:
        """Decodes all versions on the codec's device; the first version determines the colours of a preview."""
        latents = [version.to(self.codec.latents_mean.device) for version in versions.values()]
        fitted = self.codec.fitted_to(latents[0])
        videos = [fitted.decode(version)[0].cpu() for version in latents]
        return videos, known[torch.tensor(fitted.latent_frame(len(known)))]
