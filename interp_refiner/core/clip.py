"""One batch of clips in latent space, as the data module reads it."""

from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass
class Clip:
    """A batch of videos (or trajectories) in latent space.

    Not frozen: Lightning's precision plugins assign to the fields of a batch.

    Attributes:
        latents: ``z0``, about unit variance per channel.
        keys: the samples' names, unique in their dataset; randomness is derived from them.
        epochs: how often training has used each sample before; None outside training.
        text: prompt embeddings, zero beyond the prompt; None for unconditional data.
        prompts: the prompts as text, for captions and reports.
        context: maps shared by all frames of a clip, such as the walls of a maze; None for data without maps.
        level: a level pinned by the data module (validation); None lets the corruption draw one.
        given: keyframes that are constraints; None without any.
        proposals: keyframe values that are not the truth, from phase 1; only frames in ``proposed`` are ever read.
        proposed: frames that have a proposal.
        step: optimizer steps taken before this batch; None outside training.
    """

    latents: Float[Tensor, "b c t *space"]
    keys: list[str]
    epochs: list[int] | None = None
    text: Float[Tensor, "b l d"] | None = None
    prompts: list[str] = field(default_factory=list)
    context: Float[Tensor, "b k *grid"] | None = None
    level: Int[Tensor, " b"] | None = None
    given: Bool[Tensor, "b t"] | None = None
    proposals: Float[Tensor, "b c t *space"] | None = None
    proposed: Bool[Tensor, "b t"] | None = None
    step: int | None = None

    @property
    def batch_size(self) -> int:
        return self.latents.shape[0]

    @property
    def num_frames(self) -> int:
        return self.latents.shape[2]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Clip":
        """The same clip with every tensor on ``device``."""
        tensors = {f.name: v for f in fields(self) if isinstance(v := getattr(self, f.name), Tensor)}
        moved: dict[str, Any] = {name: v.to(device, non_blocking=non_blocking) for name, v in tensors.items()}
        return replace(self, **moved)

    def frames(self, start: int, stop: int) -> "Clip":
        """Frames ``start`` to ``stop - 1`` of every sample."""

        def cut(value: Tensor | None, axis: int) -> Tensor | None:
            return None if value is None else value.narrow(axis, start, stop - start)

        latents = self.latents.narrow(2, start, stop - start)
        given, proposed, proposals = cut(self.given, 1), cut(self.proposed, 1), cut(self.proposals, 2)
        return replace(self, latents=latents, given=given, proposed=proposed, proposals=proposals)

    def select(self, index: list[int]) -> "Clip":
        """The samples ``index`` of the batch, as a batch."""

        def pick(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value[index]
            return [value[i] for i in index] if isinstance(value, list) and value else value

        return replace(self, **{f.name: pick(getattr(self, f.name)) for f in fields(self)})
