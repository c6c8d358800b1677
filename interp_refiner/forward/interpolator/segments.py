"""The gaps between keyframes, for interpolators that compute once per gap instead of once per missing frame."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp_refiner.core import Neighbours, take_frames


@dataclass(frozen=True)
class Segments:
    """Pairs of neighbouring keyframes with missing frames between them, in a table of fixed size.

    The number of such pairs differs between samples, and on a GPU reading it would make the host wait for the device.
    But a segment spans at least three frames and shares only its ends with others, so T frames have at most
    ``(T - 1) // 2`` segments. On a GPU the table has this size, which follows from the shape alone. On the CPU it is as
    long as the sample with the most segments needs. Rows are filled from the front; unused ones repeat a keyframe.

    Attributes:
        left, right: the keyframes of every segment.
        of_frame: the segment of every frame; an arbitrary row of the table for frames outside segments.
        inside: frames inside a segment: missing, with a keyframe on either side.
        alpha: position of every frame inside its segment, 0 outside.
    """

    left: Int[Tensor, "b s"]
    right: Int[Tensor, "b s"]
    of_frame: Int[Tensor, "b t"]
    inside: Bool[Tensor, "b t"]
    alpha: Float[Tensor, "b t"]

    def keyframes(
        self, values: Float[Tensor, "b c t *space"]
    ) -> tuple[Float[Tensor, "n c *space"], Float[Tensor, "n c *space"]]:
        """The left and the right keyframe of all ``n = b s`` segments."""
        left, right = take_frames(values, self.left), take_frames(values, self.right)
        return left.transpose(1, 2).flatten(0, 1), right.transpose(1, 2).flatten(0, 1)

    @property
    def row_of_frame(self) -> Int[Tensor, " f"]:
        """For all ``f = b t`` frames, the row of their segment in the result of :meth:`keyframes`."""
        first = torch.arange(self.left.shape[0], device=self.left.device) * self.left.shape[1]
        return (first.unsqueeze(1) + self.of_frame).flatten()


def segments(near: Neighbours) -> Segments:
    """Numbers the segments of every sample from left to right."""
    inside = ~near.known & ~near.one_sided
    begins = inside & near.known.roll(1, 1)
    size = max(1, most(begins, (near.known.shape[1] - 1) // 2))
    of_frame = (begins.cumsum(1) - 1).clamp(0, size - 1)
    row = torch.arange(size, device=inside.device).view(1, -1, 1)
    member = inside.unsqueeze(1) & (of_frame.unsqueeze(1) == row)
    some_keyframe, used = near.left[:, :1], member.any(2)
    return Segments(
        left=torch.where(used, (member * near.left.unsqueeze(1)).amax(2), some_keyframe),
        right=torch.where(used, (member * near.right.unsqueeze(1)).amax(2), some_keyframe),
        of_frame=of_frame,
        inside=inside,
        alpha=torch.where(inside, near.alpha, 0.0),
    )


def most(marked: Bool[Tensor, "b t"], bound: int) -> int:
    """The largest number of marked frames in a sample; ``bound`` on a GPU, to avoid waiting for the device."""
    return int(marked.numpy().sum(1).max()) if marked.device.type == "cpu" else bound


def rows_inside(near: Neighbours) -> Int[Tensor, " f"]:
    """The rows, of all ``b t`` frames, that are inside gaps; on a GPU all rows, to avoid waiting for the device."""
    inside = (~near.known & ~near.one_sided).flatten()
    if inside.device.type == "cpu":
        return torch.from_numpy(inside.numpy().nonzero()[0])
    return torch.arange(inside.numel(), device=inside.device)


@dataclass(frozen=True)
class Keyframes:
    """The keyframes of every sample in a table, from left to right; unused rows repeat the last one.

    Attributes:
        frame: the frame of every keyframe.
        before: the row of the last keyframe at or before every frame; 0 where there is none.
        count: number of keyframes.
    """

    frame: Int[Tensor, "b k"]
    before: Int[Tensor, "b t"]
    count: Int[Tensor, "b 1"]

    def pair(self, offset: int) -> Int[Tensor, " f"]:
        """The index of the pair of keyframes around every frame, or of the pair ``offset`` further right.

        Indices count all ``b (k - 1)`` pairs of neighbouring keyframes. Beyond the outermost pair of a sample, that
        pair counts.
        """
        pairs = self.frame.shape[1] - 1
        first = torch.arange(self.frame.shape[0], device=self.frame.device).unsqueeze(1) * pairs
        return (first + (self.before + offset).clamp(0, pairs - 1)).flatten()


def table_of_keyframes(known: Bool[Tensor, "b t"]) -> Keyframes:
    """Numbers the keyframes of every sample; on a GPU with a row per frame, to avoid waiting for the device."""
    num_frames = known.shape[1]
    rows = most(known, num_frames)
    rank = known.cumsum(1) - 1
    row = torch.arange(max(rows, 2), device=known.device)
    frame = torch.arange(num_frames, device=known.device)
    position = torch.where(known.unsqueeze(1) & (rank.unsqueeze(1) == row.view(1, -1, 1)), frame, 0).amax(2)
    last = torch.where(known, frame, 0).amax(1, keepdim=True)
    count = known.sum(1, keepdim=True)
    return Keyframes(torch.where(row < count, position, last), rank.clamp(min=0), count)
