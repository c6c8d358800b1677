"""Cuts one shot into clips, frame by frame; only the frames that later clips need stay in memory."""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple, final

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from interp_refiner.data.wan_synth import windows

Frame = UInt8[np.ndarray, "h w 3"]
Pixels = UInt8[Tensor, "c t h w"]
Size = tuple[int, int, int]


class Piece(NamedTuple):
    """A clip of a video.

    Attributes:
        split: ``train`` or ``val``.
        corner: (frame, row, column) of its first pixel in the scaled video.
        pixels: the clip's pixels.
    """

    split: str
    corner: Size
    pixels: Pixels

    @property
    def size(self) -> Size:
        """(frames, height, width)."""
        _, frames, height, width = self.pixels.shape
        return frames, height, width


@final
class Shot:
    """Cuts one shot into clips. It holds at most the frames of the longest clip plus one stride.

    A clip begins every ``stride`` frames; the last clip ends with the shot. A shot that is too short for the longest
    clip size is cut into clips of the longest size that fits.

    Args:
        split: ``train`` or ``val``.
        first: number of the shot's first frame in the video.
        sizes: (clip size, stride) pairs, all of one height and width.
    """

    def __init__(self, split: str, first: int, sizes: Sequence[tuple[Size, Size]]):
        self.split, self.first = split, first
        self.sizes = sorted(sizes, reverse=True)
        self.frames: deque[Frame] = deque()
        self.dropped = self.next = 0  # number of dropped frames; first frame of the next clip

    @property
    def count(self) -> int:
        return self.dropped + len(self.frames)

    def add(self, frame: Frame) -> Iterator[Piece]:
        """Takes one more frame; yields the clips that it completes."""
        (length, *_), (step, *_) = self.sizes[0]
        self.frames.append(frame)
        if self.count == self.next + length:
            yield from self._clips(self.next, *self.sizes[0])
            self.next += step
        while self.dropped < min(self.next, self.count - length):
            self.frames.popleft()
            self.dropped += 1

    def end(self) -> Iterator[Piece]:
        """The clips that end with the shot, unless they were already yielded."""
        fitting = next((pair for pair in self.sizes if pair[0][0] <= self.count), None)
        if fitting is None:
            return
        (length, *_), (step, *_) = fitting
        last = self.count - length
        before = self.next - step  # where the last clip began; if there was none, all frames are held
        starts = {last} - {before} if self.next else {*range(0, last + 1, step), last}
        for start in sorted(starts):
            yield from self._clips(start, *fitting)

    def _clips(self, start: int, size: Size, stride: Size) -> Iterator[Piece]:
        held = [self.frames[start - self.dropped + number] for number in range(size[0])]
        pixels = torch.from_numpy(np.stack(held)).permute(3, 0, 1, 2)
        for (_, row, column), clip in windows(pixels, size, stride):
            yield Piece(self.split, (self.first + start, row, column), clip)
