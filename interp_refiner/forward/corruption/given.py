"""Given keyframes: which frames are constraints, and their values (imputation)."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from interp_refiner.core import BadValue, Clip, Draws, load_stored, per_frame


class Given(ABC):
    """Chooses given keyframes and their values. A clip's own given keyframes stay given."""

    @abstractmethod
    def __call__(self, clip: Clip, draws: Draws) -> Clip:
        """The clip with ``given`` set and the given values in its latents; ``clip`` is not changed."""

    def check(self, latent_shape: Sequence[int]) -> None:  # noqa: B027 - not all depend on the clips' shape
        """Refuses, with :class:`BadValue`, clips ``[c, t, *space]`` that cannot have these keyframes."""


class NoGiven(Given):
    """No constraints except the clip's own."""

    def __call__(self, clip: Clip, draws: Draws) -> Clip:
        return clip


class GivenFrames(Given):
    """The same frames of every clip, with their true values.

    Args:
        frames: indices, 0 for the first frame.

    Raises:
        BadValue: an empty list, a negative index or a repeated one.
    """

    def __init__(self, frames: list[int]):
        if not frames or min(frames) < 0 or len(set(frames)) < len(frames):
            raise BadValue("frames", frames, "distinct frame indices >= 0")
        self.frames = frames

    def check(self, latent_shape: Sequence[int]) -> None:
        num_frames = latent_shape[1]
        if max(self.frames) >= num_frames:
            raise BadValue("frames", self.frames, f"indices from 0 to {num_frames - 1} for {num_frames} frames")

    def __call__(self, clip: Clip, draws: Draws) -> Clip:
        return with_given(clip, frame_mask(self.frames, clip))


class GivenAtRandom(Given):
    """Frames drawn separately for every clip and epoch, with their true values.

    Args:
        least, most: how many frames are given; the number is uniform between them.

    Raises:
        BadValue: not ``0 <= least <= most``.
    """

    def __init__(self, least: int = 1, most: int = 4):
        if least < 0:
            raise BadValue("least", least, "a number of frames >= 0")
        if most < least:
            raise BadValue("most", most, f"a number of frames >= least={least}")
        self.least, self.most = least, most

    def check(self, latent_shape: Sequence[int]) -> None:
        if self.most > latent_shape[1]:
            raise BadValue("most", self.most, f"at most the {latent_shape[1]} frames of a clip")

    def __call__(self, clip: Clip, draws: Draws) -> Clip:
        u = draws.uniform("given", 1 + clip.num_frames, clip.latents.device)
        count = self.least + (u[:, :1] * (self.most - self.least + 1)).long()
        return with_given(clip, u[:, 1:].argsort(1).argsort(1) < count)


class GivenFile(Given):
    """The same frames of every clip, with values from a file: a storyboard.

    Args:
        path: a tensor file (``torch.save``) of ``{"frames": int [k], "latents": [c, k, *space]}``, the latents
            normalised like the data set's.

    Raises:
        BadValue: no such file, or a file with other content.
    """

    def __init__(self, path: str):
        self.path = path
        content = load_stored("path", path, "a tensor file of frames and latents")
        names = set(content) if isinstance(content, dict) else set()
        if names != {"frames", "latents"} or not isinstance(content["latents"], Tensor):
            raise BadValue("path", path, "a file with 'frames' [k] and 'latents' [c, k, *space]")
        frames = torch.as_tensor(content["frames"])
        if frames.ndim != 1 or frames.is_floating_point():
            raise BadValue("path", path, "a file with 'frames' [k], the indices of frames")
        self.frames, self.latents = GivenFrames(frames.tolist()), content["latents"]
        if self.latents.ndim < 2 or self.latents.shape[1] != len(self.frames.frames):
            found = f"{list(self.latents.shape)} for {len(self.frames.frames)} frames"
            raise BadValue("path", path, f"latents [c, k, *space] of k frames, it holds {found}")

    def check(self, latent_shape: Sequence[int]) -> None:
        self.frames.check(latent_shape)
        wanted = [latent_shape[0], len(self.frames.frames), *latent_shape[2:]]
        if list(self.latents.shape) != wanted:
            raise BadValue("path", self.path, f"latents {wanted} like the data, it holds {list(self.latents.shape)}")

    def __call__(self, clip: Clip, draws: Draws) -> Clip:
        mask, values = frame_mask(self.frames.frames, clip), torch.zeros(clip.latents.shape[1:])
        values[:, self.frames.frames] = self.latents.float()
        values = values.to(clip.latents, non_blocking=True)
        return with_given(replace(clip, latents=torch.where(per_frame(mask, clip.latents), values, clip.latents)), mask)


def frame_mask(frames: Sequence[int], clip: Clip) -> Bool[Tensor, "b t"]:
    """True at ``frames`` of every sample."""
    mask = torch.zeros(clip.num_frames, dtype=torch.bool)
    mask[list(frames)] = True
    return mask.to(clip.latents.device, non_blocking=True).expand(clip.batch_size, -1)


def with_given(clip: Clip, given: Bool[Tensor, "b t"]) -> Clip:
    """The clip with ``given`` keyframes in addition to its own."""
    return replace(clip, given=given if clip.given is None else given | clip.given)
