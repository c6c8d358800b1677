"""Mirrored training clips, an augmentation: motion is as likely to the left as to the right, up as down."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core import BadValue, Corrupted, Draws, NegativeEmbedding, per_sample
from interp_refiner.data.codec import Codec

STREAM = "train"
AXES = {-1: "mirror_x", -2: "mirror_y"}  # spatial axes, with the names of their random draws


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
        self.nothing = NegativeEmbedding(None)

    def check(self, codec: Codec | None) -> None:
        """Refuses, with :class:`BadValue`, a codec whose latents have no mirror image."""
        if self.probability > 0 and (codec is None or codec.mirror_signs(-1) is None):
            name = codec.name if codec is not None else None
            allowed = f"0 with codec={name}, whose latents have no mirror operation (patch_dct has one)"
            raise BadValue("data.mirror.probability", self.probability, allowed)

    def __call__(self, corrupted: Corrupted, codec: Codec) -> Corrupted:
        """The batch with some samples mirrored, in all of its tensors; the same object if no sample is."""
        if self.probability == 0:
            return corrupted
        clip = corrupted.clip
        draws, mirrored = Draws(self.seed, STREAM, clip.keys, clip.epochs), torch.zeros_like(corrupted.known[:, 0])
        for axis, name in AXES.items():
            chosen = draws.uniform(name, 1, corrupted.x.device).squeeze(1) < self.probability
            corrupted, mirrored = mirror(corrupted, chosen, axis, codec), mirrored | chosen
        if clip.text is None:
            return corrupted
        text = torch.where(per_sample(mirrored, clip.text), self.nothing.like(clip.text), clip.text)
        return replace(corrupted, clip=replace(corrupted.clip, text=text))


def mirror(corrupted: Corrupted, chosen: Bool[Tensor, " b"], axis: int, codec: Codec) -> Corrupted:
    """``corrupted`` with the chosen samples mirrored along one axis of space.

    Raw latents are multiplied by the codec's signs ``s``, so those normalised by ``(mu, std)`` become

        s flip(z) + (s - 1) mu / std
    """
    signs = codec.mirror_signs(axis)
    assert signs is not None
    signs = signs.to(corrupted.x)
    shift = (signs - 1) * codec.latents_mean.to(signs) / codec.latents_std.to(signs)

    def where(value: Tensor, image: Callable[[Tensor], Tensor]) -> Tensor:
        return torch.where(per_sample(chosen, value), image(value.flip(axis)), value)

    def latents(value: Float[Tensor, "b *k c t h w"]) -> Tensor:
        return where(value, lambda z: z * signs.view(-1, 1, 1, 1) + shift.view(-1, 1, 1, 1))

    def plain(value: Tensor) -> Tensor:
        return where(value, lambda z: z) if value.shape[axis] > 1 else value

    def noise(value: Float[Tensor, "b n t h w"]) -> Tensor:
        c = len(signs)  # further noise channels belong to no latent channel and keep their sign
        return torch.cat([where(value[:, :c], lambda z: z * signs.view(-1, 1, 1, 1)), plain(value[:, c:])], 1)

    kinds = {
        latents: ("x", "values", "interpolation", "finer", "hypotheses"),
        plain: ("present", "local_scale"),
        noise: ("noise",),
    }
    images: dict[str, Any] = {
        name: image(value)
        for image, names in kinds.items()
        for name in names
        if (value := getattr(corrupted, name)) is not None
    }
    if corrupted.confidence.ndim > 2:
        images["confidence"] = plain(corrupted.confidence)
    clip = corrupted.clip
    proposals = latents(clip.proposals) if clip.proposals is not None else None
    return replace(corrupted, **images, clip=replace(clip, latents=latents(clip.latents), proposals=proposals))
