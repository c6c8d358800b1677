"""Scores keyframes of moving shapes by the likelihood of their prompts."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from interp_refiner.core import BadValue, non_negative, save_tensors, state_faults
from interp_refiner.data.world.reader import CaptionReader, Said

SHIPPED = "shipped"
SHIPPED_READER = Path(__file__).resolve().parents[2] / "weights" / "moving_shapes_reader" / "reader.safetensors"


@final
class CaptionScorer:
    """A keyframe scorer: ``log P(prompt | keyframes)`` by a :class:`CaptionReader`, minus the oddity of objects.

    Objects that a prompt does not name count against a clip; words that the reader does not know do not count. A prompt
    that names no brightness gives every clip the same score.

    Args:
        weights: a file of :func:`save_reader`, or ``shipped``.
        oddity: weight of :meth:`Read.oddity`, for objects that jump or appear twice.

    Raises:
        BadValue: there is no such file, it has other weights, or ``oddity`` is below 0.
    """

    def __init__(self, weights: str = SHIPPED, oddity: float = 0.2):
        non_negative("oddity", oddity, "a weight")
        self.reader, self.weights, self.oddity = load_reader(weights), weights, oddity

    def __repr__(self) -> str:
        return f"caption_reader(weights={self.weights}, oddity={self.oddity:g})"

    def __call__(self, pictures: Float[Tensor, "b 3 k h w"], prompts: Sequence[str]) -> Float[Tensor, " b"]:
        said = Said.by(prompts)
        with torch.no_grad():
            read = self.reader(pictures)
        return read.log_likelihood(said) - self.oddity * read.oddity(said)


def save_reader(reader: CaptionReader, path: Path | str) -> None:
    """Writes a reader's weights."""
    save_tensors(reader.state_dict(), path)


def load_reader(weights: str) -> CaptionReader:
    """The reader of a file of :func:`save_reader`, or ``shipped``; raises as :class:`CaptionScorer`."""
    path = SHIPPED_READER if weights == SHIPPED else Path(weights).expanduser()
    if not path.is_file():
        raise BadValue("weights", weights, f"a file with a caption reader's weights, or {SHIPPED}", [SHIPPED])
    try:
        stored, reader = load_file(path), CaptionReader()
    except SafetensorError as error:
        raise BadValue("weights", weights, f"a .safetensors file ({error})") from error
    if faults := state_faults(reader.state_dict(), stored):
        raise BadValue("weights", weights, f"a caption reader's weights: {faults}")
    reader.load_state_dict(stored)
    return reader.eval().requires_grad_(False)
