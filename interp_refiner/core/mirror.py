"""Mirror images of latents, and of corrupted clips with everything that was made from them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp_refiner.core.corrupted import Corrupted
from interp_refiner.core.negative import NegativeEmbedding
from interp_refiner.core.shapes import per_sample


@final
class Reflection:
    """What mirroring a video along one axis of space does to its latents. It is its own inverse.

    Raw latents are flipped and multiplied by signs ``s``, so those normalised by ``(mu, std)`` become

        s flip(z) + (s - 1) mu / std

    Args:
        axis: -1 for x, -2 for y.
        signs: +1 or -1 for every channel.
        mean, std: ``mu`` and ``std`` of every channel.
    """

    def __init__(self, axis: int, signs: Float[Tensor, " c"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]):
        self.axis, self.signs, self.shift = axis, signs, (signs - 1) * mean / std

    def latents(self, z: Float[Tensor, "b *k c t h w"]) -> Float[Tensor, "b *k c t h w"]:
        """The latents of the mirrored video."""
        signs, shift = (value.to(z).view(-1, 1, 1, 1) for value in (self.signs, self.shift))
        return z.flip(self.axis) * signs + shift

    def noise(self, drawn: Float[Tensor, "b n t h w"]) -> Float[Tensor, "b n t h w"]:
        """Noise has no mean. Channels after those of the latents keep their sign."""
        c, flipped = len(self.signs), drawn.flip(self.axis)
        return torch.cat([flipped[:, :c] * self.signs.to(drawn).view(-1, 1, 1, 1), flipped[:, c:]], 1)

    def plain(self, value: Tensor) -> Tensor:
        """Masks and scales have no sign; numbers per frame stay as they are."""
        return value.flip(self.axis) if value.shape[self.axis] > 1 else value

    def __call__(self, corrupted: Corrupted, chosen: Bool[Tensor, " b"]) -> Corrupted:
        """``corrupted`` with the chosen samples mirrored. They lose their prompts, because prompts name directions."""

        def where(value: Tensor, image: Callable[[Tensor], Tensor]) -> Tensor:
            return torch.where(per_sample(chosen, value), image(value), value)

        kinds: dict[Callable[[Tensor], Tensor], Sequence[str]] = {
            self.latents: ("x", "values", "interpolation", "finer", "hypotheses"),
            self.plain: ("present", "local_scale", *["confidence"] * (corrupted.confidence.ndim > 2)),
            self.noise: ("noise",),
        }
        of_corruption = mirrored(corrupted, kinds, where)
        of_clip = mirrored(corrupted.clip, {self.latents: ("latents", "proposals")}, where)
        if (text := corrupted.clip.text) is not None:
            of_clip["text"] = torch.where(per_sample(chosen, text), NegativeEmbedding(None).like(text), text)
        return replace(corrupted, **of_corruption, clip=replace(corrupted.clip, **of_clip))


def mirrored(of: Any, kinds: dict[Callable[[Tensor], Tensor], Sequence[str]], where: Callable[..., Tensor]) -> dict:
    """The fields of an object that are not None, each mirrored as its kind."""
    fields = ((image, name, getattr(of, name)) for image, names in kinds.items() for name in names)
    return {name: where(value, image) for image, name, value in fields if value is not None}
