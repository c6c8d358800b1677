"""The codec that a data set declares."""

from interp_refiner.core import ClipSpec
from interp_refiner.data.codec.codec import Codec
from interp_refiner.data.codec.patch_dct import PatchDCT
from interp_refiner.data.codec.preview import LatentPreview
from interp_refiner.data.codec.still import Still

WITHOUT_WEIGHTS = {PatchDCT.name: PatchDCT}


def declared_codec(spec: ClipSpec, still: Still | None = None) -> Codec:
    """The declared codec if it needs no weights, else a :class:`LatentPreview` of its latents, labelled as such.

    Args:
        spec: of the clips.
        still: how single pictures are encoded.
    """
    declared = WITHOUT_WEIGHTS.get(spec.codec.get("name", ""))
    return declared(still=still, spec=spec) if declared is not None else LatentPreview(spec=spec)
