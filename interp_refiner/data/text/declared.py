"""The text encoder that a data set declares."""

from interp_refiner.core import BadValue
from interp_refiner.data.text.caption import CaptionEncoder
from interp_refiner.data.text.text_encoder import TextEncoder

WITHOUT_WEIGHTS = {CaptionEncoder.name: CaptionEncoder}


def declared_text_encoder(name: str, length: int, dim: int) -> TextEncoder:
    """The declared encoder where it needs no weights.

    Args:
        name: as declared in ``dataset.json``; empty where nothing is.
        length, dim: of the data set's embeddings.

    Raises:
        BadValue: the encoder needs weights, so that a folder has to be named, or none is declared.
    """
    if name in WITHOUT_WEIGHTS:
        return WITHOUT_WEIGHTS[name](length, dim)
    made_by = f"made by {name}, which needs weights" if name else "of an encoder that it does not declare"
    allowed = f"text=umt5 text.folder=<folder> or text=caption: the data set's prompt embeddings are {made_by}"
    raise BadValue("text", "declared", allowed)
