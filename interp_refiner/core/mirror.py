"""Mirror images of latents, and of corrupted clips with everything that was made from them."""

from collections.abc import Callable, Mapping, Sequence
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
        self._placed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}  # a copy may stop the GPU

    def latents(self, z: Float[Tensor, "b *k c t h w"]) -> Float[Tensor, "b *k c t h w"]:
        """The latents of the mirrored video."""
        signs, shift = self._like(z)
        return z.flip(self.axis) * signs + shift

    def noise(self, drawn: Float[Tensor, "b n t h w"]) -> Float[Tensor, "b n t h w"]:
        """Noise has no mean. Channels after those of the latents keep their sign."""
        c, flipped = len(self.signs), drawn.flip(self.axis)
        return torch.cat([flipped[:, :c] * self._like(drawn)[0], flipped[:, c:]], 1)

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
        of_corruption = mirrored_fields(corrupted, kinds, where)
        of_clip = mirrored_fields(corrupted.clip, {self.latents: ("latents", "proposals")}, where)
        if (text := corrupted.clip.text) is not None:
            of_clip["text"] = torch.where(per_sample(chosen, text), NegativeEmbedding(None).like(text), text)
        return replace(corrupted, **of_corruption, clip=replace(corrupted.clip, **of_clip))

    def _like(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Signs and shift in the precision and on the device of ``z``."""
        if (place := (z.device, z.dtype)) not in self._placed:
            self._placed[place] = self.signs.to(z).view(-1, 1, 1, 1), self.shift.to(z).view(-1, 1, 1, 1)
        return self._placed[place]


def mirrored_fields(
    owner: Any, names: Mapping[Callable[[Tensor], Tensor], Sequence[str]], where: Callable[..., Tensor]
) -> dict[str, Any]:
    """The fields of ``owner`` that are not None, by ``where(value, image)``; ``names`` maps images to fields."""
    fields = ((image, name, getattr(owner, name)) for image, those in names.items() for name in those)
    return {name: where(value, image) for image, name, value in fields if value is not None}
