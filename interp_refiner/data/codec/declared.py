"""The codec that a data set declares."""

from collections.abc import Sequence

from interp_refiner.data.codec.codec import Codec
from interp_refiner.data.codec.patch_dct import PatchDCT
from interp_refiner.data.codec.preview import LatentPreview
from interp_refiner.data.codec.still import Still

WITHOUT_WEIGHTS = {PatchDCT.name: PatchDCT}


def declared_codec(
    name: str,
    latent_channels: int,
    latents_mean: Sequence[float] | None = None,
    latents_std: Sequence[float] | None = None,
    still: Still | None = None,
) -> Codec:
    """The declared codec where it needs no weights, else a :class:`LatentPreview` of its latents, labelled as such.

    Args:
        name: as declared in ``dataset.json``.
        latent_channels: of the data set.
        latents_mean, latents_std: statistics of the data set.
        still: how single pictures are encoded.
    """
    if name in WITHOUT_WEIGHTS:
        return WITHOUT_WEIGHTS[name](latents_mean=latents_mean, latents_std=latents_std, still=still)
    return LatentPreview(latent_channels)
