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
    """Maps latents to those of the video mirrored along one axis of space. It is its own inverse.

    Raw latents are flipped and multiplied by signs ``s``. So latents ``z`` normalised by ``(mu, std)`` become

        s flip(z) + (s - 1) mu / std

    Args:
        axis: -1 for x, -2 for y.
        signs: +1 or -1 for every channel.
        mean, std: ``mu`` and ``std`` of every channel.
    """

    def __init__(self, axis: int, signs: Float[Tensor, " c"], mean: Float[Tensor, " c"], std: Float[Tensor, " c"]):
        self.axis, self.signs, self.shift = axis, signs, (signs - 1) * mean / std
        # cached, because a copy from the host may make the GPU wait
        self._placed: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def latents(self, z: Float[Tensor, "b *k c t h w"]) -> Float[Tensor, "b *k c t h w"]:
        """The latents of the mirrored video."""
        signs, shift = self._like(z)
        return z.flip(self.axis) * signs + shift

    def noise(self, drawn: Float[Tensor, "b n t h w"]) -> Float[Tensor, "b n t h w"]:
        """Mirrors noise: without the shift, because its mean is 0. Channels after the latents' keep their sign."""
        c, flipped = len(self.signs), drawn.flip(self.axis)
        return torch.cat([flipped[:, :c] * self._like(drawn)[0], flipped[:, c:]], 1)

    def plain(self, value: Tensor) -> Tensor:
        """Mirrors masks and scales: only flipped. Numbers per frame do not change."""
        return value.flip(self.axis) if value.shape[self.axis] > 1 else value

    def __call__(self, corrupted: Corrupted, chosen: Bool[Tensor, " b"]) -> Corrupted:
        """``corrupted`` with the chosen samples mirrored. They lose their prompts, because prompts name directions."""

        def where(value: Tensor, image: Callable[[Tensor], Tensor]) -> Tensor:
            return torch.where(per_sample(chosen, value), image(value), value)

        images: dict[Callable[[Tensor], Tensor], Sequence[str]] = {
            self.latents: ("x", "values", "interpolation", "finer", "hypotheses"),
            self.plain: ("present", "local_scale", *["confidence"] * (corrupted.confidence.ndim > 2)),
            self.noise: ("noise",),
        }
        of_corruption = mirrored_fields(corrupted, images, where)
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
    owner: Any, images: Mapping[Callable[[Tensor], Tensor], Sequence[str]], where: Callable[..., Tensor]
) -> dict[str, Any]:
    """``where(value, image)`` for the named fields of ``owner`` that are not None.

    Args:
        owner: the object with the fields.
        images: the names of the fields, by the function that mirrors them.
        where: returns a field's new value from its value and this function.
    """
    fields = ((image, name, getattr(owner, name)) for image, names in images.items() for name in names)
    return {name: where(value, image) for image, name, value in fields if value is not None}
