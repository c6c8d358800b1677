"""Mirrored training clips, an augmentation: motion is as likely to the left as to the right, up as down."""

from collections.abc import Sequence
from typing import final

from interp_refiner.core import BadValue, Corrupted, Draws, Reflection
from interp_refiner.data.codec import Codec

STREAM = "train"
DRAWS = "mirror_x", "mirror_y"  # names of the random draws


@final
class Mirror:
    """Mirrors training clips along x and along y; the two axes are drawn independently.

    It runs after the corruption and mirrors the clip and everything made from it. So an interpolator that caches its
    matches (:class:`Remembered`) matches a clip once for all four mirrored versions. A mirrored clip loses its prompt,
    because prompts name directions. Like those of the corruption, the draws are functions of (seed, epoch, key).

    Args:
        probability: of mirroring along an axis; 0 mirrors nothing.
        seed: the run's seed.

    Raises:
        BadValue: a probability outside 0..1; on use, a codec whose latents have no mirror image.
    """

    def __init__(self, probability: float = 0.0, seed: int = 0):
        if not 0 <= probability <= 1:
            raise BadValue("probability", probability, "a probability from 0 to 1")
        self.probability, self.seed = probability, seed

    def check(self, codec: Codec | None) -> None:
        """Refuses, with :class:`BadValue`, a codec whose latents have no mirror image."""
        if self.probability > 0 and (codec is None or not codec.reflections()):
            name = codec.name if codec is not None else None
            allowed = f"0 with codec={name}, whose latents have no mirror operation (patch_dct has one)"
            raise BadValue("data.mirror.probability", self.probability, allowed)

    def __call__(self, corrupted: Corrupted, reflections: Sequence[Reflection]) -> Corrupted:
        """The batch with some samples mirrored, in all of its tensors; the same object if none can be.

        Args:
            corrupted: the batch.
            reflections: along x and along y.
        """
        if self.probability == 0:
            return corrupted
        clip = corrupted.clip
        draws = Draws(self.seed, STREAM, clip.keys, clip.epochs)
        for name, reflection in zip(DRAWS, reflections, strict=True):
            chosen = draws.uniform(name, 1, corrupted.x.device).squeeze(1) < self.probability
            corrupted = reflection(corrupted, chosen)
        return corrupted
