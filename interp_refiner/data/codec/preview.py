"""Shows latents whose decoder is not available, in false colours."""

from collections.abc import Sequence
from typing import NoReturn, final

import torch
from jaxtyping import Float
from torch import Tensor

from interp_refiner.core import ClipSpec
from interp_refiner.data.codec.codec import Codec

# The colour range covers three standard deviations on either side of the mean.
COLOUR_RANGE = 3.0


@final
class LatentPreview(Codec):
    """False colours: the first three principal components of a clip's own latents as red, green and blue.

    One pixel per latent position and one picture per latent frame. This is **not** a decoded video; ``caveat`` says so
    wherever it is shown. Truth, interpolation and refinement are comparable only in the same basis. So fit the basis to
    the truth, ``preview = LatentPreview().fitted_to(truth)``, and decode all three with ``preview``. Without a fit,
    every clip is shown in its own basis.

    Args:
        latent_channels: c of the latents.
        latents_mean, latents_std: accepted for a uniform interface; components do not depend on the mean.
        spec: of the clips; its channels and statistics replace the other arguments.
    """

    name = "latent_preview"
    caveat = "preview: principal components of the latents, not a decoded video"

    def __init__(
        self,
        latent_channels: int = 16,
        latents_mean: Sequence[float] | None = None,
        latents_std: Sequence[float] | None = None,
        spec: ClipSpec | None = None,
    ):
        channels = spec.channels if spec is not None else latent_channels
        super().__init__(1, 1, False, channels, latents_mean, latents_std)
        self.centre: Float[Tensor, "b c"] | None = None
        self.basis: Float[Tensor, "b c 3"] | None = None
        if spec is not None:
            self.adopt(spec)

    def transform(self, video: Float[Tensor, "b 3 t h w"]) -> NoReturn:
        raise NotImplementedError("LatentPreview cannot encode, because a preview does not determine the latents")

    def inverse(self, latents: Float[Tensor, "b c n y x"]) -> Float[Tensor, "b 3 t h w"]:
        if self.basis is None or self.centre is None:
            return self._with_components(latents).inverse(latents)
        centred = latents.float() - self.centre.to(latents.device)[..., None, None, None]
        return 0.5 + torch.einsum("bcnyx,bck->bknyx", centred, self.basis.to(latents.device)) / (2 * COLOUR_RANGE)

    def fitted_to(self, latents: Float[Tensor, "b c n y x"]) -> "LatentPreview":
        """A preview with the principal components of these clips, scaled by the standard deviation of the first."""
        return self._with_components(self.raw(latents))

    def _with_components(self, raw: Float[Tensor, "b c n y x"]) -> "LatentPreview":
        preview = LatentPreview(self.latent_channels, self.latents_mean.tolist(), self.latents_std.tolist())
        preview.centre, preview.basis = principal_components(raw)
        return preview.to(raw.device)


def principal_components(
    latents: Float[Tensor, "b c n y x"],
) -> tuple[Float[Tensor, "b c"], Float[Tensor, "b c 3"]]:
    """Mean and first three principal directions of every clip's channel vectors, in units of the first's deviation.

    The largest entry of each direction is made positive, so that equal clips have equal colours.
    """
    points = latents.float().flatten(2)
    centre = points.mean(2)
    centred = points - centre.unsqueeze(2)
    covariance = centred @ centred.mT / points.shape[2]
    variance, directions = torch.linalg.eigh(covariance)
    leading = directions[..., -3:].flip(-1)
    largest = leading.gather(1, leading.abs().argmax(1, keepdim=True))
    deviation = variance[..., -1:].clamp(min=1e-12).sqrt().unsqueeze(-1)
    return centre, leading * largest.sign() / deviation
