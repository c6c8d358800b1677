"""The text encoder that a data set declares."""

from interp_refiner.core import BadValue, ClipSpec
from interp_refiner.data.text.caption import CaptionEncoder
from interp_refiner.data.text.text_encoder import TextEncoder

WITHOUT_WEIGHTS = {CaptionEncoder.name: CaptionEncoder}


def declared_text_encoder(spec: ClipSpec) -> TextEncoder:
    """The declared encoder, if it needs no weights.

    Args:
        spec: of the clips.

    Raises:
        BadValue: the clips have no prompts, their encoder is not declared, or it needs weights, and so a folder.
    """
    if spec.text_shape is None:
        raise BadValue("text", "declared", "no prompt, because the data set has no prompt embeddings")
    name = spec.text.get("name", "")
    if name in WITHOUT_WEIGHTS:
        return WITHOUT_WEIGHTS[name](*spec.text_shape, spec=spec)
    made_by = f"made by {name}, which needs weights" if name else "of an encoder that it does not declare"
    allowed = f"text=umt5 text.folder=<folder> or text=caption: the data set's prompt embeddings are {made_by}"
    raise BadValue("text", "declared", allowed)
